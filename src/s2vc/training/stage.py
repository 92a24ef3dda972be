"""One stage in progress: its batches, networks and optimisers, and what happens in a step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from s2vc.errors import InputError, S2vcError
from s2vc.nn.tiny.codec import Buffer
from s2vc.nn.tiny.model import TinyModel
from s2vc.training import losses as terms_of
from s2vc.training.checkpoint import Checkpoint, Progress, optimiser_tensors, restore_optimiser
from s2vc.training.coded import Arrays, Coder, code_passages, coded_name
from s2vc.training.footage import Clip, Library
from s2vc.training.optim import GraphedUpdate, Muon, Update, split_parameters
from s2vc.training.processes import Processes
from s2vc.training.realism import Guard
from s2vc.training.recipe import CODED_KINDS, PARTS, Recipe, Stage
from s2vc.training.semantic import FeatureCache, Projection
from s2vc.training.streams import StepStreams, on_device
from s2vc.training.unroll import State, code_frame

if TYPE_CHECKING:
    from s2vc.training.base_networks import BaseNetworks
    from s2vc.training.base_realism import StableDiffusion

# What Muon does not suit: the transform (near its start by design) and what is read as a number, not a map.
NOT_FOR_MUON = ("transform", "log_step", "entropy.")
# Shares of the learning rate. Adam's steps are as long as the rate whatever the weights' size, and the
# transform's are 0.02: at a tenth of the rate it ended in noise that no bits could mend (docs/decisions.md).
# Table indices of z are numbers around ten that every frame pays for.
RATES = {"transform": 3e-4, "log_step": 5.0, "hyper_index": 100.0}
PLAIN = ["psnr", "psnr_reference", "bpp_intra", "bpp_inter"]  # figures that no gradient comes from


@dataclass
class Context:
    """What all stages of a run share. ``auxiliary``: networks that are trained or used but not exported."""

    recipe: Recipe
    model: TinyModel | BaseNetworks
    processes: Processes
    library: Library
    progress: Progress
    cache: Path  # folder of what is made of the footage once
    features: FeatureCache | None = None
    auxiliary: dict[str, nn.Module] = field(default_factory=dict)
    stable: StableDiffusion | None = None  # of a base that learns realism
    code: Callable[..., tuple[Buffer, Tensor, list[Tensor]]] = code_frame


@dataclass
class Shown:
    """What a step showed, for strips: levels (B, T, 3, h, w)."""

    pictures: Tensor
    reference: Tensor
    x0: Tensor


class Carried(Protocol):
    """What slots carry from step to step."""

    def tensors(self) -> dict[str, Tensor]: ...


class Batches(Protocol):
    """Endless batches of some slots; each has their numbers as ``slots``."""

    def next(self) -> Any: ...

    def state(self) -> NDArray[np.int64]:
        """(slots, …): where each slot is."""
        ...

    def restore(self, state: NDArray[np.int64]) -> None: ...


class StageRun(ABC):
    """A stage that is being trained; ``step`` does one step and says what it saw."""

    trains: ClassVar[list[str]]  # parts that learn where the recipe names none

    def __init__(self, context: Context, stage: Stage, number: int) -> None:
        self.context, self.stage, self.number = context, stage, number
        self.model: Any = context.model  # each class says which
        self.processes = context.processes
        self.device = self.processes.device
        count, rank = self.processes.count, self.processes.rank
        if stage.batch % count:
            raise InputError(
                f"stage {stage.name}: batch {stage.batch} does not divide by {count} processes: change one"
            )
        mine = stage.batch // count
        self.sampler = self._make_sampler(range(rank * mine, (rank + 1) * mine))
        self.state: Carried | None = None  # what slots carry from step to step
        self.shown: Shown | None = None
        self._unread: tuple[list[str], Tensor, Tensor | None, int] | None = None  # figures of the step before
        self.guard = Guard(**context.progress.guard)
        self._choose_parameters()
        self._make_networks()
        self._make_optimisers()

    def _coded(self, folder: str, coder: Coder, sources: Sequence[Clip | Path]) -> list[Arrays]:
        """What a coder keeps of clips or photographs, in a folder of the cache."""
        context, stage = self.context, self.stage
        # A stage that goes on learns from what it began with, though the model has moved.
        context.progress.coded = context.progress.coded or coded_name(self.model)
        return code_passages(
            sources,
            self.model,
            context.cache / folder,
            coder,
            name=context.progress.coded,
            longest=stage.longest,
            passages=stage.passages,
            seed=context.recipe.seed,
            processes=self.processes,
        )

    @classmethod
    def prepare(cls, stage: Stage, model: Any, ema: dict[str, Tensor]) -> None:
        """What is changed in weights and averaged weights before a stage's first step."""
        if stage.kind in CODED_KINDS:
            # Files will be coded with the averaged weights: so is what such a stage learns from.
            model.load_state_dict(ema)

    @abstractmethod
    def _make_sampler(self, slots: Sequence[int]) -> Batches: ...

    @abstractmethod
    def _terms(self, batch: Any, streams: StepStreams) -> tuple[terms_of.Terms, terms_of.Seen | None]:
        """The loss's terms of these slots, and the pictures that critics learn from."""

    def _names(self) -> list[str]:
        """The terms that there may be."""
        return ["rate", *self.stage.losses.used]

    def finish(self, ema: dict[str, Tensor]) -> None:  # noqa: B027
        """What is left to do with the averaged weights when the stage has ended."""

    # -- what is trained --------------------------------------------------------------------------------

    def _choose_parameters(self) -> None:
        stage, parts = self.stage, PARTS[self.context.recipe.preset]
        chosen = tuple(prefix for part in stage.train or self.trains for prefix in parts[part])
        dropped = [part for part in self.context.recipe.drop if part in parts]
        frozen = tuple(prefix for part in (*stage.freeze, *dropped) for prefix in parts[part])
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith(chosen) and not name.startswith(frozen))

    def _make_networks(self) -> None:
        losses, auxiliary, device = self.stage.losses, self.context.auxiliary, self.device
        self.perceptual = terms_of.make_perceptual(self.stage, device)
        self.flow = terms_of.make_flow(device) if losses.motion else None
        torch.manual_seed(self.context.recipe.seed)
        if losses.semantic and "projection" not in auxiliary:
            assert self.context.features is not None
            projection = Projection(self.model.token_width, self.context.features.width)
            auxiliary["projection"] = projection.to(device)
        self._make_critics()

    def _make_critics(self) -> None:  # noqa: B027
        """Networks that learn beside the model what it shows, in ``auxiliary``."""

    def _make_optimisers(self) -> None:
        stage = self.stage
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        if not named:
            raise InputError(f"stage {stage.name} trains nothing: name parts to train, or freeze fewer")
        matrices, rest = split_parameters(named, NOT_FOR_MUON) if stage.optimiser == "muon" else ([], named)
        groups: dict[float, list[nn.Parameter]] = {1.0: [], **{factor: [] for factor in RATES.values()}}
        for name, parameter in rest:
            groups[next((RATES[part] for part in RATES if part in name), 1.0)].append(parameter)
        if stage.losses.semantic:
            groups[1.0] += self.context.auxiliary["projection"].parameters()
        graphed = self.device.type != "cpu"

        def rate(value: float) -> float | Tensor:  # what a graph reads anew each time is a tensor
            return torch.tensor(value, device=self.device) if graphed else value

        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        if matrices:
            fast = torch.bfloat16 if self.context.progress.autocast else torch.float32
            self.optimisers["muon"] = Muon([p for _, p in matrices], rate(stage.muon_learning_rate), fast)
        self.optimisers["adam"] = torch.optim.AdamW(
            [
                {"params": params, "lr": rate(stage.learning_rate * factor)}
                for factor, params in groups.items()
                if params
            ],
            betas=(0.9, 0.99),
            weight_decay=stage.weight_decay,
            capturable=graphed,
        )
        self._rates = {name: [float(g["lr"]) for g in o.param_groups] for name, o in self.optimisers.items()}
        self._update = (
            GraphedUpdate(self.optimisers, stage.clip) if graphed else Update(self.optimisers, stage.clip)
        )
        self.critics = self._critic_optimisers()

    def _critic_optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """By the names that they have in ``auxiliary``."""
        return {}

    def _set_rates(self, share: float) -> None:
        stage = self.stage
        cosine = stage.final_share + (1 - stage.final_share) * 0.5 * (1 + math.cos(math.pi * min(share, 1)))
        factor = cosine * min(1.0, (self.context.progress.stage_steps + 1) / max(1, stage.warmup_steps))
        for name, optimiser in self.optimisers.items():
            for group, rate in zip(optimiser.param_groups, self._rates[name], strict=True):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate * factor)
                else:
                    group["lr"] = rate * factor

    # -- checkpoints ------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """What of a stage belongs into a checkpoint; all processes must ask.

        S2vcError where the last step's loss was not finite.
        """
        if self._unread is not None:
            self._read(*self._unread)
        carried = {} if self.state is None else self.state.tensors()
        tensors = {f"carried.{k}": self.processes.gathered(v) for k, v in carried.items()}
        tensors["sampler"] = self.processes.gathered(torch.from_numpy(self.sampler.state()).to(self.device))
        return {k: v.cpu() for k, v in tensors.items()} | optimiser_tensors(self.optimisers | self.critics)

    def _state_of(self, tensors: dict[str, Tensor]) -> Carried:
        return State.of(tensors)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where the checkpoint was written."""
        tensors = checkpoint.tensors
        if "sampler" not in tensors:
            return  # written between two stages
        stage, carried = self.stage, checkpoint.part("carried.")
        theirs = checkpoint.stage(self.number)
        if (theirs.batch, theirs.crop) != (stage.batch, stage.crop):
            raise InputError(
                f"the checkpoint's stage {stage.name} had batch {theirs.batch} and crop {theirs.crop}: "
                "give the recipe those, or begin anew with --start"
            )
        mine = stage.batch // self.processes.count
        rows = slice(self.processes.rank * mine, (self.processes.rank + 1) * mine)
        self.sampler.restore(tensors["sampler"][rows].cpu().numpy())
        if carried:
            self.state = self._state_of({k: v[rows].to(self.device).contiguous() for k, v in carried.items()})
        for name, optimiser in (self.optimisers | self.critics).items():
            restore_optimiser(name, optimiser, checkpoint)

    # -- steps ------------------------------------------------------------------------------------------

    def step(self, share: float) -> dict[str, float]:
        """One step at ``share`` of the stage; figures averaged over all processes."""
        self._set_rates(share)
        progress = self.context.progress
        batch = self.sampler.next()
        seed, every = self.context.recipe.seed, self.stage.critic_steps
        streams = StepStreams(seed, progress.steps, batch.slots, self.device, every)
        # Critics have steps of their own, in which the model only shows.
        learns = self.guard.off or progress.stage_steps % every == 0
        with torch.set_grad_enabled(learns):
            terms, seen = self._terms(batch, streams)
        # What has to be read waits for the device. A GPU's figures are read a step later.
        asked = (*self._sums(terms), self._learn(terms) if learns else None, progress.steps)
        late = self.device.type != "cpu" and not self.critics
        figures = self._read(*(self._unread or asked) if late else asked)
        self._unread = asked if late else None
        if self.critics and not self.guard.off:
            self._teach_critics(seen, streams, figures)
        if self.critics and self.guard.see(figures["psnr"], self.stage.psnr_floor):
            figures["realism_off"] = 1.0
        progress.guard = vars(self.guard).copy() if self.critics else {}
        return figures

    def _seen_terms(
        self, terms: terms_of.Terms, x0: Tensor, pictures: Tensor, slots: list[int], streams: StepStreams
    ) -> terms_of.Seen | None:
        if not self.perceptual and not self.critics:
            return None
        seen = terms_of.choose_seen(x0, pictures, slots, streams, self.stage.batch, self.stage.seen_every)
        if seen is None:
            return None
        if self.perceptual and torch.is_grad_enabled():
            terms_of.perceptual_term(terms, self.stage, self.perceptual, seen, streams)
        if not self.guard.off and torch.is_grad_enabled():
            self._realism_terms(terms, seen, streams)
        return seen

    def _realism_terms(  # noqa: B027
        self, terms: terms_of.Terms, seen: terms_of.Seen, streams: StepStreams
    ) -> None:
        """What critics say of pictures."""

    def _sums(self, terms: terms_of.Terms) -> tuple[list[str], Tensor]:
        """Names of figures, and their sums and counts over all processes (2, N) on the device."""
        names = ["loss", *self._names(), *PLAIN]
        terms.figures["loss"] = (torch.stack(list(terms.weighted.values())).sum().detach(), 1.0)
        absent = (torch.zeros((), device=self.device), 0.0)
        pairs = [terms.figures.get(name, absent) for name in names]
        sums = torch.stack([value.double() for value, _ in pairs])
        counts = on_device(np.array([count for _, count in pairs], np.float64), self.device)
        return names, self.processes.total(torch.stack([sums, counts]))

    def _read(self, names: list[str], total: Tensor, norm: Tensor | None, step: int) -> dict[str, float]:
        """Figures averaged over all processes; a loss or gradient that is not finite stops all of them."""
        sums, counts = total.cpu().tolist()
        where = f"stage {self.stage.name}, step {step}"
        advice = "go on from the last checkpoint at a lower rate"
        pairs = [(name, value) for name, value in zip(names, sums, strict=True) if name not in PLAIN]
        bad = [name for name, value in pairs if not math.isfinite(value)]
        if bad:
            which = ", ".join(name for name in bad if name != "loss") or "loss"
            raise S2vcError(f"{where}: the loss is not finite in {which}: {advice}")
        if norm is not None and not math.isfinite(float(norm)):
            raise S2vcError(f"{where}: the gradient is not finite though the loss is: {advice}")
        figures = {
            name: value / count for name, value, count in zip(names, sums, counts, strict=True) if count
        }
        if norm is None:  # most terms were left out
            return {name: value for name, value in figures.items() if name in PLAIN}
        return figures | {"gradient": float(norm)}

    def _learn(self, terms: terms_of.Terms) -> Tensor:
        """One step of the optimisers; the gradient's norm before it was clipped."""
        self._update.forget()
        torch.stack(list(terms.weighted.values())).sum().backward()
        self.processes.average_gradients(self._update.learning)
        return self._update()

    def _teach_critics(
        self, seen: terms_of.Seen | None, streams: StepStreams, figures: dict[str, float]
    ) -> None:
        for name, optimiser in self.critics.items():
            network = self.context.auxiliary[name]
            optimiser.zero_grad(set_to_none=True)
            value = torch.zeros((), device=self.device)
            if seen is not None:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.context.progress.autocast):
                    value = self._critic_loss(name, seen, streams)
            figures[name] = self.processes.mean(float(value.detach()) * (0.0 if seen is None else seen.share))
            if not math.isfinite(figures[name]):
                where = f"stage {self.stage.name}, step {self.context.progress.steps}"
                raise S2vcError(f"{where}: the loss of {name} is not finite: go on from the last checkpoint")
            if seen is not None:
                (seen.share * value).backward()
            self.processes.average_gradients(network.parameters())
            torch.nn.utils.clip_grad_norm_(network.parameters(), self.stage.clip)
            optimiser.step()

    def _critic_loss(self, name: str, seen: terms_of.Seen, streams: StepStreams) -> Tensor:
        """What a critic learns by."""
        raise NotImplementedError
