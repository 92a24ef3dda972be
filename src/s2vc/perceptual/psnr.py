"""PSNR of 8-bit pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PSNR_CAP = 100.0
"""PSNR of equal pictures, in dB."""


def psnr(mean_squared_error: float) -> float:
    """dB for errors of 8-bit pictures, at most PSNR_CAP."""
    if mean_squared_error <= 0:
        return PSNR_CAP
    return min(PSNR_CAP, float(10 * np.log10(255**2 / mean_squared_error)))


def mean_squared_error(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Of 8-bit samples, any shape."""
    return float(np.square(a.astype(np.int32) - b).mean())
