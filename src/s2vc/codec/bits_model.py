"""What a frame costs at each quality: a curve for I- and one for P-frames, levels that follow the content."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUALITIES = 64
Bits = NDArray[np.float64]

FRAMING_BITS = 32.0
"""What the container adds to a frame, about: its length, its checksum, its share of the chunk's head."""

# Where every model starts: quality is a logarithm of the step size, so log2 of bits is near a straight
# line. What frames really cost bends it.
_START_STEP = 0.055
_LEAST_STEP = 0.005  # costs rise, so that a budget has one quality
_BITS_A_PIXEL = {True: 0.35, False: 0.02}

_MEMORY = {True: 2.0, False: 8.0}  # frames that the levels' exponential averages look back


class BitsCurve:
    """log2 of a frame's bits at each quality, against those at quality 0: rising, learned from pairs.

    ``values``: float64 (64,).
    """

    def __init__(self) -> None:
        self._steps = np.full(QUALITIES - 1, _START_STEP)
        self.values = np.r_[0.0, np.cumsum(self._steps)]

    def learn(self, first: int, second: int, rise: float, doubt: float) -> None:
        """Content that costs 2^``rise`` as much at ``second`` as at ``first``. Steps between them move alike.

        doubt: of the rise, in steps of quality that it is worth: pairs less far apart say little.
        """
        run = abs(second - first)
        if not run:
            return
        low, high = min(first, second), max(first, second)
        seen = rise if second > first else -rise
        missing = seen - float(self.values[high] - self.values[low])
        steps = self._steps[low:high]
        steps += missing * run / (run * run + doubt * doubt)
        np.maximum(steps, _LEAST_STEP, out=steps)
        self.values = np.r_[0.0, np.cumsum(self._steps)]


class BitsModel:
    """log2 bits = level + curve[quality]; a level each for I- and P-frames, averaged over what was coded."""

    def __init__(self, pixels: int) -> None:
        self.curves = {True: BitsCurve(), False: BitsCurve()}
        middle = QUALITIES // 2
        self._level = {
            intra: float(np.log2(_BITS_A_PIXEL[intra] * pixels) - curve.values[middle])
            for intra, curve in self.curves.items()
        }
        self._seen = {True: 0, False: 0}

    def bits(self, intra: bool) -> Bits:
        """Expected bits of a frame at each quality, framing included, float64 (64,), rising."""
        return np.exp2(self._level[intra] + self.curves[intra].values) + FRAMING_BITS

    def learn(self, intra: bool, quality: int, bits: float) -> None:
        """A frame of ``bits``, framing included, was coded."""
        payload = max(bits - FRAMING_BITS, 8.0)
        error = float(np.log2(payload) - self._level[intra] - self.curves[intra].values[quality])
        self._seen[intra] += 1
        self._level[intra] += error / min(self._seen[intra], _MEMORY[intra])
        if not self._seen[not intra]:
            # Until the other kind was seen: what is costly as an I-frame tends to be as P-frames.
            self._level[not intra] += error / 2


def quality_at(costs: Bits, budget: float) -> float:
    """The quality, a real number 0 … 63, at which rising ``costs`` (64,) meet ``budget``."""
    if budget <= costs[0]:
        return 0.0
    return float(np.interp(np.log2(budget), np.log2(costs), np.arange(QUALITIES)))
