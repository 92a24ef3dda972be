"""The encoder's motion search finds what moved, and spends no bits where nothing did."""

from __future__ import annotations

import numpy as np
import pytest

from s2vc.codec.motion_search import MotionSearch
from s2vc.codec.tiny import search_smoothness
from s2vc.entropy.motion import LIMIT, motion_bits


@pytest.fixture(scope="module")
def picture(scene):
    return scene(1, 256, 160)[0]


def moved(picture, dx, dy):
    return np.roll(picture, (dy, dx), (0, 1))


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (-5, 4), (0, -7), (12, 9)])
def test_a_shift_is_found(picture, shift):
    dx, dy = shift
    field = MotionSearch()(moved(picture, dx, dy), picture, search_smoothness(63))
    inner = field[1:-1, 1:-1].reshape(-1, 2)  # what came in at the border has no origin
    assert field.dtype == np.int16 and field.shape == (10, 16, 2)
    assert np.median(np.abs(inner + 4 * np.array(shift)).max(1)) == 0


def test_nothing_moves_nothing_is_spent(picture):
    noise = np.random.default_rng(1).integers(-3, 4, picture.shape)
    noisy = np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8)
    field = MotionSearch()(noisy, picture, search_smoothness(32))
    assert not field.any()
    assert motion_bits(field, field).sum() < 0.1 * field.shape[0] * field.shape[1]


def test_noise_does_not_part_what_moves_together(picture):
    noise = np.random.default_rng(3).integers(-25, 26, picture.shape)
    current = np.clip(moved(picture, 5, -3).astype(int) + noise, 0, 255).astype(np.uint8)
    field = MotionSearch()(current, picture, 60.0)
    assert (field == field[5, 8]).all(-1)[1:-1, 1:-1].mean() > 0.95
    assert motion_bits(field).sum() < 0.5 * field.shape[0] * field.shape[1]


def test_fewer_bits_at_lower_quality(scene):
    noise = np.random.default_rng(1).integers(-40, 41, (2, 160, 256, 3))
    first, second = (
        np.clip(picture.astype(int) + n, 0, 255).astype(np.uint8)
        for picture, n in zip(scene(8, 256, 160)[::7], noise, strict=True)
    )
    search = MotionSearch()
    cost = [motion_bits(search(second, first, search_smoothness(quality))).sum() for quality in (0, 32, 63)]
    assert cost == sorted(cost) and cost[0] < cost[-1]
    assert search_smoothness(0) == pytest.approx(200) and search_smoothness(63) == pytest.approx(12)


@pytest.mark.parametrize("size", [(16, 16), (16, 160), (160, 16), (32, 32), (48, 16)])
def test_any_size_any_content(size):
    draw = np.random.default_rng(5)
    for make in (lambda: draw.integers(0, 256, (*size, 3)), lambda: draw.choice([0, 255], (*size, 3))):
        current, reference = make().astype(np.uint8), make().astype(np.uint8)
        previous = None
        for _ in range(2):
            field = MotionSearch()(current, reference, 20.0, previous)
            assert field.shape == (size[0] // 16, size[1] // 16, 2)
            assert np.abs(field).max() <= LIMIT
            previous = field


def test_the_same_field_every_time(picture):
    current = moved(picture, 3, -2)
    fields = [MotionSearch()(current, picture, 30.0) for _ in range(2)]
    np.testing.assert_array_equal(*fields)


def test_what_was_searched_before_does_not_matter(scene):
    """OpenCV's flow keeps settings that it chose for small pictures."""
    noise = np.random.default_rng(2).integers(-40, 41, (2, 160, 256, 3))
    first, second = (
        np.clip(picture.astype(int) + n, 0, 255).astype(np.uint8)
        for picture, n in zip(scene(12, 256, 160)[::11], noise, strict=True)
    )
    used = MotionSearch()
    used(*scene(2, 32, 32), 20.0)
    np.testing.assert_array_equal(used(second, first, 20.0), MotionSearch()(second, first, 20.0))
