"""The lapped transform: an orthonormal basis of pictures, borders included."""

from __future__ import annotations

import pytest
import torch

from s2vc.nn.lapped import (
    BLOCK,
    LappedTransform,
    lapped_basis,
    mirror_fold,
    mirror_pad,
    select_coefficients,
)

SIZES = [(16, 16), (16, 48), (64, 32), (80, 112)]
EVERYTHING = 3 * BLOCK * BLOCK


@pytest.fixture(scope="module")
def transform():
    """All 768 coefficients, in float64."""
    return LappedTransform(EVERYTHING).double().requires_grad_(False)


def picture(height, width):
    return torch.rand(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_the_basis_is_orthonormal_within_and_across_blocks():
    basis = lapped_basis()
    eye = torch.eye(BLOCK, dtype=torch.float64)
    assert torch.allclose(basis @ basis.T, eye, atol=1e-12)
    assert torch.allclose(basis[:, BLOCK:] @ basis[:, :BLOCK].T, 0 * eye, atol=1e-12)


def test_its_functions_fade_out_and_one_is_flat():
    basis = lapped_basis()
    # A constant signal is the first function's alone: no ripple at block edges.
    assert torch.allclose(basis.sum(1)[1:], torch.zeros(BLOCK - 1, dtype=torch.float64), atol=1e-12)
    assert basis[:, [0, -1]].abs().max() < 0.2 * basis.abs().max()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_perfect_reconstruction_and_energy(transform, size):
    x = picture(*size)
    y = transform(x)
    assert y.shape == (2, EVERYTHING, size[0] // BLOCK, size[1] // BLOCK)
    # The module's weights start in float32.
    assert torch.allclose(transform.inverse(y), x, atol=1e-6)
    assert torch.allclose((y**2).sum(), (x**2).sum(), rtol=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_part_of_it_is_the_best_approximation(size):
    transform = LappedTransform(24).double().requires_grad_(False)
    x = picture(*size)
    y = transform(x)
    approximation = transform.inverse(y)
    assert torch.allclose(transform(approximation), y, atol=1e-5)
    assert abs(float((approximation * (x - approximation)).sum())) < 1e-4


def test_flat_pictures_need_one_coefficient_a_colour(transform):
    x = torch.tensor([10.0, 200.0, 90.0], dtype=torch.float64)[None, :, None, None].expand(1, 3, 48, 32)
    y = transform(x)[0]
    flat = [place for place, (_, u, v) in enumerate(select_coefficients(EVERYTHING)) if u == v == 0]
    assert len(flat) == 3
    others = torch.ones(EVERYTHING, dtype=torch.bool)
    others[flat] = False
    assert y[others].abs().max() < 1e-3 < y[flat].abs().min()


def test_coefficients_are_chosen_by_variance_each_once():
    everything = select_coefficients(EVERYTHING)
    assert len(set(everything)) == EVERYTHING
    assert everything[0] == (0, 0, 0)
    assert select_coefficients(40) == everything[:40]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_borders_are_mirrored(size):
    x = picture(*size)
    padded = mirror_pad(x)
    assert padded.shape == (2, 3, size[0] + 16, size[1] + 16)
    for k in range(8):
        assert torch.equal(padded[..., 8:-8, 7 - k], x[..., k])
        assert torch.equal(padded[..., 8:-8, -8 + k], x[..., -1 - k])
        assert torch.equal(padded[..., 7 - k, 8:-8], x[..., k, :])
        assert torch.equal(padded[..., -8 + k, 8:-8], x[..., -1 - k, :])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_folding_is_padding_backwards(size):
    x = picture(*size)
    y = torch.rand_like(mirror_pad(x))
    assert torch.allclose((mirror_pad(x) * y).sum(), (x * mirror_fold(y)).sum(), rtol=1e-12)
