"""Metrics of change over time on motion that is known."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from s2vc.bench.metrics import Meter
from s2vc.bench.metrics.chunk import dense_flow

NAMES = ["warping-error-dis", "tof-dis"]


def texture(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.clip(128 + 180 * smooth, 0, 255).astype(np.uint8)


def moving(step: int, count: int = 4) -> list[np.ndarray]:
    """A window of 64 × 80 that a texture passes, ``step`` pixels to the left a frame."""
    wide = texture()
    return [wide[16:80, 16 + step * t : 96 + step * t] for t in range(count)]


def measured(source: list[np.ndarray], decoded: list[np.ndarray]) -> dict:  # type: ignore[type-arg]
    (result,) = Meter(NAMES).measure(source, [decoded])
    assert isinstance(result, dict)
    return result


def test_flow_points_where_the_picture_went() -> None:
    first, second = moving(3, 2)
    (flow,) = dense_flow(first[None], second[None])
    inner = flow[8:-8, 16:-16]
    assert np.median(inner[..., 0]) == pytest.approx(-3, abs=0.05)
    assert np.median(inner[..., 1]) == pytest.approx(0, abs=0.05)


def test_flow_does_not_depend_on_threads() -> None:
    random = np.random.default_rng(3).integers(0, 256, (2, 1, 90, 120, 3), dtype=np.uint8)
    threads = cv2.getNumThreads()
    try:
        fields = []
        for count in (1, 2, 5):
            cv2.setNumThreads(count)
            fields.append(dense_flow(*random))
    finally:
        cv2.setNumThreads(threads)
    for other in fields[1:]:
        np.testing.assert_array_equal(other, fields[0])


def test_tof_is_the_length_of_the_flows_difference() -> None:
    still = moving(0)
    assert measured(still, still)["tof-dis"]["mean"] == 0
    # the decoding moves by two pixels where the source stands still
    result = measured(still, moving(2))["tof-dis"]
    assert result["frames"] == pytest.approx([2] * 3, abs=0.25) and len(result["frames"]) == 3


def test_warping_error_is_small_where_motion_explains_the_change() -> None:
    source = moving(2)
    clean = measured(source, source)["warping-error-dis"]
    assert clean["mean"] == clean["source"]
    unmoved = np.mean([np.square(a / 255 - b / 255).mean() for a, b in pairwise(source)])
    assert clean["mean"] < 0.1 * 1000 * unmoved
    # every second picture brighter by 20 levels: no motion explains it
    flashing = [np.clip(p, 0, 230) + np.uint8(20 * (t % 2)) for t, p in enumerate(source)]
    result = measured(source, flashing)["warping-error-dis"]
    assert result["mean"] == pytest.approx(1000 * (20 / 255) ** 2, rel=0.2)
    assert result["source"] == clean["mean"]


def test_a_cut_counts_whole() -> None:
    black, white = (np.full((32, 32, 3), level, np.uint8) for level in (0, 255))
    result = measured([black, white], [black, white])["warping-error-dis"]
    assert result["frames"] == [1000.0]
