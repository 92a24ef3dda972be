"""The ``entropy`` stage: the entropy model alone, on the symbols that the encoder itself wrote.

A codec stage prices symbols by Gaussians and by noise in the place of rounding, on windows of a few frames.
Files hold rounded symbols, whose shares are no Gaussian's. So at the end tables are counted, and table
indices are trained by what these tables say. Nothing but bits changes: what a frame shows stays the same but
where another symbol is skipped, or rounded otherwise for its new price.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from s2vc.entropy.tables import Tables
from s2vc.nn.tiny.entropy import BANDS, LOWEST, REACH, TABLES, EntropyTwin, gaussian_bits, scale_of
from s2vc.nn.tiny.model import TinyModel
from s2vc.training import losses as terms_of
from s2vc.training.stage import StageRun
from s2vc.training.streams import Purpose, StepStreams, stream
from s2vc.training.symbols import SymbolBatch, SymbolClip, SymbolFrame, SymbolSampler, code_symbols
from s2vc.training.tables import fitted, frequencies_of, tables_of

RECOUNT = 1000  # steps from one counting of tables to the next
COUNTED = 600  # frames that are counted on the way; at the end, all


def costs(tables: Tables) -> Tensor:
    """Bits of symbols −REACH..REACH by index LOWEST..TABLES: below 1 the Gaussians', the last one twice."""
    symbols = np.arange(-REACH, REACH + 1)
    below = [gaussian_bits(torch.from_numpy(symbols), scale_of(torch.tensor(i))) for i in range(LOWEST, 1)]
    rows = [tables.bits(symbols, np.full(len(symbols), i, np.uint8)) for i in range(1, TABLES)]
    return torch.stack([*below, *(torch.from_numpy(row) for row in [*rows, rows[-1]])]).float()


def soft_bits(symbols: Tensor, index: Tensor, cost: Tensor) -> Tensor:
    """Bits of symbols at indices that are not yet rounded down, in between those of two tables."""
    place = index.clamp(LOWEST + 0.5, TABLES - 0.01) - 0.5 - LOWEST
    low = place.detach().floor()
    # What is not a number comes through, and stops the run by name.
    row = torch.where(place.isfinite(), low, 0.0).long()
    share, column = place - low, symbols.long() + REACH
    here, there = cost[row, column], cost[row + 1, column]
    return here + share * (there - here)


def indices(entropy: EntropyTwin, frame: SymbolFrame) -> Tensor:
    """Soft table indices of a frame's latents (1, C, h, w)."""
    _, channels, height, width = frame.rounded.shape
    c, y, x = (torch.arange(n, device=frame.rounded.device) for n in (channels, height, width))
    even = (c[:, None, None] + y[:, None] + x) % 2 == 0
    first, trunk = entropy.first_pass(frame.intra, frame.quality, frame.hyper, frame.motion, frame.memory)
    return torch.where(even, first, entropy.second_pass(trunk, frame.coded * even))


class EntropyStage(StageRun):
    """See the module."""

    model: TinyModel
    trains: ClassVar = ["entropy"]

    def _make_sampler(self, slots: Sequence[int]) -> SymbolSampler:
        coded = self._coded("symbols", code_symbols, self.context.library.clips)
        self.clips = [SymbolClip(**arrays) for arrays in coded]
        seed = self.context.recipe.seed
        self.cost: Tensor | None = None  # of the tables of now
        return SymbolSampler(self.clips, slots=slots, seed=seed, stage=self.number, device=self.device)

    def _choose_parameters(self) -> None:
        super()._choose_parameters()
        self.model.entropy.hyper_index.requires_grad_(False)  # z's tables are chosen at the end

    def _names(self) -> list[str]:
        return ["rate"]

    def _terms(self, batch: SymbolBatch, streams: StepStreams) -> tuple[terms_of.Terms, None]:
        entropy, progress = self.model.entropy, self.context.progress
        if progress.stage_steps % RECOUNT == 0:
            random = stream(self.context.recipe.seed, Purpose.COUNTED, progress.steps)
            self._count([self.clips[i] for i in random.integers(len(self.clips), size=COUNTED)], random)
        if self.cost is None:
            self.cost = costs(tables_of(entropy.frequencies)).to(self.device)
        bits = [
            frame.weight * soft_bits(frame.rounded, indices(entropy, frame), self.cost).sum()
            for frame in batch.frames
        ]
        terms = terms_of.Terms({}, {})
        terms.add("rate", 1.0, torch.stack(bits).mean() / 8)
        return terms, None

    @torch.no_grad()
    def _count(self, clips: Sequence[SymbolClip], random: np.random.Generator | None = None) -> None:
        """Count tables anew: on one frame of each of these clips, drawn, or on all their frames."""
        entropy, (rank, count) = self.model.entropy, self.processes.share
        counts = torch.zeros(TABLES, 2 * REACH + 1, dtype=torch.float64)
        chosen = [
            (clip, time)
            for clip in clips
            for time in (range(len(clip.intra)) if random is None else [random.integers(len(clip.intra))])
        ]
        weights = np.array([float(clip.weight[time]) for clip, time in chosen])
        for (clip, time), weight in list(zip(chosen, weights / weights.mean(), strict=True))[rank::count]:
            frame = SymbolFrame.of(clip, int(time), self.device)
            row = indices(entropy, frame).nan_to_num().floor().clamp(0, TABLES - 1).long()
            place = (row * counts.shape[1] + frame.rounded.long() + REACH).flatten().cpu()
            counts += weight * torch.bincount(place, minlength=counts.numel()).view(counts.shape)
        tables = fitted(self.processes.total(counts).cpu().numpy())
        entropy.frequencies.copy_(frequencies_of(tables))
        self.cost = None

    @torch.no_grad()
    def finish(self, ema: dict[str, Tensor]) -> None:
        """Count all, and choose the tables of z, for the averaged weights: those that the stage ends in."""
        entropy, prefix = self.model.entropy, "entropy."
        entropy.load_state_dict({k.removeprefix(prefix): v for k, v in ema.items() if k.startswith(prefix)})
        self._count(self.clips)
        cost = costs(tables_of(entropy.frequencies))[1 - LOWEST : -1].double()
        counts = torch.zeros(2, BANDS, self.model.config.hyper, 2 * REACH + 1, dtype=torch.float64)
        for clip in self.clips:
            for intra, quality, weight, hyper in zip(
                clip.intra, clip.quality, clip.weight, clip.hyper, strict=True
            ):
                symbols = torch.from_numpy(np.array(hyper)).flatten(1).long() + REACH
                found = counts[int(intra), int(quality) * BANDS // 64]
                found.scatter_add_(1, symbols, torch.full(symbols.shape, float(weight), dtype=torch.float64))
        best = torch.einsum("kbcs,is->kbci", counts, cost).argmin(-1) + 1
        known = (
            counts.sum((-1, -2), keepdim=False)[..., None] > 0
        )  # a band that no frame was of stays as it is
        entropy.hyper_index.copy_(torch.where(known, best + 0.5, entropy.hyper_index.cpu()))
        for name, value in entropy.state_dict().items():
            ema[prefix + name].copy_(value)
