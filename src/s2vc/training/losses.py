"""The terms of a codec stage's loss (TRAINING §1, §5), each a mean over the batch, and the log's figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from s2vc.nn.motion import motion_compensate
from s2vc.perceptual import DISTS, LPIPS
from s2vc.training.recipe import Stage
from s2vc.training.sampler import Batch
from s2vc.training.streams import Purpose, StepStreams, on_device

PERCEPTUAL = ("lpips_vgg", "lpips_alex", "dists")
SHIFT = 8  # pixels by which what perceptual networks see is shifted, so that no grid of theirs is learnt
FLOW_SIZE = 0.5  # at which flow is estimated


def make_network(name: str) -> nn.Module:
    """One of ``PERCEPTUAL``, frozen: two batches in [0, 1] -> distances (N,)."""
    if name == "dists":
        return DISTS()
    return LPIPS("vgg" if name == "lpips_vgg" else "alex")


def make_perceptual(stage: Stage, device: torch.device) -> dict[str, nn.Module]:
    """The networks of the stage's perceptual terms."""
    return {name: make_network(name).to(device) for name in PERCEPTUAL if getattr(stage.losses, name) > 0}


def make_flow(device: torch.device) -> nn.Module:
    """The flow network of L_motion, frozen."""
    from s2vc.perceptual import SPyNet

    return SPyNet().to(device)


class Result(Protocol):
    """What a step made of its batch: pictures in levels (B, T, 3, h, w), bits (B, T) and their proxy."""

    @property
    def x0(self) -> Tensor: ...
    @property
    def reference(self) -> Tensor: ...
    @property
    def bits(self) -> Tensor: ...
    @property
    def bits_proxy(self) -> Tensor: ...


@dataclass
class Seen:
    """The pictures that costly networks look at: one frame of some of the sequences, in [0, 1] (N, 3, h, w).

    ``rows``: the sequences they are of. ``frames``: int64 (N,), their numbers, counted sequence by sequence.
    ``share``: what a mean over them counts for, so that gradients
    averaged over processes are those of a mean over the whole batch.
    """

    shown: Tensor
    real: Tensor
    rows: list[int]
    frames: Tensor
    share: float


def choose_seen(
    shown: Tensor, real: Tensor, slots: list[int], streams: StepStreams, total: int, every: int
) -> Seen | None:
    """One frame of every ``every``-th slot, the others' turn coming at later steps; None if none is here.

    shown, real: levels (B, T, 3, h, w) of these slots. ``total``: slots of all processes.
    """
    every = min(every, total)
    chosen = [slot for slot in range(total) if (slot + streams.turn) % every == 0]
    rows = [row for row, slot in enumerate(slots) if slot in chosen]
    frames = [int(generator.integers(0, shown.shape[1])) for generator in streams.of(Purpose.LOSS)]
    if not rows:
        return None
    flat = on_device(np.array([row * shown.shape[1] + frames[row] for row in rows]), shown.device)
    share = len(rows) / len(chosen) * (total / len(slots))
    return Seen(shown.flatten(0, 1)[flat] / 255, real.flatten(0, 1)[flat] / 255, rows, flat, share)


@dataclass
class Terms:
    """Weighted terms, whose sum is the loss, and plain figures as (sum, count) for the log."""

    weighted: dict[str, Tensor]
    figures: dict[str, tuple[Tensor, float]]

    def add(self, name: str, weight: float, value: Tensor, share: float = 1.0) -> None:
        self.weighted[name] = weight * share * value
        self.figures[name] = (value.detach() * share, share)


def lagrangian(stage: Stage, quality: Tensor, step: int) -> Tensor:
    """λ of qualities 0..63, of their shape: between the stage's two ends evenly in the logarithm."""
    position = quality.double() / 63
    value = (stage.lambda_low * (stage.lambda_high / stage.lambda_low) ** position).float()
    if step < stage.lambda_warmup_steps:
        value = value * (step / stage.lambda_warmup_steps) ** 2
    return value


def codec_terms(
    stage: Stage, result: Result, pictures: Tensor, batch: Batch, quality: Tensor, stage_step: int
) -> Terms:
    """Rate and distortion: λ·R + L1 of the shown and of the reference pictures."""
    losses, area, device = stage.losses, stage.crop**2, pictures.device
    turns = np.array(stage.hierarchy, np.float32)
    turn = np.where(batch.age > 0, turns[(batch.age - 1) % len(turns)], np.float32(1))
    importance = on_device(turn, device)
    share = on_device(np.where(batch.intra, stage.intra_weight, 1.0).astype(np.float32), device)
    weight = lagrangian(stage, quality, stage_step) * share
    terms = Terms({}, {})
    terms.add("rate", 1.0, (weight * result.bits_proxy / area).mean())
    shown, kept = (_l1(p, pictures) for p in (result.x0, result.reference))
    if losses.l1:
        terms.add("l1", losses.l1, (importance * shown).mean())
    if losses.reference_l1:
        terms.add("reference_l1", losses.reference_l1, (importance * kept).mean())
    _add_psnr(terms, result.x0, result.reference, pictures)
    with torch.no_grad():
        for name, flags in (("bpp_intra", batch.intra), ("bpp_inter", ~batch.intra)):
            bits = (result.bits * on_device(flags, device)).sum()
            terms.figures[name] = (bits / area, float(flags.sum()))
    return terms


def _l1(shown: Tensor, real: Tensor) -> Tensor:
    return (shown - real).abs().mean((2, 3, 4)) / 255


@torch.no_grad()
def _add_psnr(terms: Terms, x0: Tensor, reference: Tensor, pictures: Tensor) -> None:
    for name, part in (("psnr", x0), ("psnr_reference", reference)):
        mse = (part - pictures).square().mean((2, 3, 4)).clamp(min=1e-3)
        terms.figures[name] = ((10 * torch.log10(65025 / mse)).sum(), mse.numel())


def generator_terms(stage: Stage, x0: Tensor, reference: Tensor, pictures: Tensor) -> Terms:
    """Distortion alone, where nothing is coded any more."""
    terms = Terms({}, {})
    if stage.losses.l1:
        terms.add("l1", stage.losses.l1, _l1(x0, pictures).mean())
    _add_psnr(terms, x0, reference, pictures)
    return terms


def flicker_term(terms: Terms, stage: Stage, x0: Tensor, pictures: Tensor, intra: NDArray[np.bool_]) -> None:
    """L1 of what the error changes from a frame to the next, in one scene."""
    inner = on_device(~intra[:, 1:], x0.device)
    error = (x0 - pictures) / 255
    change = (error[:, 1:] - error[:, :-1]).abs().mean((2, 3, 4))
    terms.add("flicker", stage.losses.flicker, (change * inner).mean())


def perceptual_term(
    terms: Terms, stage: Stage, networks: dict[str, nn.Module], seen: Seen, streams: StepStreams
) -> None:
    """One of the stage's perceptual networks at one of its scales.

    A crop seen by VGG-16 costs several times the codec: the others have their turn at later steps, and the
    weight makes up for it.
    """
    turn = streams.turn % len(networks)
    name = list(networks)[turn]
    scales = stage.perceptual_scales
    scale = scales[streams.turn // len(networks) % len(scales)]
    shift = int(streams.common(Purpose.LOSS).integers(0, SHIFT))
    shown, real = (p[..., shift:, shift:] for p in (seen.shown, seen.real))
    if scale > 1:
        shown, real = F.avg_pool2d(shown, scale), F.avg_pool2d(real, scale)
    value = networks[name](shown, real).float().mean()
    terms.add(name, getattr(stage.losses, name) * len(networks), value, seen.share)


def semantic_term(
    terms: Terms, stage: Stage, tokens_of: Callable[[Tensor], Tensor], projection: nn.Module, batch: Batch
) -> None:
    """‖E(x) − P_aux(s)‖₁ where the teacher's features are known (TRAINING §1).

    tokens_of: tokens (n, token, h, w) of the batch's frames (n,), counted sequence by sequence.
    """
    assert batch.semantic is not None
    device = next(projection.parameters()).device
    count, frames = batch.known.shape
    known = np.flatnonzero(batch.known)
    if not len(known):
        return
    tokens = tokens_of(on_device(known, device))
    target = on_device(batch.semantic.reshape(-1, *batch.semantic.shape[2:])[known], device)
    error = (projection(tokens).float() - target).abs().mean((1, 2, 3))
    # A sequence has a feature every fourth frame: each counts for the frames about it.
    share = len(known) * 4 / (count * frames)
    terms.add("semantic", stage.losses.semantic, error.mean(), share)


def temporal_term(terms: Terms, stage: Stage, result: Result, pictures: Tensor, batch: Batch) -> None:
    """L1 between what motion compensation leaves of shown frames and of the source: flicker costs."""
    count, frames = batch.intra.shape
    inner = torch.from_numpy(~batch.intra[:, 1:]).to(pictures.device)
    if not inner.any():
        return
    field = torch.from_numpy(batch.motion[:, 1:]).to(pictures.device)[inner]

    def residual(sequence: Tensor) -> Tensor:
        before, now = sequence[:, :-1][inner], sequence[:, 1:][inner]
        return now - motion_compensate(before, field)

    with torch.no_grad():
        wanted = residual(pictures)
    error = (residual(result.x0.clamp(0, 255)) - wanted).abs().mean((1, 2, 3)) / 255
    terms.add("temporal", stage.losses.temporal, error.mean(), float(inner.sum()) / (count * (frames - 1)))


def motion_term(
    terms: Terms,
    stage: Stage,
    flow: nn.Module,
    result: Result,
    pictures: Tensor,
    batch: Batch,
    streams: StepStreams,
) -> None:
    """‖O(x₋₁, x) − O(x̂₋₁, x̂)‖₁ at half size, for one pair of neighbours of each sequence (TRAINING §1)."""
    last = pictures.shape[1] - 1
    at = [1 + streams.turn % last] * len(pictures)
    rows = [row for row, t in enumerate(at) if not batch.intra[row, t]]
    if not rows:
        return
    ends = [at[row] for row in rows]

    def pair(sequence: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([sequence[rows, [t - 1 for t in ends]], sequence[rows, ends]]) / 255
        small = F.interpolate(both.clamp(0, 1), scale_factor=FLOW_SIZE, mode="area")
        before, now = small.chunk(2)
        return before, now

    with torch.no_grad():
        wanted = flow(*pair(pictures))
    error = (flow(*pair(result.x0)) - wanted).abs().mean()
    terms.add("motion", stage.losses.motion, error, len(rows) / len(pictures))
