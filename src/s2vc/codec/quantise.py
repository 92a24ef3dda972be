"""Rate-aware rounding of latents: an encoder's choice, which no decoder needs to know.

A residual r is rounded to one magnitude less than the nearest where the bits that saves outweigh the
distortion it adds: |r| − (k − 1) < ½ + κ · (bits(k) − bits(k − 1)), in units of the quantiser step. With
distortion the square of the error and λ proportional to the step's square, κ is the same at every quality.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from s2vc.entropy.tables import Tables

# Chosen on tuning clips with the first weights (docs/decisions.md).
KAPPA = 0.03
# What a bit of a P-frame's block must buy, in squared steps of squared error: twice what it must in rounding.
BLOCK_PRICE = 4 * KAPPA
LARGEST = 16  # magnitudes above it are rounded to the nearest
_LIMIT = 32767


def thresholds(tables: Tables, kappa: float) -> NDArray[np.float32]:
    """(tables, LARGEST): what a value between k and k + 1 must lie above k to become k + 1."""
    index = np.arange(len(tables), dtype=np.uint8)
    cost = np.stack([tables.bits(np.full(len(tables), k), index) for k in range(LARGEST + 1)], axis=1)
    return (0.5 + kappa * np.diff(cost, axis=1)).astype(np.float32)


class RateAwareRounding:
    """Rounds residuals for given tables."""

    def __init__(self, tables: Tables) -> None:
        self._threshold = thresholds(tables, KAPPA)

    def __call__(self, residual: NDArray[np.float32], index: NDArray[np.uint8]) -> NDArray[np.int32]:
        """residual: float32, any shape; index: table indices of that shape. Skipped ones become 0."""
        magnitude = np.minimum(np.abs(residual), _LIMIT)
        whole = np.floor(magnitude).astype(np.int32)
        threshold = self._threshold[index, np.minimum(whole, LARGEST - 1)]
        threshold = np.where(whole < LARGEST, threshold, np.float32(0.5))
        # A step of more than one magnitude is not offered, so a threshold above one acts as one.
        rounded = whole + (magnitude - whole >= threshold)
        return np.where(index > 0, np.sign(residual) * rounded, 0).astype(np.int32)
