"""What a frame costs at each quality: a curve for I- and one for P-frames, levels that follow the content."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from s2vc.codec.layers import Layer

QUALITIES = 64
Bits = NDArray[np.float64]

FRAMING_BITS = 32.0
"""What the container adds to a frame, about: its length, its checksum, its share of the chunk's head."""

# Where every model starts: quality is a logarithm of the step size, so log2 of bits is near a straight
# line. What frames really cost bends it.
_START_STEP = 0.055
_LEAST_STEP = 0.005  # costs rise, so that a budget has one quality
_BITS_A_PIXEL = {Layer.INTRA: 0.35, Layer.KEY: 0.08, Layer.BETWEEN: 0.01}

# Frames that the levels' exponential averages look back.
_MEMORY = {Layer.INTRA: 2.0, Layer.KEY: 3.0, Layer.BETWEEN: 8.0}


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


class LayerCurves:
    """A curve of I-frames and one of P-frames by their own quality, seen by the quality asked for."""

    def __init__(self) -> None:
        self._intra, self._inter = BitsCurve(), BitsCurve()

    def _curve(self, layer: Layer) -> BitsCurve:
        return self._intra if layer is Layer.INTRA else self._inter

    def values(self, layer: Layer) -> NDArray[np.float64]:
        """log2 of a frame's bits at each quality asked for, against those of its own quality 0: (64,)."""
        return self._curve(layer).values[[layer.quality(asked) for asked in range(QUALITIES)]]

    def learn(self, layer: Layer, first: int, second: int, rise: float, doubt: float) -> None:
        """As BitsCurve's, for a frame of the layer and two qualities asked for."""
        self._curve(layer).learn(layer.quality(first), layer.quality(second), rise, doubt)


class BitsModel:
    """log2 bits = level + curve[quality]; a level for each layer, averaged over what was coded.

    Qualities are those asked for (of key frames).
    """

    def __init__(self, pixels: int) -> None:
        self.curves = LayerCurves()
        middle = QUALITIES // 2
        self._level = {
            layer: float(np.log2(_BITS_A_PIXEL[layer] * pixels) - self.curves.values(layer)[middle])
            for layer in Layer
        }
        self._seen = dict.fromkeys(Layer, 0)

    def bits(self, layer: Layer) -> Bits:
        """Expected bits of a frame at each quality, framing included, float64 (64,), never falling."""
        return np.exp2(self._level[layer] + self.curves.values(layer)) + FRAMING_BITS

    def learn(self, layer: Layer, quality: int, bits: float) -> None:
        """A frame of ``bits``, framing included, was coded."""
        payload = max(bits - FRAMING_BITS, 8.0)
        error = float(np.log2(payload) - self._level[layer] - self.curves.values(layer)[quality])
        self._seen[layer] += 1
        self._level[layer] += error / min(self._seen[layer], _MEMORY[layer])
        for other in Layer:
            if not self._seen[other]:
                # Until its kind was seen: what is costly as an I-frame tends to be as P-frames.
                self._level[other] += error / 2


def inter_bits(frame_bits: Callable[[Layer], Bits], period: int) -> Bits:
    """What P-frames cost on average, key frames and those between them."""
    return (frame_bits(Layer.KEY) + (period - 1) * frame_bits(Layer.BETWEEN)) / period


def quality_at(costs: Bits, budget: float) -> float:
    """The quality, a real number 0 … 63, at which ``costs`` (64,), which never fall, meet ``budget``."""
    if budget <= costs[0]:
        return 0.0
    return float(np.interp(np.log2(budget), np.log2(costs), np.arange(QUALITIES)))
