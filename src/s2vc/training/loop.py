"""A run: a recipe's stages in order, resumable, budgeted in minutes, logged with time stamps."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from s2vc.errors import InputError, ModelError
from s2vc.nn.tiny.config import WEIGHTLESS, TinyConfig
from s2vc.nn.tiny.model import TinyModel
from s2vc.training.board import Board, strip
from s2vc.training.checkpoint import (
    CHECKPOINT,
    Checkpoint,
    Progress,
    check_geometry,
    geometry,
    load_exactly,
    read_checkpoint,
    read_geometry,
    read_weights,
)
from s2vc.training.evaluate import Evaluation
from s2vc.training.footage import find_sources, load_library, passes, prepare
from s2vc.training.prior import frozen_copy
from s2vc.training.processes import Processes, allow_many_files
from s2vc.training.realism import Discriminator
from s2vc.training.recipe import CODED_KINDS, PARTS, Recipe, Stage, load_recipe
from s2vc.training.semantic import FeatureCache, Projection
from s2vc.training.stage import Context, StageRun
from s2vc.training.stages import stages_of
from s2vc.training.stopping import stop_asked

if TYPE_CHECKING:
    from s2vc.training.base_networks import BaseNetworks

CHECKPOINT_SECONDS = 300
LOG_SECONDS = 20
LOG = "log.jsonl"

Watch = Callable[[Progress, dict[str, float]], None]


def measure_convolution(dtype: torch.dtype, device: torch.device, seconds: float = 2.0) -> float:
    """GFLOP/s of a 3×3 convolution of 128 channels forward and backward at the size training has it."""
    layout = torch.channels_last
    x = torch.randn(48, 128, 16, 16, device=device).to(dtype).contiguous(memory_format=layout)
    w = (torch.randn(128, 128, 3, 3, device=device) * 0.03).to(dtype).contiguous(memory_format=layout)
    x.requires_grad_()
    w.requires_grad_()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        F.conv2d(x, w, padding=1).sum().backward()
        float(w.grad.flatten()[0])  # type: ignore[union-attr]  # waits where the device runs on its own
        count += 1
    return count * 3 * 2 * 48 * 256 * 128 * 128 * 9 / (time.perf_counter() - start) / 1e9


class Log:
    """One JSON object a line, in the run's folder and on standard output; the first process writes."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.path, self.silent = folder / LOG, processes.rank > 0

    def __call__(self, **fields: object) -> None:
        if self.silent:
            return
        line = json.dumps({"time": datetime.now().isoformat(timespec="seconds"), **fields})
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        print(line, flush=True)

    def warn(self, message: str) -> None:
        """Any process's warning."""
        print(f"s2vc: warning: {' '.join(message.split())}", file=sys.stderr, flush=True)


def new_model(recipe: Recipe, out: Path) -> TinyModel | BaseNetworks:
    """A recipe's networks with new weights. ``base`` has the widths of its run, or of what that starts from.

    ``base`` is not channels-last: torch 2.13 crashes on a CPU in the gradient through frozen layers.
    """
    if recipe.preset == "tiny":
        model = TinyModel(TinyConfig(**recipe.model))
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
    from s2vc.models.published_loading import config_from
    from s2vc.training.base_networks import BaseNetworks

    assert recipe.start is not None
    place = out if (out / CHECKPOINT).exists() else recipe.start
    preset, config = read_geometry(place)
    if preset != "base":
        raise ModelError(f"{place} is of preset {preset}, not base: name one of base")
    return BaseNetworks(config_from(config))


class Trainer:
    """One run in one folder: ``log.jsonl``, ``checkpoint.safetensors`` and, if wanted, ``tensorboard/``."""

    def __init__(self, recipe: Recipe, out: Path, root: Path, cache: Path, processes: Processes) -> None:
        self.stages = stages_of(recipe)
        self.recipe, self.out, self.root, self.processes = recipe, out, root, processes
        out.mkdir(parents=True, exist_ok=True)
        self.log = Log(out, processes)
        torch.manual_seed(recipe.seed)
        self.model = new_model(recipe, out).to(processes.device)
        self.ema = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.progress = Progress()
        self._resumed: Checkpoint | None = None
        sources = find_sources(root, recipe.data)
        # Where footage is coded, the encoder searches for itself.
        moving = any(stage.kind not in CODED_KINDS for stage in recipe.stages)
        prepare(sources, cache, passes(recipe.data, moving), warn=self.log.warn, share=processes.share)
        processes.wait()
        library = load_library(root, recipe.data, cache, sources, self.log.warn)
        self.progress.footage = library.fingerprint()
        self.context = Context(recipe, self.model, processes, library, self.progress, cache)
        if recipe.prior is not None:
            from s2vc.training.base_realism import StableDiffusion

            self.context.stable = StableDiffusion.open(recipe.prior, processes.device)
        if any(stage.losses.semantic for stage in recipe.stages):
            assert recipe.teacher is not None
            self.context.features = FeatureCache(cache, recipe.teacher)
            self.context.features.prepare(library, processes.device, processes.share)
            processes.wait()
            self.context.features.open(library)
        if recipe.compile:
            self.context.code = torch.compile(self.context.code)
        self.board = Board(out / "tensorboard") if recipe.tensorboard and not processes.rank else None
        self.evaluation = (
            Evaluation(recipe.evaluate, root, "motion" not in recipe.drop) if recipe.evaluate else None
        )

    # -- where it begins --------------------------------------------------------------------------------

    def resume(self) -> bool:
        """Go on from the run's own checkpoint, if there is one."""
        path = self.out / CHECKPOINT
        if not path.exists():
            return False
        found = read_checkpoint(path)
        check_geometry(path, found, self.recipe.preset, geometry(self.model.config))
        if not found.recipe:
            raise ModelError(f"{path} was written by an older s2vc: begin a new run from it with --start")
        self._check_place(path, found)
        load_exactly(self.model, found.part("model."), path)
        self._take(found)
        if found.progress.footage != self.progress.footage:
            self.log.warn(f"the footage is not what {path} was trained on: the run goes on, but not exactly")
            found.progress.footage = self.progress.footage
        self.progress = self.context.progress = found.progress
        self._resumed = found
        return True

    def start_from(self, name: str | Path) -> None:
        """Begin a new run from another run's EMA weights, or from a model."""
        found = read_weights(name)
        widths = {k: v for k, v in geometry(self.model.config).items() if k not in WEIGHTLESS}
        check_geometry(name, found, self.recipe.preset, widths)
        parts = tuple(prefix for part in self.recipe.restart for prefix in PARTS["tiny"][part])
        new = {k: v.clone() for k, v in self.model.state_dict().items() if k.startswith(parts)}
        theirs = found.part("ema.")
        if not found.whole:
            theirs = self.model.state_dict() | theirs
        load_exactly(self.model, theirs, name)
        self._take(found)
        self.context.auxiliary.pop("critic", None)  # it knows other pictures
        self.model.load_state_dict(new, strict=False)
        for key, value in new.items():
            self.ema[key].copy_(value)
        self.progress.history = found.history()
        if found.progress.stage_steps:
            self.progress.history[-1]["run"] = str(name)

    def _take(self, found: Checkpoint) -> None:
        for key, value in found.part("ema.").items():
            self.ema[key].copy_(value)
        device = self.processes.device
        names = {key.split(".")[0] for key in found.part("aux.")}
        for name in sorted(names):
            weights = found.part(f"aux.{name}.")
            if name == "projection":
                module: torch.nn.Module = Projection(self.model.token_width, len(weights["conv2.bias"])).to(
                    device
                )
                load_exactly(module, weights, "the checkpoint's projection")
            elif name == "discriminator":
                module = Discriminator().to(device)
                load_exactly(module, weights, "the checkpoint's discriminator")
            elif name == "critic":
                if self.context.stable is None:
                    continue  # no stage here has one
                from s2vc.training.base_realism import Critic

                module = Critic(self.context.stable.empty_unet()).to(device)
                load_exactly(module, weights, "the checkpoint's critic")
            else:
                assert isinstance(self.model, TinyModel)
                module = frozen_copy(self.model.config, weights, device).requires_grad_(name == "fake")
            self.context.auxiliary[name] = module

    def _check_place(self, path: Path, found: Checkpoint) -> None:
        done = found.progress.stage
        theirs = [stage["name"] for stage in found.recipe["stages"][: done + 1]]
        ours = [stage.name for stage in self.recipe.stages[: done + 1]]
        if theirs != ours:
            raise InputError(
                f"{path} stands in stage {theirs[-1]}, which this recipe does not reach by the same stages: "
                "give it the recipe it was made by, or begin a new run with --start"
            )

    def drop(self) -> None:
        """What the recipe does without says nothing from the start: its last layers are zero and stay so."""
        silent = {"csg": ("generator.attention.out.",), "tcg": ("generator.guidance.",)}
        for part in self.recipe.drop:
            for name, value in self.model.state_dict().items():
                if name.startswith(silent.get(part, ())) and ".out." in name:
                    value.zero_()
                    self.ema[name].zero_()

    # -- checkpoints ------------------------------------------------------------------------------------

    def save(self, run: StageRun | None) -> None:
        """Write the checkpoint; all processes take part."""
        tensors = {} if run is None else run.tensors()
        if self.processes.rank:
            return
        tensors |= {f"model.{k}": v.cpu() for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v.cpu() for k, v in self.ema.items()}
        for name, module in self.context.auxiliary.items():
            tensors |= {f"aux.{name}.{k}": v.detach().cpu() for k, v in module.state_dict().items()}
        recipe = self.recipe.model_dump(mode="json")
        checkpoint = Checkpoint(
            tensors, self.progress, self.recipe.preset, geometry(self.model.config), recipe
        )
        checkpoint.write(self.out / CHECKPOINT)

    # -- stages -----------------------------------------------------------------------------------------

    def choose_precision(self) -> None:
        """Take the faster of float32 and bfloat16 where the recipe leaves it open and nothing is resumed."""
        wanted, device = self.recipe.precision, self.processes.device
        speeds: dict[str, int] = {}
        if wanted != "auto":
            self.progress.autocast = wanted == "bfloat16"
        elif self._resumed is None:
            speeds = {
                str(dtype).removeprefix("torch."): round(measure_convolution(dtype, device))
                for dtype in (torch.float32, torch.bfloat16)
            }
            self.progress.autocast = not self.processes.any(speeds["bfloat16"] <= speeds["float32"])
        library = self.context.library
        self.log(
            event="start",
            autocast=self.progress.autocast,
            gflops=speeds,
            threads=torch.get_num_threads(),
            processes=self.processes.count,
            device=str(device),
            clips=len(library.clips),
            images=len(library.images),
            skipped=library.skipped,
        )

    def run(self, budget_minutes: float | None = None, watch: Watch | None = None) -> None:
        """All stages from where the run stands, until they are done or the budget is spent.

        The first SIGINT or SIGTERM during a stage ends it behind its step, with a checkpoint; then
        KeyboardInterrupt is raised.
        """
        self.choose_precision()
        deadline = math.inf if budget_minutes is None else time.monotonic() + budget_minutes * 60
        while self.progress.stage < len(self.recipe.stages):
            stage = self.recipe.stages[self.progress.stage]
            make = self.stages[self.progress.stage]
            if not self.progress.stage_steps:
                make.prepare(stage, self.model, self.ema)
            run = make(self.context, stage, self.progress.stage)
            if self._resumed is not None:
                run.restore(self._resumed)
                self._resumed = None
            self.log(event="stage", stage=stage.name, kind=stage.kind, **self.progress.figures())
            with stop_asked() as asked:
                done = self._run_stage(run, lambda: asked.is_set() or time.monotonic() > deadline, watch)
            if done:
                self.save(run)
                run.finish(self.ema)
                self._finish_stage(stage, run)
            else:
                self.save(run)
            if asked.is_set():
                self.log(event="stopped", **self.progress.figures())
                raise KeyboardInterrupt
            if not done:
                self.log(event="budget spent", **self.progress.figures())
                return
        self.log(event="finished", **self.progress.figures())

    def _finish_stage(self, stage: Stage, run: StageRun) -> None:
        progress = self.progress
        if stage.kind == "prior":
            assert isinstance(self.model, TinyModel)
            part = "generator."
            weights = {k.removeprefix(part): v for k, v in self.ema.items() if k.startswith(part)}
            self.context.auxiliary["prior"] = frozen_copy(self.model.config, weights, self.processes.device)
            self.context.auxiliary.pop("fake", None)
        self.context.auxiliary.pop("critic", None)
        progress.history.append(progress.entry(stage))
        progress.stage += 1
        progress.stage_steps, progress.stage_seconds, progress.coded, progress.guard = 0, 0.0, "", {}
        self.save(None)
        self._evaluate(stage, run)

    def _run_stage(self, run: StageRun, ends: Callable[[], bool], watch: Watch | None) -> bool:
        """Train a stage to its end (True), or until the run ends in one of the processes (False)."""
        stage, progress, processes = run.stage, self.progress, self.processes
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        logged = saved = evaluated = progress.seconds
        pixels = progress.pixels
        last = time.monotonic()
        while True:
            if stage.steps is not None:
                share = progress.stage_steps / stage.steps
            else:
                share = progress.stage_seconds / ((stage.minutes or 0) * 60)
            if share >= 1:
                return True
            if processes.any(ends()):
                return False
            figures = run.step(share)
            if figures.pop("realism_off", 0):
                self.log(event="realism off", stage=stage.name, reason=f"PSNR fell by {stage.psnr_floor} dB")
            if "gradient" in figures:  # else critics alone have learnt
                self._average_weights()
                progress.pixels += stage.pixels
            now = time.monotonic()
            seconds = processes.mean(now - last)
            last = now
            progress.stage_seconds += seconds
            progress.seconds += seconds
            progress.stage_steps += 1
            progress.steps += 1
            for key, value in figures.items():
                sums[key] = sums.get(key, 0.0) + value
                counts[key] = counts.get(key, 0) + 1
            if watch is not None:
                watch(replace(progress), figures)
            if progress.seconds - logged > LOG_SECONDS:
                means = {key: round(value / counts[key], 5) for key, value in sums.items()}
                rate = (progress.pixels - pixels) / (progress.seconds - logged) / 1e6
                self._report(stage, means, rate)
                sums, counts, logged, pixels = {}, {}, progress.seconds, progress.pixels
            if progress.seconds - saved > CHECKPOINT_SECONDS:
                self.save(run)
                self._show(run)
                saved = progress.seconds
            every = self.recipe.evaluate.every_minutes * 60 if self.recipe.evaluate else math.inf
            if progress.seconds - evaluated > every:
                self._evaluate(stage, run)
                evaluated, last = progress.seconds, time.monotonic()

    def _average_weights(self) -> None:
        steps = self.progress.steps
        decay = min(self.recipe.ema, (1 + steps) / (10 + steps))
        values = self.model.state_dict()
        torch._foreach_lerp_([self.ema[key] for key in values], list(values.values()), 1 - decay)

    # -- what is said of it -----------------------------------------------------------------------------

    def _report(self, stage: Stage, means: dict[str, float], rate: float) -> None:
        self.log(stage=stage.name, **self.progress.figures(), mpixels_per_second=round(rate, 3), **means)
        if self.board is not None:
            self.board.scalars("train", means, self.progress.steps)

    def _show(self, run: StageRun) -> None:
        if self.board is not None and run.shown is not None:
            shown = run.shown
            self.board.picture(
                "strip", strip(shown.pictures[0], shown.reference[0], shown.x0[0]), self.progress.steps
            )

    def _evaluate(self, stage: Stage, run: StageRun) -> None:
        if self.evaluation is None or stage.kind == "prior":
            return
        if not self.processes.rank:
            assert isinstance(self.model, TinyModel)
            for found in self.evaluation(self.ema, self.model.config, self.out):
                self.log(event="evaluation", stage=stage.name, **self.progress.figures(), **found)
                if self.board is not None:
                    place = f"{found['clip']}/q{found['quality']}"
                    values = {k: v for k, v in found.items() if isinstance(v, float)}
                    self.board.scalars(f"evaluation/{place}", values, self.progress.steps)
            self._show(run)
        self.processes.wait()


def train(
    recipe_path: Path,
    out: Path,
    *,
    data: Path,
    cache: Path,
    resume: bool = False,
    start: str | None = None,
    budget_minutes: float | None = None,
    watch: Watch | None = None,
) -> None:
    """Run a recipe: decode its footage and search its motion into ``cache`` (once), then stage by stage.

    ``start`` begins from another run's weights or a model, in place of what the recipe says; ``resume`` goes
    on with this run's own, if it has one. ``watch`` is called after every step with progress and figures.
    Raises InputError, ModelError; S2vcError where the loss is not finite, and the last checkpoint stands.
    """
    torch.set_flush_denormal(True)
    allow_many_files()
    recipe = load_recipe(recipe_path, start)
    if not resume and (out / CHECKPOINT).exists():
        raise InputError(f"{out} holds a run already: go on with it by --resume, or name another --out")
    processes = Processes()
    try:
        trainer = Trainer(recipe, out, data, cache, processes)
        if resume and trainer.resume():
            trainer.log(event="resumed", **trainer.progress.figures())
        elif recipe.start:
            trainer.start_from(recipe.start)
            trainer.log(event="started from", weights=recipe.start)
        trainer.drop()
        trainer.run(budget_minutes, watch)
    finally:
        processes.close()
