"""Motion compensation against the same thing written pixel by pixel, in integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.nn.motion import motion_compensate, warp_features
from s2vc.nn.origin import interpolate

TAPS = {  # HEVC's luma filters (H.265, table 8-11)
    0: [0, 0, 0, 64, 0, 0, 0, 0],
    1: [-1, 4, -10, 58, 17, -5, 1, 0],
    2: [-1, 4, -11, 40, 40, -11, 4, -1],
    3: [0, 1, -5, 17, 58, -10, 4, -1],
}


def block_value(plane, y, x, vector):
    """One block's prediction of one pixel: reference at (x, y) + vector / 4, in quarters, 0..1020."""
    height, width = plane.shape
    vx, vy = (int(v) for v in vector)
    total = 0
    for j, row_tap in enumerate(TAPS[vy % 4]):
        if row_tap:
            row = plane[min(max(y + vy // 4 + j - 3, 0), height - 1)]
            for i, tap in enumerate(TAPS[vx % 4]):
                if tap:
                    total += row_tap * tap * int(row[min(max(x + vx // 4 + i - 3, 0), width - 1)])
    return min(max((total + 2048) >> 12, 0), 4 * 255)


def weight(position, block, count):
    """A block's weight at a pixel along one axis, in 16ths: it lasts 4 pixels into its neighbours."""
    inside = position - 16 * block  # 0..15 in the block itself
    if inside < 4 and block > 0:
        return max(0, 2 * (inside + 4) + 1)
    if inside >= 12 and block < count - 1:
        return max(0, 2 * (20 - inside) - 1)
    return 16 if 0 <= inside < 16 else 0


def slow(picture, field, pixels):
    """Predictions at (y, x) of ``pixels`` for every plane of a picture (C, H, W) in quarters, in 1024ths."""
    rows, columns, _ = field.shape
    values = []
    for plane in picture:
        for y, x in pixels:
            total = 0
            for row in range(rows):
                for column in range(columns):
                    share = weight(y, row, rows) * weight(x, column, columns)
                    if share:
                        total += share * block_value(plane, y, x, field[row, column])
            values.append(total)
    return np.array(values).reshape(len(picture), len(pixels))


def fast(picture, field):
    """Predictions of a picture in quarters of a level, in 1024ths."""
    result = motion_compensate(torch.from_numpy(picture)[None].float() / 4, torch.from_numpy(field)[None])
    return result[0].numpy() * 1024


def fields(rows, columns, longest=255):
    values = st.integers(-longest, longest)
    return st.lists(values, min_size=2 * rows * columns, max_size=2 * rows * columns).map(
        lambda flat: np.array(flat, np.int16).reshape(rows, columns, 2)
    )


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(1, 1), (1, 3), (2, 1), (3, 2)]), st.data())
def test_equals_the_slow_reference(blocks, data):
    rows, columns = blocks
    field = data.draw(fields(rows, columns, data.draw(st.sampled_from([5, 40, 255]))))
    seed = data.draw(st.integers(0, 2**32 - 1))
    draw = np.random.default_rng(seed)
    # Black and white only: the filters overshoot and must be clamped.
    picture = draw.choice(np.array([0, 4 * 255], np.int16), (2, 16 * rows, 16 * columns))
    pixels = [(int(draw.integers(16 * rows)), int(draw.integers(16 * columns))) for _ in range(40)]
    got = np.array([[plane[y, x] for y, x in pixels] for plane in fast(picture, field)])
    np.testing.assert_array_equal(got, slow(picture, field, pixels))


def test_every_pixel_of_one_field():
    draw = np.random.default_rng(7)
    picture = draw.integers(0, 4 * 255 + 1, (1, 32, 48), dtype=np.int16)
    field = draw.integers(-30, 31, (2, 3, 2)).astype(np.int16)
    pixels = [(y, x) for y in range(32) for x in range(48)]
    np.testing.assert_array_equal(fast(picture, field).reshape(1, -1), slow(picture, field, pixels))


@given(st.integers(-63, 63), st.integers(-63, 63))
@settings(max_examples=30, deadline=None)
def test_whole_pixels_are_shifted_exactly_and_borders_repeat(dx, dy):
    picture = np.random.default_rng(1).integers(0, 4 * 255 + 1, (3, 32, 48), dtype=np.int16)
    field = np.broadcast_to(np.array([4 * dx, 4 * dy], np.int16), (2, 3, 2)).copy()
    y = np.clip(np.arange(32) + dy, 0, 31)
    x = np.clip(np.arange(48) + dx, 0, 47)
    np.testing.assert_array_equal(fast(picture, field), 256 * picture[:, y][:, :, x].astype(int))


def test_results_are_multiples_of_a_1024th_within_the_levels():
    draw = np.random.default_rng(3)
    picture = draw.choice(np.array([0, 4 * 255], np.int16), (3, 64, 64))
    field = draw.integers(-255, 256, (4, 4, 2)).astype(np.int16)
    result = fast(picture, field)
    assert result.min() >= 0 and result.max() <= 1024 * 255
    np.testing.assert_array_equal(result, np.rint(result))
    flat = np.full((3, 64, 64), 77, np.int16)
    np.testing.assert_array_equal(fast(flat, field), 256 * flat.astype(int))


@pytest.mark.parametrize("threads", [1, 2])
def test_exact_in_any_setting(threads):
    draw = np.random.default_rng(4)
    picture = draw.integers(0, 4 * 255 + 1, (3, 64, 96), dtype=np.int16)
    field = draw.integers(-255, 256, (4, 6, 2)).astype(np.int16)
    expected = fast(picture, field)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        torch.backends.mkldnn.set_flags(False)
        np.testing.assert_array_equal(fast(picture, field), expected)
        wide = (torch.from_numpy(picture)[None].float() / 4).to(memory_format=torch.channels_last)
        twice = motion_compensate(wide.repeat(2, 1, 1, 1), torch.from_numpy(field).repeat(2, 1, 1, 1))
        np.testing.assert_array_equal(twice[1].numpy() * 1024, expected)
    finally:
        torch.set_num_threads(before)
        torch.backends.mkldnn.set_flags(True)


def test_gradient_is_the_adjoint_for_whole_pixel_shifts():
    draw = torch.Generator().manual_seed(2)
    picture = torch.randint(0, 256, (1, 3, 48, 48), generator=draw).float().requires_grad_()
    field = torch.tensor([8, -12]).expand(1, 3, 3, 2)
    moved = motion_compensate(picture, field)
    weights = torch.rand(moved.shape, generator=draw)
    (moved * weights).sum().backward()
    assert picture.grad is not None
    with torch.no_grad():
        assert torch.allclose((moved * weights).sum(), (picture * picture.grad).sum(), rtol=1e-5)


def test_features_move_by_eighths_of_pixels():
    features = torch.rand(1, 5, 6, 8, generator=torch.Generator().manual_seed(3))
    still = torch.zeros(1, 3, 4, 2, dtype=torch.int64)
    assert torch.allclose(warp_features(features, still), features, atol=1e-5)
    right = still + torch.tensor([32, 0])  # eight pixels: one position
    assert torch.allclose(warp_features(features, right)[..., :-1], features[..., 1:], atol=1e-5)
    down = still + torch.tensor([0, -32])
    assert torch.allclose(warp_features(features, down)[..., 1:, :], features[..., :-1, :], atol=1e-5)


def test_mixed_precision_leaves_it_exact():
    """Training runs under autocast, and what it learns on is to be what decoders hold."""
    draw = torch.Generator().manual_seed(1)
    picture = torch.randint(0, 1021, (1, 3, 64, 64), generator=draw).float() / 4
    field = torch.randint(-9, 10, (1, 4, 4, 2), generator=draw)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, fine = motion_compensate(picture, field), interpolate(picture)
    assert (mixed.dtype, fine.dtype) == (torch.float32, torch.int16)
    torch.testing.assert_close(mixed, motion_compensate(picture, field), rtol=0, atol=0)
    torch.testing.assert_close(fine, interpolate(picture), rtol=0, atol=0)
