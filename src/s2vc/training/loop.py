"""The training loop: stages in order, resumable, budgeted in minutes, logged with time stamps."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from s2vc.errors import InputError, ModelError, S2vcError
from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.model import TinyModel
from s2vc.perceptual.dists import DISTS
from s2vc.perceptual.lpips import LPIPS
from s2vc.training.checkpoint import CHECKPOINT, read_checkpoint, read_weights
from s2vc.training.footage import load_clips, prepare
from s2vc.training.optim import Muon, split_parameters
from s2vc.training.recipe import Recipe, Stage, load_recipe
from s2vc.training.sampler import Sampler
from s2vc.training.unroll import State, initial_state, unroll

# What Muon does not suit: the transform (near its start by design) and what is read as a number, not a map.
NOT_FOR_MUON = ("transform", "log_step", "entropy.")
CHECKPOINT_SECONDS = 300
LOG_SECONDS = 20


def measure_convolution(dtype: torch.dtype, seconds: float = 2.0) -> float:
    """GFLOP/s of a 3×3 convolution of 128 channels forward and backward at the size training has it."""
    x = torch.randn(48, 128, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)
    w = (torch.randn(128, 128, 3, 3) * 0.03).to(dtype).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    w.requires_grad_()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        F.conv2d(x, w, padding=1).sum().backward()
        count += 1
    return count * 3 * 2 * 48 * 256 * 128 * 128 * 9 / (time.perf_counter() - start) / 1e9


class Trainer:
    """One run in one folder: ``log.jsonl`` and ``checkpoint.safetensors``.

    Started by torchrun, each process takes an equal part of every batch and gradients are averaged. On a CPU
    that is also the fast way to use two cores: oneDNN's weight gradients spin at a barrier between threads,
    which costs fifty times their work as soon as anything else runs on the machine.
    """

    def __init__(self, recipe: Recipe, out: Path, data: Path, cache: Path) -> None:
        self.recipe, self.out, self.data, self.cache = recipe, out, data, cache
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
            dist.init_process_group("gloo")
            dist.barrier()  # every process has prepared its share of the footage
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.model = TinyModel(TinyConfig(**recipe.model)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.progress = {"stage_index": 0, "stage_seconds": 0.0, "seconds": 0.0, "pixels": 0, "steps": 0}
        self.optimisers: list[torch.optim.Optimizer] = []
        speeds = {dtype: measure_convolution(dtype) for dtype in (torch.float32, torch.bfloat16)}
        self.autocast = speeds[torch.bfloat16] > speeds[torch.float32]
        self.log(
            event="start",
            gflops_float32=round(speeds[torch.float32]),
            gflops_bfloat16=round(speeds[torch.bfloat16]),
            autocast=self.autocast,
            threads=torch.get_num_threads(),
        )

    def log(self, **fields: object) -> None:
        if self.rank:
            return
        entry = {"time": datetime.now().isoformat(timespec="seconds"), **fields}
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        print(json.dumps(entry), flush=True)

    # -- checkpoints ------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint beside its name and rename it, so that a kill never leaves half of one."""
        if self.rank:
            return
        tensors = {f"model.{k}": v.contiguous() for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v.contiguous() for k, v in self.ema.items()}
        for i, optimiser in enumerate(self.optimisers):
            for index, state in optimiser.state_dict()["state"].items():
                tensors |= {
                    f"optim{i}.{index}.{k}": v.contiguous() if isinstance(v, Tensor) else torch.tensor(v)
                    for k, v in state.items()
                }
        metadata = {
            "progress": json.dumps(self.progress),
            "config": json.dumps(asdict(self.model.config)),
        }
        temporary = self.out / "checkpoint.tmp"
        save_file(tensors, temporary, metadata)
        os.replace(temporary, self.out / CHECKPOINT)

    def resume(self) -> bool:
        path = self.out / CHECKPOINT
        if not path.exists():
            return False
        tensors, description = read_checkpoint(path)
        self._check_config(path, description)
        self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        self.ema = {k[4:]: v for k, v in tensors.items() if k.startswith("ema.")}
        self.progress = json.loads(description["progress"])
        self._moments = {k: v for k, v in tensors.items() if k.startswith("optim")}
        return True

    def start_from(self, checkpoint: Path) -> None:
        """Begin a new run from another run's EMA weights, or from an exported model."""
        weights, description = read_weights(checkpoint)
        self._check_config(checkpoint, description)
        self.model.load_state_dict(weights)
        self.ema = {k: v.clone() for k, v in weights.items()}

    def _check_config(self, path: Path, description: dict[str, str]) -> None:
        theirs, ours = json.loads(description["config"]), asdict(self.model.config)
        other = [name for name, width in ours.items() if theirs.get(name) != width]
        if other:
            text = ", ".join(f"{name} {theirs.get(name)} instead of {ours[name]}" for name in other)
            raise ModelError(
                f"{path} is of another geometry ({text}): name its widths under the recipe's model"
            )

    def _restore_moments(self) -> None:
        moments = self.__dict__.pop("_moments", None)
        if not moments:
            return
        for i, optimiser in enumerate(self.optimisers):
            description = optimiser.state_dict()
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in moments.items():
                name, index, field = key.split(".")
                if name == f"optim{i}":
                    state.setdefault(int(index), {})[field] = value
            description["state"] = state
            optimiser.load_state_dict(description)

    # -- stages -----------------------------------------------------------------------------------------

    def run(self, budget_minutes: float | None = None) -> None:
        deadline = time.time() + budget_minutes * 60 if budget_minutes else math.inf
        while self.progress["stage_index"] < len(self.recipe.stages):
            finished = self._run_stage(self.recipe.stages[int(self.progress["stage_index"])], deadline)
            self.save()
            if not finished:
                self.log(event="budget spent", **self.progress)
                return
            self.progress["stage_index"] += 1
            self.progress["stage_seconds"] = 0.0
            self.save()
        self.log(event="finished", **self.progress)

    def _run_stage(self, stage: Stage, deadline: float) -> bool:
        clips = load_clips(self.cache, stage.crop)
        if not clips:
            raise InputError(
                f"no cached clips under {self.cache}: run 's2vc train' with its data folder first"
            )
        images = sorted((self.data / self.recipe.images).glob("*.jpg")) if self.recipe.images else []
        if stage.batch % self.world:
            raise InputError(
                f"stage {stage.name}: batch {stage.batch} does not divide by {self.world} processes"
            )
        batch = stage.batch // self.world
        sampler = Sampler(
            clips,
            images,
            batch=batch,
            frames=stage.frames,
            crop=stage.crop,
            longest=stage.longest,
            still_share=stage.still_share,
            reset_period=self.model.config.reset_period,
            seed=(self.recipe.seed + int(self.progress["steps"])) * self.world + self.rank,
        )
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(any(name.startswith(prefix) for prefix in stage.trainable))
        matrices, rest = split_parameters(self.model, NOT_FOR_MUON)
        own = [p for n, p in self.model.named_parameters() if p.requires_grad and "entropy." in n]
        slow = [p for n, p in self.model.named_parameters() if p.requires_grad and "transform" in n]
        fast = [p for n, p in self.model.named_parameters() if p.requires_grad and "log_step" in n]
        known = {id(p) for p in own + slow + fast}
        adam = torch.optim.AdamW(
            [
                {"params": [p for p in rest if id(p) not in known], "lr": stage.learning_rate},
                {"params": own, "lr": stage.learning_rate},
                {"params": slow, "lr": stage.learning_rate * 0.1},
                {"params": fast, "lr": stage.learning_rate * 5},
            ],
            betas=(0.9, 0.99),
            weight_decay=0.0,
        )
        self.optimisers = [Muon(matrices, lr=stage.muon_learning_rate), adam]
        base_rates = [[g["lr"] for g in o.param_groups] for o in self.optimisers]
        self._restore_moments()
        perceptual: list[tuple[str, float, torch.nn.Module]] = []
        if stage.lpips_vgg:
            perceptual.append(("lpips_vgg", stage.lpips_vgg, LPIPS("vgg")))
        if stage.dists:
            perceptual.append(("dists", stage.dists, DISTS()))
        self.log(event="stage", stage=stage.name, clips=len(clips), images=len(images), **self.progress)

        state: State = initial_state(self.model, batch, stage.crop, stage.crop)
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        last_log = last_save = last = time.time()
        stage_step = 0
        while self.progress["stage_seconds"] < stage.minutes * 60:
            if self._agree(time.time() > deadline):
                return False
            share = self.progress["stage_seconds"] / (stage.minutes * 60)
            cosine = stage.final_share + (1 - stage.final_share) * 0.5 * (1 + math.cos(math.pi * share))
            factor = cosine * min(1.0, (stage_step + 1) / max(1, stage.warmup_steps))
            for optimiser, rates in zip(self.optimisers, base_rates, strict=True):
                for group, rate in zip(optimiser.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
            values, state = self._step(stage, sampler, state, perceptual)
            for key, value in values.items():
                sums[key] = sums.get(key, 0.0) + value
                counts[key] = counts.get(key, 0) + 1
            now = last + self._average(time.time() - last)
            self.progress["stage_seconds"] += now - last
            self.progress["seconds"] += now - last
            self.progress["steps"] += 1
            self.progress["pixels"] += stage.batch * stage.frames * stage.crop**2
            last = now
            stage_step += 1
            if now - last_log > LOG_SECONDS:
                means = {k: round(v / counts[k], 5) for k, v in sums.items()}
                rate = stage.batch * stage.frames * stage.crop**2 * counts["loss"] / (now - last_log) / 1e6
                self.log(
                    stage=stage.name,
                    step=self.progress["steps"],
                    minutes=round(self.progress["seconds"] / 60, 2),
                    mpixels=round(self.progress["pixels"] / 1e6),
                    mpixels_per_second=round(rate, 3),
                    **means,
                )
                sums, counts, last_log = {}, {}, now
            if now - last_save > CHECKPOINT_SECONDS:
                self.save()
                last_save = now
        return True

    def _average(self, value: float) -> float:
        """The mean over processes, so that all of them see the same clock."""
        if self.world == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total) / self.world

    def _agree(self, flag: bool) -> bool:
        return self._average(float(flag)) > 0

    def _average_gradients(self) -> None:
        if self.world == 1:
            return
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        flat /= self.world
        for g, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            g.copy_(part.reshape(g.shape))

    def _step(
        self,
        stage: Stage,
        sampler: Sampler,
        state: State,
        perceptual: list[tuple[str, float, torch.nn.Module]],
    ) -> tuple[dict[str, float], State]:
        batch = sampler.next()
        pictures = torch.from_numpy(batch.pictures).float()
        intra, quality = torch.from_numpy(batch.intra), torch.from_numpy(batch.quality)
        result = unroll(
            self.model,
            pictures,
            torch.from_numpy(batch.motion),
            intra,
            torch.from_numpy(batch.reset),
            quality,
            state,
            self.autocast,
        )
        position = quality.double() / 63
        lagrangian = stage.lambda_low * (stage.lambda_high / stage.lambda_low) ** position
        weight = lagrangian.float()[:, None] * torch.where(intra, stage.intra_weight, 1.0)
        area = stage.crop**2
        rate = (weight * result.bits_proxy / area).mean()
        l1 = (result.x0 - pictures).abs().mean() / 255
        reference_l1 = (result.reference - pictures).abs().mean() / 255
        loss = rate + stage.l1 * l1 + stage.reference_l1 * reference_l1
        values: dict[str, Tensor] = {}
        if perceptual:
            # A crop seen by VGG-16 costs ten times the codec's own work: one random frame of half of the
            # sequences, and one of the networks a step.
            rows = torch.from_numpy(sampler.random.permutation(len(pictures))[: -(-len(pictures) // 2)])
            chosen = torch.from_numpy(sampler.random.integers(0, stage.frames, len(rows)))
            turn = int(self.progress["steps"]) % len(perceptual)
            shift = int(sampler.random.integers(0, 8))
            seen = (result.x0[rows, chosen] / 255)[..., shift:, shift:]
            real = (pictures[rows, chosen] / 255)[..., shift:, shift:]
            with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                name, factor, network = perceptual[turn]
                values[name] = network(seen, real).float().mean()
                loss = loss + factor * len(perceptual) * values[name]
        if not torch.isfinite(loss):
            terms = {"rate": rate, "l1": l1, "reference_l1": reference_l1, **values}
            bad = [k for k, v in terms.items() if not torch.isfinite(v)]
            raise S2vcError(
                f"loss is not finite in {', '.join(bad)}: go on from the last checkpoint with a lower rate"
            )
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._average_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        for optimiser in self.optimisers:
            optimiser.step()
        decay = min(self.recipe.ema, (1 + self.progress["steps"]) / (10 + self.progress["steps"]))
        for key, value in self.model.state_dict().items():
            self.ema[key].lerp_(value, 1 - decay)

        with torch.no_grad():
            mse = ((result.x0 - pictures) ** 2).mean((2, 3, 4))
            mse_reference = ((result.reference - pictures) ** 2).mean((2, 3, 4))
            inter = ~intra
            summary = {
                "loss": float(loss),
                "l1": float(l1),
                **({"bpp_intra": float(result.bits[intra].mean() / area)} if intra.any() else {}),
                "bpp_inter": float(result.bits[inter].mean() / area),
                "psnr": float((10 * torch.log10(65025 / mse)).mean()),
                "psnr_reference": float((10 * torch.log10(65025 / mse_reference)).mean()),
                "gradient": float(norm),
                **{k: float(v) for k, v in values.items()},
            }
        return summary, result.state


def train(
    recipe_path: Path,
    out: Path,
    *,
    data: Path,
    cache: Path,
    resume: bool = False,
    start: Path | None = None,
    budget_minutes: float | None = None,
) -> None:
    """Run a recipe: decode its footage and search its motion into ``cache`` (once), then stage by stage.

    ``start`` begins from another run's checkpoint; ``resume`` goes on with this run's own.
    """
    torch.set_flush_denormal(True)
    recipe = load_recipe(recipe_path)
    share = (int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    prepare((data / recipe.data).glob("*.mp4"), cache, share=share)
    trainer = Trainer(recipe, out, data, cache)
    if resume and trainer.resume():
        trainer.log(event="resumed", **trainer.progress)
    elif start:
        trainer.start_from(start)
        trainer.log(event="started from", checkpoint=str(start))
    trainer.run(budget_minutes)
