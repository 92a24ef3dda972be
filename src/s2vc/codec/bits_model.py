"""What a frame costs at each quality: a curve for I- and one for P-frames, levels that follow the content."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUALITIES = 64
Bits = NDArray[np.float64]

FRAMING_BITS = 32.0
"""What the container adds to a frame, about: its length, its checksum, its share of the chunk's head."""

_KNOTS = (0, 16, 32, 48, 63)
# log2 of a frame's bits against those at quality 32, and bits a pixel there: tiny-1 on the tuning clips
# (docs/rate-control.md). Only a start: levels follow what frames really cost.
_CURVES = {True: (-2.3, -1.25, 0.0, 0.9, 1.55), False: (-0.7, -0.45, 0.0, 0.82, 2.4)}
_BITS_A_PIXEL = {True: 0.35, False: 0.02}

CURVE: dict[bool, Bits] = {
    intra: np.interp(np.arange(QUALITIES), _KNOTS, values) for intra, values in _CURVES.items()
}
"""log2 of bits against those at quality 32, float64 (64,), rising; by whether the frame is an I-frame."""

_MEMORY = {True: 2.0, False: 8.0}  # frames that the levels' exponential averages look back


class BitsModel:
    """log2 bits = level + curve[quality]; a level each for I- and P-frames, averaged over what was coded."""

    def __init__(self, pixels: int) -> None:
        self._level = {intra: float(np.log2(_BITS_A_PIXEL[intra] * pixels)) for intra in (True, False)}
        self._seen = {True: 0, False: 0}

    def bits(self, intra: bool) -> Bits:
        """Expected bits of a frame at each quality, framing included, float64 (64,), rising."""
        return np.exp2(self._level[intra] + CURVE[intra]) + FRAMING_BITS

    def learn(self, intra: bool, quality: int, bits: float) -> None:
        """A frame of ``bits``, framing included, was coded."""
        payload = max(bits - FRAMING_BITS, 8.0)
        error = float(np.log2(payload) - self._level[intra] - CURVE[intra][quality])
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
