"""One rate point's networks from its tensors, adapters merged."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from s2vc.models.published import ADAPTERS, adapted_layers
from s2vc.nn.base.adapters import merge
from s2vc.nn.base.config import BaseConfig
from s2vc.nn.base.generator import Generator
from s2vc.nn.base.model import BaseModel


def build(config: BaseConfig, read: Callable[[str], Tensor]) -> BaseModel:
    """The networks of a rate point, for inference, on the CPU.

    ``read``: gives a tensor by its name in :func:`s2vc.models.published.layout`, of any float dtype; the
    networks keep what it gives. Raises RuntimeError where a tensor is of another shape.
    """
    with torch.device("meta"):
        model = BaseModel(config)
    for name in ("intra", "inter", "vae"):
        network = getattr(model, name)
        network.load_state_dict({key: read(f"{name}.{key}") for key in network.state_dict()}, assign=True)
    for frames in ADAPTERS:
        generator: Generator = getattr(model, f"{frames}_generator")
        adapted = {f"{layer}.weight": f"adapters.{frames}.{layer}" for layer in adapted_layers(generator)}
        state = {}
        for key in generator.state_dict():
            state[key] = weight = read(f"generator.{key}")
            if key in adapted:
                down, up = read(f"{adapted[key]}.down"), read(f"{adapted[key]}.up")
                state[key] = merge(weight, down, up, config.generator.alpha / config.generator.rank)
        generator.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)
