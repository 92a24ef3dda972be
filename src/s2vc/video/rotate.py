"""Turning pictures upright, for outputs that cannot say that they are turned."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def turned(rgb: NDArray[np.uint8], rotation: int) -> NDArray[np.uint8]:
    """``rgb`` turned clockwise by 0, 90, 180 or 270 degrees, contiguous."""
    return np.ascontiguousarray(np.rot90(rgb, -rotation // 90)) if rotation else rgb


def turned_aspect(aspect: Fraction, rotation: int) -> Fraction:
    """Sample aspect ratio after the turn."""
    return 1 / aspect if rotation in (90, 270) else aspect
