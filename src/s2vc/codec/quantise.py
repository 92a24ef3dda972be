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
_LARGEST = 16  # magnitudes above it are rounded to the nearest
_LIMIT = 32767


class RateAwareRounding:
    """Rounds residuals for given tables."""

    def __init__(self, tables: Tables) -> None:
        index = np.arange(len(tables), dtype=np.uint8)
        magnitudes = range(_LARGEST + 1)
        cost = np.stack([tables.bits(np.full(len(tables), k), index) for k in magnitudes], axis=1)
        # threshold[i, k]: below it, a value between k and k + 1 becomes k under table i.
        self._threshold = (0.5 + KAPPA * np.diff(cost, axis=1)).astype(np.float32)

    def __call__(self, residual: NDArray[np.float32], index: NDArray[np.uint8]) -> NDArray[np.int32]:
        """residual: float32, any shape; index: table indices of that shape. Skipped ones become 0."""
        magnitude = np.minimum(np.abs(residual), _LIMIT)
        whole = np.floor(magnitude).astype(np.int32)
        threshold = self._threshold[index, np.minimum(whole, _LARGEST - 1)]
        threshold = np.where(whole < _LARGEST, threshold, np.float32(0.5))
        # A step of more than one magnitude is not offered, so a threshold above one acts as one.
        rounded = whole + (magnitude - whole >= threshold)
        return np.where(index > 0, np.sign(residual) * rounded, 0).astype(np.int32)
