"""Model folders, and a rate point's networks from its tensors, adapters merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from s2vc.errors import ModelError
from s2vc.models.files import INDEX
from s2vc.models.mapped import MappedFile
from s2vc.models.published import adapted_layers
from s2vc.nn.base.adapters import merge
from s2vc.nn.base.config import BaseConfig, GeneratorConfig, InterConfig, IntraConfig, VaeConfig
from s2vc.nn.base.generator import Generator
from s2vc.nn.base.model import NETWORKS


@dataclass(frozen=True)
class ModelFolder:
    """An imported release. ``points``: names, from the fewest bits to the most; ``digest``: 32 bytes."""

    path: Path
    id: str
    digest: bytes
    dtype: str
    config: BaseConfig
    points: tuple[str, ...]
    files: dict[str, tuple[str, ...]]

    @classmethod
    def open(cls, path: Path) -> ModelFolder:
        """Read a model folder's index; ModelError names what is wrong with it."""
        try:
            index = json.loads((path / INDEX).read_text())
            if index["format"] != "s2vc-model-folder":
                raise ModelError(f"{path} is not a model folder: make one with 's2vc import-published'")
            if index["version"] > 1:
                raise ModelError(f"{path} is of a newer model format: update s2vc")
            config: dict[str, dict[str, Any]] = {
                part: {key: tuple(v) if isinstance(v, list) else v for key, v in held.items()}
                for part, held in index["config"].items()
            }
            return cls(
                path,
                index["id"],
                bytes.fromhex(index["digest"]),
                index["dtype"],
                BaseConfig(
                    IntraConfig(**config["intra"]),
                    InterConfig(**config["inter"]),
                    GeneratorConfig(**config["generator"]),
                    VaeConfig(**config["vae"]),
                ),
                tuple(index["points"]),
                {name: tuple(points) for name, points in index["files"].items()},
            )
        except OSError as error:
            raise ModelError(f"{path} is not a model folder ({error.strerror}): check the name") from None
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path}/{INDEX} is damaged ({error!r}): import the release again") from None

    def reader(self, point: str) -> Callable[[str], Tensor]:
        """What gives a point's tensors by name. They are mapped from disk, not copied."""
        places: dict[str, MappedFile] = {}
        for name, points in self.files.items():
            if point not in points:
                continue
            try:
                archive = MappedFile(self.path / name)
            except (OSError, SafetensorError) as error:
                raise ModelError(
                    f"{self.path / name} is missing or damaged ({error}): import again"
                ) from None
            places |= dict.fromkeys(archive.keys(), archive)

        def read(name: str) -> Tensor:
            if name not in places:
                raise ModelError(
                    f"{self.path} lacks tensor {name} of point {point}: import the release again"
                )
            return places[name].read(name)

        return read


def build(
    config: BaseConfig,
    read: Callable[[str], Tensor],
    name: str,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """A network of ``NETWORKS`` by name, for inference. One tensor at a time goes to the device (CPU: None).

    ``read``: gives a tensor by its name in :func:`s2vc.models.published.layout`, of any float dtype. Adapters
    are merged in float32. Raises RuntimeError where a tensor is of another shape.
    """
    with torch.device("meta"):
        network = NETWORKS[name](config)
    frames, generates, _ = name.partition("_generator")
    folder = "generator" if generates else name
    adapted = set(adapted_layers(network)) if isinstance(network, Generator) else set()
    scale = config.generator.alpha / config.generator.rank
    state = {}
    for key in network.state_dict():
        tensor = read(f"{folder}.{key}").to(device)
        layer, _, kind = key.rpartition(".")
        if layer in adapted and kind == "weight":
            down, up = (read(f"adapters.{frames}.{layer}.{part}").to(device) for part in ("down", "up"))
            tensor = merge(tensor.float(), down, up, scale)
        exact = generates and key.startswith("reduction.")
        state[key] = tensor.to(torch.float32 if exact else dtype)
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)
