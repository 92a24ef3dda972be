"""Tables and elementwise rules of the published system on recorded grids."""

from __future__ import annotations

import pytest
import torch

from s2vc.nn.base.generator import alphas_cumprod
from s2vc.nn.base.prior import (
    four_pass_masks,
    gaussian_bits,
    gaussian_training_bits,
    scale_index,
    two_pass_masks,
)

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def tables(reference):
    return reference.load("tables")


def agree(ours, recorded, tolerance):
    assert ours.shape == recorded.shape
    assert (ours - recorded).abs().max() <= tolerance * recorded.abs().max()


def test_noise_schedule(tables):
    agree(alphas_cumprod(), tables["alphas_cumprod"], 1e-7)


def test_scale_indices(tables):
    assert torch.equal(scale_index(tables["p.index_scale_in"]), tables["p.index_out"])


def test_scale_table_is_where_indices_begin(tables):
    scales = tables["p.scale_table"]
    assert torch.equal(scale_index(scales * (1 + 1e-5)).long(), torch.arange(len(scales)))


def test_finite_scalar_quantiser(tables, model):
    quantiser = model.intra.quantiser
    index = quantiser.index(tables["fsq.in"])
    assert torch.equal(index.int(), tables["fsq.index"])
    assert torch.equal(quantiser.decode(index), tables["fsq.out"])
    assert torch.equal(quantiser.decode(tables["fsq.index_in"]), tables["fsq.codes_of_index"])


@pytest.mark.parametrize("kind", ["i", "p"])
def test_gaussian_rates(kind, tables):
    y, scales = tables["y_grid"], tables["scale_grid"]
    # Differences of float32 numbers near 1: float64 parts from those recorded by 3.7e-4 (docs/decisions.md).
    agree(gaussian_bits(y, scales), tables[f"{kind}.y_grid_bits_eval"], 5e-4)
    agree(gaussian_training_bits(y, scales), tables[f"{kind}.y_grid_bits_train"], 2e-4)


@pytest.mark.parametrize("form", ["eval", "train"])
def test_factorised_rates(form, tables, model):
    agree(model.inter.hyper_prior.bits(tables["p.z_grid"]), tables[f"p.z_grid_bits_{form}"], 3e-5)


@pytest.mark.parametrize("height, width", [(4, 8), (5, 7)])
def test_masks(height, width, tables):
    size = f"{height}x{width}"
    assert torch.equal(four_pass_masks(4, height, width).float(), tables[f"i.mask_four_{size}"])
    assert torch.equal(two_pass_masks(4, height, width).float(), tables[f"p.mask_dual_{size}"])
