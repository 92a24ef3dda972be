"""Which quality would meet a budget: the three ways of rate control (docs/rate-control.md).

A plan is asked before each frame and told afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from s2vc.codec.bits_model import FRAMING_BITS, QUALITIES, Bits, BitsCurve, BitsModel, quality_at

_SHORTEST_HORIZON = 2.0  # seconds over which a surplus is spent or a debt paid back
_LONGEST_HORIZON = 20.0
_DEBT_SECONDS = 60.0  # of the budget: what a stream of unknown length carries forward at most


class Plan(Protocol):
    curves: dict[bool, BitsCurve]
    """By whether a frame is an I-frame; what one pass learnt of them the next one starts from."""

    def wanted(self, intra: bool, time: float) -> float:
        """The quality for the next frame, at ``time`` seconds: a real number 0 … 63."""

    def rethink(self, quality: int, bits: float) -> float:
        """The quality for the next frame, an I-frame, now known to cost ``bits`` at ``quality``."""

    def frame_bits(self, intra: bool) -> Bits:
        """Expected bits of the next frame at each quality, float64 (64,), rising."""

    def least_after(self) -> float:
        """Expected bits of all frames behind the next one at the lowest quality; 0 if nobody knows."""

    def coded(self, intra: bool, quality: int, bits: float) -> None:
        """The next frame was coded."""

    def container(self, bits: float) -> None:
        """Bits of the container that the frames' framing did not count (fewer: negative)."""


class ConstantQuality:
    """No budget: for a buffer alone."""

    def __init__(self, quality: int, pixels: int) -> None:
        self.quality = quality
        self._model = BitsModel(pixels)
        self.curves = self._model.curves

    def wanted(self, intra: bool, time: float) -> float:
        return float(self.quality)

    def rethink(self, quality: int, bits: float) -> float:
        return float(quality)

    def frame_bits(self, intra: bool) -> Bits:
        return self._model.bits(intra)

    def least_after(self) -> float:
        return 0.0

    def coded(self, intra: bool, quality: int, bits: float) -> None:
        self._model.learn(intra, quality, bits)

    def container(self, bits: float) -> None:
        pass


class AverageRate:
    """One pass: the quality at which the next frames would cost what is due for them, less the debt so far.

    The horizon is one interval of I-frames, so that there is about one of them in it, and shrinks to what is
    left of a stream whose length is known.

    rate: bits a second, or bits a frame with ``per_frame``. seconds: what a frame lasts, at first; then the
    average so far. keyint: frames. frames: in all, where it is known.
    """

    def __init__(
        self,
        rate: float,
        *,
        per_frame: bool = False,
        pixels: int,
        seconds: float,
        keyint: int,
        frames: int | None = None,
    ) -> None:
        self._rate, self._per_frame, self._keyint, self._frames = rate, per_frame, keyint, frames
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
        model.learn(True, quality, bits)
        return self._solve(True, model)

    def _solve(self, intra: bool, model: BitsModel) -> float:
        horizon = self._horizon
        if self._frames is not None:
            horizon = min(horizon, max(1, self._frames - self._done))
        intras = self._intras(intra, horizon)
        costs = intras * model.bits(True) + (horizon - intras) * model.bits(False)
        return quality_at(costs, self._rate * self._frame * horizon - self._debt)

    def _intras(self, intra: bool, horizon: int) -> int:
        """I-frames among the next ``horizon`` frames, as far as the interval tells."""
        first = 0 if intra else max(1, self._keyint - self._since_intra - 1)
        return 0 if first >= horizon else 1 + (horizon - first - 1) // self._keyint

    def frame_bits(self, intra: bool) -> Bits:
        return self._model.bits(intra)

    def least_after(self) -> float:
        if self._frames is None:
            return 0.0
        return max(0, self._frames - self._done - 1) * float(self.frame_bits(False)[0])

    def coded(self, intra: bool, quality: int, bits: float) -> None:
        self._model.learn(intra, quality, bits)
        self._since_intra = 0 if intra else self._since_intra + 1
        self._debt += bits
        self._done += 1
        if self._done == self._frames:
            self._frames = None  # if more come, the number was an estimate

    def container(self, bits: float) -> None:
        self._debt += bits


@dataclass(frozen=True)
class CodedFrame:
    """A frame of the pass before: bits with framing."""

    intra: bool
    quality: int
    bits: float


_DOUBT = 2.0  # of a frame's rise over another pass: what it leans on has changed, too
_FOLLOW = {True: 2.0, False: 12.0}  # frames that the correction's average looks back


class KnownFrames:
    """Two passes: the one quality at which all that is left would cost what is left of the budget.

    A frame's cost is taken from the pass before, moved along the curve to another quality. What this pass
    shows corrects both: how steep the curve is here, and by how much frames come out dearer than expected.

    total: bits for all frames, framing included. frames: the pass before, in order. curves: what it learnt.
    """

    def __init__(self, total: float, frames: Sequence[CodedFrame], curves: dict[bool, BitsCurve]) -> None:
        self.curves = curves
        self._left = total
        self._frames = frames
        self._rest = {True: np.zeros(QUALITIES), False: np.zeros(QUALITIES)}  # payload bits by quality then
        for frame in frames:
            self._rest[frame.intra][frame.quality] += self._payload(frame)
        self._done = 0
        self._error = {True: 0.0, False: 0.0}
        self._seen = {True: 0, False: 0}

    @staticmethod
    def _payload(frame: CodedFrame) -> float:
        return max(frame.bits - FRAMING_BITS, 8.0)

    @property
    def _now(self) -> CodedFrame:
        return self._frames[min(self._done, len(self._frames) - 1)]

    def _rest_bits(self, skip: CodedFrame | None = None) -> Bits:
        count = max(0, len(self._frames) - self._done - (skip is not None))
        costs = np.full(QUALITIES, FRAMING_BITS * count)
        for intra, rest in self._rest.items():
            rest = rest.copy()
            if skip is not None and skip.intra == intra:
                rest[skip.quality] = max(0.0, rest[skip.quality] - self._payload(skip))
            curve = self.curves[intra].values
            costs += np.exp2(curve + self._error[intra]) * float(rest @ np.exp2(-curve))
        return costs

    def wanted(self, intra: bool, time: float) -> float:
        if self._done >= len(self._frames):
            return 0.0
        return quality_at(np.maximum(self._rest_bits(), 1.0), self._left)

    def rethink(self, quality: int, bits: float) -> float:
        if self._done >= len(self._frames):
            return 0.0
        curve = self.curves[True].values
        cost = np.exp2(curve - curve[quality]) * (bits - FRAMING_BITS) + FRAMING_BITS
        return quality_at(self._rest_bits(self._now) + cost, self._left)

    def frame_bits(self, intra: bool) -> Bits:
        frame = self._now
        payload = np.full(QUALITIES, np.log2(self._payload(frame)))
        if frame.intra == intra:
            curve = self.curves[intra].values
            payload += curve - curve[frame.quality] + self._error[intra]
        return np.exp2(payload) + FRAMING_BITS

    def least_after(self) -> float:
        return float(self._rest_bits(self._now)[0]) if self._done < len(self._frames) else 0.0

    def coded(self, intra: bool, quality: int, bits: float) -> None:
        self._left -= bits
        if self._done >= len(self._frames):
            return
        frame = self._now
        if frame.intra == intra:
            curve = self.curves[intra]
            rise = float(np.log2(max(bits - FRAMING_BITS, 8.0) / self._payload(frame)))
            error = rise - float(curve.values[quality] - curve.values[frame.quality])
            curve.learn(frame.quality, quality, rise - self._error[intra], _DOUBT)
            self._seen[intra] += 1
            # shrunk to none: one frame's noise is not the film's
            self._error[intra] += (error - self._error[intra]) / min(self._seen[intra] + 1, _FOLLOW[intra])
        rest = self._rest[frame.intra]
        rest[frame.quality] = max(0.0, rest[frame.quality] - self._payload(frame))
        self._done += 1

    def container(self, bits: float) -> None:
        self._left -= bits
