"""Which quality would meet a budget: the three ways of rate control (docs/rate-control.md).

A plan is asked before each frame and told afterwards. Qualities are those of key frames; a frame between
two of them has its own from its layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from s2vc.codec.bits_model import (
    FRAMING_BITS,
    QUALITIES,
    Bits,
    BitsModel,
    LayerCurves,
    inter_bits,
    quality_at,
)
from s2vc.codec.layers import Layer

_SHORTEST_HORIZON = 2.0  # seconds over which a surplus is spent or a debt paid back
_LONGEST_HORIZON = 20.0
_DEBT_SECONDS = 60.0  # of the budget: what a stream of unknown length carries forward at most


class Plan(Protocol):
    period: int
    """Frames from key frame to key frame."""
    curves: LayerCurves
    """What one pass learnt of them the next one starts from."""

    def wanted(self, intra: bool, time: float) -> float:
        """The quality for the next frame, at ``time`` seconds: a real number 0 … 63."""

    def rethink(self, quality: int, bits: float) -> float:
        """The quality for the next frame, an I-frame, now known to cost ``bits`` at ``quality``."""

    def frame_bits(self, layer: Layer) -> Bits:
        """Expected bits of the next frame at each quality, were it of that layer: float64 (64,), never
        falling."""

    def least_after(self) -> float:
        """Expected bits of all frames behind the next one at the lowest quality; 0 if nobody knows."""

    def coded(self, layer: Layer, quality: int, bits: float) -> None:
        """The next frame was coded."""

    def container(self, bits: float) -> None:
        """Bits of the container that the frames' framing did not count (fewer: negative)."""


class ConstantQuality:
    """No budget: for a buffer alone."""

    def __init__(self, quality: int, pixels: int, period: int) -> None:
        self.quality, self.period = quality, period
        self._model = BitsModel(pixels)
        self.curves = self._model.curves

    def wanted(self, intra: bool, time: float) -> float:
        return float(self.quality)

    def rethink(self, quality: int, bits: float) -> float:
        return float(quality)

    def frame_bits(self, layer: Layer) -> Bits:
        return self._model.bits(layer)

    def least_after(self) -> float:
        return 0.0

    def coded(self, layer: Layer, quality: int, bits: float) -> None:
        self._model.learn(layer, quality, bits)

    def container(self, bits: float) -> None:
        pass


class AverageRate:
    """One pass: the quality at which the next frames would cost what is due for them, less the debt so far.

    The horizon is one interval of I-frames, so that there is about one of them in it, and shrinks to what is
    left of a stream whose length is known.

    rate: bits a second, or bits a frame with ``per_frame``. seconds: what a frame lasts, at first; then the
    average so far. keyint, period: frames. frames: in all, where it is known.
    """

    def __init__(
        self,
        rate: float,
        *,
        per_frame: bool = False,
        pixels: int,
        seconds: float,
        keyint: int,
        period: int,
        frames: int | None = None,
    ) -> None:
        self._rate, self._per_frame, self._keyint, self._frames = rate, per_frame, keyint, frames
        self.period = period
        self._frame = 1.0 if per_frame else seconds
        self._horizon = int(
            np.clip(keyint, np.ceil(_SHORTEST_HORIZON / seconds), np.ceil(_LONGEST_HORIZON / seconds))
        )
        self._largest_debt = rate * self._frame * _DEBT_SECONDS / seconds
        self._model = BitsModel(pixels)
        self.curves = self._model.curves
        self._done = 0
        self._since_intra = 0
        self._debt = 0.0
        self._last: float | None = None
        self._first = 0.0

    def wanted(self, intra: bool, time: float) -> float:
        clock = float(self._done) if self._per_frame else time
        if self._last is None:
            self._first = clock
        else:
            self._debt -= self._rate * (clock - self._last)
            if self._frames is None:
                self._debt = float(np.clip(self._debt, -self._largest_debt, self._largest_debt))
        self._last = clock
        if self._done and clock > self._first:
            self._frame = (clock - self._first) / self._done
        return self._solve(intra, self._model)

    def rethink(self, quality: int, bits: float) -> float:
        model = deepcopy(self._model)
        model.learn(Layer.INTRA, quality, bits)
        return self._solve(True, model)

    def _solve(self, intra: bool, model: BitsModel) -> float:
        horizon = self._horizon
        if self._frames is not None:
            horizon = min(horizon, max(1, self._frames - self._done))
        # Frames since the last I-frame, as far as the interval tells.
        age = 0 if intra else min(self._since_intra + 1, self._keyint - 1)
        ages = (age + np.arange(horizon)) % self._keyint
        intras = np.count_nonzero(ages == 0)
        keys = np.count_nonzero(ages % self.period == 0) - intras
        costs = intras * model.bits(Layer.INTRA) + keys * model.bits(Layer.KEY)
        costs = costs + (horizon - intras - keys) * model.bits(Layer.BETWEEN)
        return quality_at(costs, self._rate * self._frame * horizon - self._debt)

    def frame_bits(self, layer: Layer) -> Bits:
        return self._model.bits(layer)

    def least_after(self) -> float:
        if self._frames is None:
            return 0.0
        return max(0, self._frames - self._done - 1) * float(inter_bits(self.frame_bits, self.period)[0])

    def coded(self, layer: Layer, quality: int, bits: float) -> None:
        self._model.learn(layer, quality, bits)
        self._since_intra = 0 if layer is Layer.INTRA else self._since_intra + 1
        self._debt += bits
        self._done += 1
        if self._done == self._frames:
            self._frames = None  # if more come, the number was an estimate

    def container(self, bits: float) -> None:
        self._debt += bits


@dataclass(frozen=True)
class CodedFrame:
    """A frame of the pass before: bits with framing."""

    layer: Layer
    quality: int
    bits: float


_DOUBT = 2.0  # of a frame's rise over another pass: what it leans on has changed, too
# Frames that the corrections' averages look back.
_FOLLOW = {Layer.INTRA: 2.0, Layer.KEY: 4.0, Layer.BETWEEN: 12.0}


class KnownFrames:
    """Two passes: the one quality at which all that is left would cost what is left of the budget.

    A frame's cost is taken from the pass before, moved along the curve to another quality. What this pass
    shows corrects both: how steep the curve is here, and by how much frames come out dearer than expected.

    total: bits for all frames, framing included. frames: the pass before, in order. curves: what it learnt.
    """

    def __init__(self, total: float, frames: Sequence[CodedFrame], curves: LayerCurves, period: int) -> None:
        self.curves, self.period = curves, period
        self._left = total
        self._frames = frames
        self._rest = {layer: np.zeros(QUALITIES) for layer in Layer}  # payload bits by quality then
        for frame in frames:
            self._rest[frame.layer][frame.quality] += self._payload(frame)
        self._done = 0
        self._error = dict.fromkeys(Layer, 0.0)
        self._seen = dict.fromkeys(Layer, 0)

    @staticmethod
    def _payload(frame: CodedFrame) -> float:
        return max(frame.bits - FRAMING_BITS, 8.0)

    @property
    def _now(self) -> CodedFrame:
        return self._frames[min(self._done, len(self._frames) - 1)]

    def _rest_bits(self, skip: CodedFrame | None = None) -> Bits:
        count = max(0, len(self._frames) - self._done - (skip is not None))
        costs = np.full(QUALITIES, FRAMING_BITS * count)
        for layer, rest in self._rest.items():
            rest = rest.copy()
            if skip is not None and skip.layer is layer:
                rest[skip.quality] = max(0.0, rest[skip.quality] - self._payload(skip))
            curve = self.curves.values(layer)
            costs += np.exp2(curve + self._error[layer]) * float(rest @ np.exp2(-curve))
        return costs

    def wanted(self, intra: bool, time: float) -> float:
        if self._done >= len(self._frames):
            return 0.0
        return quality_at(np.maximum(self._rest_bits(), 1.0), self._left)

    def rethink(self, quality: int, bits: float) -> float:
        if self._done >= len(self._frames):
            return 0.0
        curve = self.curves.values(Layer.INTRA)
        cost = np.exp2(curve - curve[quality]) * (bits - FRAMING_BITS) + FRAMING_BITS
        return quality_at(self._rest_bits(self._now) + cost, self._left)

    def frame_bits(self, layer: Layer) -> Bits:
        """As the next one of that layer in the pass before; where none is left, as the next frame."""
        rest = map(self._frames.__getitem__, range(self._done, len(self._frames)))
        frame = next((frame for frame in rest if frame.layer is layer), self._now)
        payload = np.full(QUALITIES, np.log2(self._payload(frame)))
        if frame.layer is layer:
            curve = self.curves.values(layer)
            payload += curve - curve[frame.quality] + self._error[layer]
        return np.exp2(payload) + FRAMING_BITS

    def least_after(self) -> float:
        return float(self._rest_bits(self._now)[0]) if self._done < len(self._frames) else 0.0

    def coded(self, layer: Layer, quality: int, bits: float) -> None:
        self._left -= bits
        if self._done >= len(self._frames):
            return
        frame = self._now
        if frame.layer is layer:
            curve = self.curves.values(layer)
            rise = float(np.log2(max(bits - FRAMING_BITS, 8.0) / self._payload(frame)))
            error = rise - float(curve[quality] - curve[frame.quality])
            self.curves.learn(layer, frame.quality, quality, rise - self._error[layer], _DOUBT)
            self._seen[layer] += 1
            # shrunk to none: one frame's noise is not the film's
            self._error[layer] += (error - self._error[layer]) / min(self._seen[layer] + 1, _FOLLOW[layer])
        rest = self._rest[frame.layer]
        rest[frame.quality] = max(0.0, rest[frame.quality] - self._payload(frame))
        self._done += 1

    def container(self, bits: float) -> None:
        self._left -= bits
