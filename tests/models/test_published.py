"""The published release's tensors: every one has a place here, and every one of ours a source there."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from s2vc.models.published import config_of, layout
from s2vc.nn.base.config import BaseConfig

ARCHIVES = {
    "intra": "I_ckpts/onedc_lmbda<L>/model_1.safetensors",
    "generator": "P_ckpts/lmbda<L>/model.safetensors",
    "inter": "P_ckpts/lmbda<L>/model_1.safetensors",
    "vae": "SD_ckpts/stable-diffusion-2-1/vae/diffusion_pytorch_model.safetensors",
}


@pytest.fixture(scope="module")
def inventory(reference_dir):
    """(archive, key) -> shape, as published."""
    files = json.loads((reference_dir / "official_keys.json").read_text())["files"]
    return {
        (archive, key): tuple(tensor["shape"])
        for archive, file in ARCHIVES.items()
        for key, tensor in files[file]["tensors"].items()
    }


@pytest.fixture(scope="module")
def ours():
    return layout(BaseConfig())


def test_the_layout_is_the_published_inventory(inventory, ours):
    assert {(tensor.archive, tensor.key): tensor.shape for tensor in ours} == inventory


def test_every_tensor_has_one_name_and_one_source(ours):
    for named in (Counter(t.name for t in ours), Counter((t.archive, t.key) for t in ours)):
        assert set(named.values()) == {1}


def test_shapes_say_the_configuration(ours):
    shapes = {name: {t.key: t.shape for t in ours if t.archive == name} for name in ARCHIVES}
    assert config_of(shapes) == BaseConfig()
