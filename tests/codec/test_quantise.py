"""Rate-aware rounding."""

from __future__ import annotations

import numpy as np

from s2vc.codec.quantise import RateAwareRounding
from s2vc.entropy.tables import Tables, default_scales

TABLES = Tables.gaussian(default_scales())


def test_it_is_the_nearest_or_one_magnitude_less():
    random = np.random.default_rng(1)
    residual = random.normal(0, 4, (200, 50)).astype(np.float32)
    index = random.integers(1, 64, residual.shape).astype(np.uint8)
    rounded = RateAwareRounding(TABLES)(residual, index)
    less = np.abs(np.rint(residual)) - np.abs(rounded)
    assert set(np.unique(less)) == {0, 1}
    assert (TABLES.bits(rounded, index) <= TABLES.bits(np.rint(residual).astype(int), index) + 1e-9).all()


def test_skipped_residuals_are_zero_and_huge_ones_fit_16_bits():
    residual = np.array([5.0, -1e9, 1e9, 40.7], np.float32)
    index = np.array([0, 63, 63, 63], np.uint8)
    assert RateAwareRounding(TABLES)(residual, index).tolist() == [0, -32767, 32767, 41]


def test_the_dearer_the_bits_the_wider_zero():
    rounding = RateAwareRounding(TABLES)
    reach = [
        rounding(np.arange(0, 2, 0.01, dtype=np.float32), np.full(200, i, np.uint8)) for i in (1, 20, 60)
    ]
    zeros = [int((values == 0).sum()) for values in reach]
    assert zeros[0] > zeros[1] > zeros[2] >= 50
