"""One frame of ``base``, from its symbols to its features (ARCHITECTURE §2, §4.3, §5.2; DESIGN §6, end).

Table indices come out of float networks here, so encoder and decoder run these very steps, in float32 and one
frame at a time; where two machines differ, the checksum of a packet's symbols says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Generator as Steps
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import groupby
from threading import RLock

import numpy as np
import torch
from torch import Tensor

from s2vc.codec.protocol import FrameKind, Integers, Part
from s2vc.entropy.tables import TOTAL, Tables, quantise
from s2vc.errors import DamagedError
from s2vc.nn.base.inter import LIMIT
from s2vc.nn.base.intra import PASSES
from s2vc.nn.base.model import BaseModel
from s2vc.nn.base.prior import FactorisedPrior, fold, four_pass_masks, scale_index, two_pass_masks, unfold

MULTIPLE = 64
LOWEST, HIGHEST_INTRA, HIGHEST_INTER, SCALES = 0.11, 64.0, 16.0, 128
RUNNING = RLock()
"""Held by whoever runs networks: the switches of ``exact`` are the process's, and symbols have a thread."""
LOOK_BACK = 4
"""Frames before a reset that its x0 depends on (ARCHITECTURE §10.2)."""


@contextmanager
def exact() -> Iterator[None]:
    """The arithmetic of everything that symbols depend on.

    Without cuDNN, which chooses algorithms by the memory that is free: a decoder would read other symbols
    than the encoder beside it wrote.
    """
    without = torch.backends.cudnn.flags(enabled=False, deterministic=True, allow_tf32=False)
    with RUNNING, torch.inference_mode(), without:
        yield


def gaussian_tables(highest: float) -> Tables:
    """The tables that ``scale_index`` chooses from, each at the middle of the scales that lead to it."""
    step = (highest / LOWEST) ** (1 / (SCALES - 1))
    return Tables.gaussian(np.geomspace(LOWEST, highest, SCALES) * step**0.5)


def uniform_tables(levels: int) -> Tables:
    """One table of ``levels`` digits around zero, all alike."""
    counts = np.full(levels + 1, (TOTAL - 1) // levels, np.int64)
    counts[-1] = 1
    counts[0] += TOTAL - counts.sum()
    return Tables([-(levels // 2)], [counts])


def factorised_tables(prior: FactorisedPrior, channels: int) -> Tables:
    """A table a channel, from the learned densities of z: what holds all but 2^-16 of each."""
    edges = torch.arange(-LIMIT, LIMIT + 1, dtype=torch.float64) - 0.5
    grid = edges[None, None, :, None].expand(1, channels, -1, 1)
    with torch.inference_mode():
        cumulated = deepcopy(prior).to("cpu", torch.float64).cdf(grid)[0, :, :, 0].numpy()
    lows, tables = [], []
    for channel in cumulated:
        weights = np.diff(channel)
        kept = np.flatnonzero(weights > 0.5 / TOTAL)
        low = min(int(kept[0]) if len(kept) else LIMIT, LIMIT)
        high = max(int(kept[-1]) if len(kept) else LIMIT, LIMIT)
        inside = weights[low : high + 1]
        lows.append(low - LIMIT)
        tables.append(quantise(np.append(inside, max(1.0 - inside.sum(), 0.0))))
    return Tables(lows, tables)


@dataclass(frozen=True)
class BaseTables:
    """Tables of the four kinds of parts."""

    intra_z: Tables
    intra_y: Tables
    inter_z: Tables
    inter_y: Tables

    @classmethod
    def of(cls, model: BaseModel) -> BaseTables:
        levels = set(model.intra.config.levels)
        assert len(levels) == 1, "one table serves all dimensions of z"
        inter = model.inter
        return cls(
            uniform_tables(levels.pop()),
            gaussian_tables(HIGHEST_INTRA),
            factorised_tables(inter.hyper_prior, inter.config.hyper),
            gaussian_tables(HIGHEST_INTER),
        )


class BasePoint:
    """One rate point: its networks and its tables."""

    def __init__(self, model: BaseModel) -> None:
        self.model, self.tables = model, BaseTables.of(model)


@dataclass(frozen=True)
class BaseFeatures:
    """What a frame is drawn from: a P frame's feature, or an I frame's generator input and tokens."""

    point: BasePoint
    feature: Tensor
    tokens: Tensor | None = None

    @property
    def intra(self) -> bool:
        return self.tokens is not None

    def inputs(self) -> tuple[Tensor, Tensor]:
        """The generator's input and its tokens."""
        if self.tokens is not None:
            return self.feature, self.tokens
        codec = self.point.model.inter
        return codec.pixel_head(self.feature), codec.token_head(self.feature)


@dataclass(frozen=True)
class BaseState:
    """The picture buffer: frames since the I frame, at most the last four, and the pictures' padded size."""

    size: tuple[int, int]
    frames: tuple[BaseFeatures, ...] = ()

    def after(self, features: BaseFeatures) -> BaseState:
        before = () if features.intra else self.frames
        return BaseState(self.size, (*before, features)[-LOOK_BACK:])


def x0_before_reset(frames: tuple[BaseFeatures, ...]) -> Tensor:
    """x0 (1, 4, H/8, W/8) of the last of ``frames``, by as little of the generator as gives it exactly.

    A level's features of a frame depend on that many frames before it, so frames further back need fewer
    levels (ARCHITECTURE §10.2).
    """
    previous: list[Tensor] = []
    distance = len(frames)
    for intra, alike in groupby(frames, lambda frame: frame.intra):
        with frames[0].point.model.generator(intra, torch.float32) as generator:
            for frame in alike:
                features, tokens = frame.inputs()
                if distance == 1:
                    return generator(features, tokens, previous)[0]
                previous = generator.buffer(features, tokens, previous, LOOK_BACK + 1 - distance)
                distance -= 1
    raise AssertionError("a reset follows a frame")


class BaseFrame:
    """One frame's parts in coding order. Each step leaves what an encoder needs to find the part's symbols.

    ``choose``: the point of an I frame's quality; P frames stay at the point of theirs. ``scales``, ``mean``
    and ``mask`` are of the part that was given last: symbols are round(y / steps - mean) where the mask is.
    """

    def __init__(self, choose: Callable[[int], BasePoint], state: BaseState, kind: FrameKind) -> None:
        if not kind.intra and not state.frames:
            raise DamagedError("the frame needs one before it that is lost")
        self.point = choose(kind.quality) if kind.intra else state.frames[-1].point
        self.before, self.kind, self.state = state, kind, state
        self.device = next(self.point.model.inter.parameters()).device
        self.scales = self.mean = self.mask = torch.empty(0)
        self.steps: Tensor | float = 1.0
        if not kind.intra:
            # An I frame leaves no feature, so the frame after it resets whatever the period.
            reset = kind.reset or state.frames[-1].intra
            buffered = x0_before_reset(state.frames) if reset else state.frames[-1].feature
            self.context, self._prior_context = self.point.model.inter.contexts(buffered, reset)

    def parts(self) -> Steps[Part, Integers, None]:
        """Parts of the packet; sent their symbols. Afterwards ``state`` and ``features`` are set."""
        features = yield from (self._intra() if self.kind.intra else self._inter())
        self.features = features
        self.state = self.before.after(features)

    def _tensor(self, symbols: Integers) -> Tensor:
        return torch.from_numpy(symbols.astype(np.float32))[None].to(self.device)

    def _pass(
        self, name: str, parameters: Tensor, mask: Tensor, highest: float, tables: Tables
    ) -> Steps[Part, Integers, Tensor]:
        """One pass of y: yields its part, returns its decoded values, zero outside the mask."""
        shares = PASSES if self.kind.intra else 2
        scales, means = parameters.chunk(2, dim=1)
        index = scale_index(fold(scales, mask, shares), LOWEST, highest, SCALES)[0] + 1
        self.scales, self.mean, self.mask = scales, means, mask
        symbols = yield Part(name, index.cpu().numpy(), tables)
        return torch.where(mask, unfold(self._tensor(symbols), mask, shares) + means, 0)

    def _intra(self) -> Steps[Part, Integers, BaseFeatures]:
        codec, tables = self.point.model.intra, self.point.tables
        height, width = (side // MULTIPLE for side in self.before.size)
        levels = codec.config.levels
        digits = yield Part("z", np.ones((len(levels), height, width), np.uint8), tables.intra_z)
        half = torch.tensor([level // 2 for level in levels], device=self.device)[:, None, None]
        hyper = codec.hyper_synthesis(self._tensor(digits) / half)
        parameters, common = codec.first_parameters(hyper)
        masks = four_pass_masks(*common.shape[1:], device=self.device)
        decoded = torch.zeros_like(common)
        for number, mask in enumerate(masks):
            if number:
                parameters = codec.next_parameters(number, decoded, common)
            step = self._pass(f"y{number}", parameters, mask, HIGHEST_INTRA, tables.intra_y)
            decoded = decoded + (yield from step)
        tokens = codec.tokens(hyper)
        return BaseFeatures(self.point, codec.synthesis(decoded, tokens), tokens)

    def _inter(self) -> Steps[Part, Integers, BaseFeatures]:
        codec, tables = self.point.model.inter, self.point.tables
        height, width = (side // MULTIPLE for side in self.before.size)
        channels = np.arange(1, codec.config.hyper + 1, dtype=np.uint8)[:, None, None]
        shape = (codec.config.hyper, height, width)
        z = yield Part("z", np.ascontiguousarray(np.broadcast_to(channels, shape)), tables.inter_z)
        parameters = codec.first_parameters(self._tensor(z), self._prior_context)
        self.steps = codec.steps(parameters)
        masks = two_pass_masks(*self.steps.shape[1:], device=self.device)
        first = parameters[:, codec.config.latent :]
        decoded = yield from self._pass("y0", first, masks[0], HIGHEST_INTER, tables.inter_y)
        second = codec.next_parameters(decoded, parameters)
        decoded = decoded + (yield from self._pass("y1", second, masks[1], HIGHEST_INTER, tables.inter_y))
        return BaseFeatures(self.point, codec.synthesis(decoded * self.steps, self.context))
