"""The networks of the mini model."""

from __future__ import annotations

import pytest
import torch

from s2vc.models.files import ModelFile
from s2vc.nn.tiny.codec import TinyCodec
from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.generator import TinyGenerator


def _load(mini, name, network):
    model = ModelFile.open(mini)
    network = network(TinyConfig(**model.config))
    tensors = model.tensors(f"{name}.")
    network.load_state_dict({k[len(name) + 1 :]: torch.from_numpy(v).float() for k, v in tensors.items()})
    return network.requires_grad_(False).eval()


@pytest.fixture(scope="session")
def codec(mini) -> TinyCodec:
    return _load(mini, "codec", TinyCodec)


@pytest.fixture(scope="session")
def generator(mini) -> TinyGenerator:
    return _load(mini, "generator", TinyGenerator)
