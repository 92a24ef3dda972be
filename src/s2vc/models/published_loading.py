"""Model folders, and rate points' networks from their tensors, adapters merged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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
from s2vc.nn.base.model import GENERATORS, NETWORKS


class Read(Protocol):
    """Gives a tensor by its name in :func:`s2vc.models.published.layout`; without ``dtype`` as stored."""

    def __call__(self, name: str, dtype: torch.dtype | None = None) -> Tensor: ...


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
            return cls(
                path,
                index["id"],
                bytes.fromhex(index["digest"]),
                index["dtype"],
                config_from(index["config"]),
                tuple(index["points"]),
                {name: tuple(points) for name, points in index["files"].items()},
            )
        except OSError as error:
            raise ModelError(f"{path} is not a model folder ({error.strerror}): check the name") from None
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path}/{INDEX} is damaged ({error!r}): import the release again") from None

    def reader(self, point: str) -> PointTensors:
        """What gives a point's tensors."""
        return PointTensors(self, point)


def config_from(held: Mapping[str, Mapping[str, Any]]) -> BaseConfig:
    """A configuration as JSON holds it. Raises KeyError or TypeError."""
    parts: dict[str, dict[str, Any]] = {
        part: {key: tuple(v) if isinstance(v, list) else v for key, v in widths.items()}
        for part, widths in held.items()
    }
    return BaseConfig(
        IntraConfig(**parts["intra"]),
        InterConfig(**parts["inter"]),
        GeneratorConfig(**parts["generator"]),
        VaeConfig(**parts["vae"]),
    )


class PointTensors:
    """A rate point's tensors, a ``Read``: mapped from disk, not copied."""

    def __init__(self, folder: ModelFolder, point: str) -> None:
        self.folder, self.point = folder, point
        self._places: dict[str, MappedFile] = {}
        for name, points in folder.files.items():
            if point not in points:
                continue
            try:
                archive = MappedFile(folder.path / name)
            except (OSError, SafetensorError) as error:
                raise ModelError(
                    f"{folder.path / name} is missing or damaged ({error}): import again"
                ) from None
            self._places |= dict.fromkeys(archive.keys(), archive)

    def place(self, name: str) -> MappedFile:
        """The file that holds a tensor, for this point and maybe others."""
        if name not in self._places:
            raise ModelError(
                f"{self.folder.path} lacks tensor {name} of point {self.point}: import the release again"
            )
        return self._places[name]

    def __call__(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        return self.place(name).read(name).to(dtype=dtype)


class DeviceTensors:
    """Tensors of a model folder on one device. A switch to another point reads what differs.

    Those that were read for the point asked for last stay there, but for names that begin with one of
    ``passing``.
    """

    def __init__(self, folder: ModelFolder, device: torch.device, passing: tuple[str, ...] = ()) -> None:
        self.folder, self.device, self.passing = folder, device, passing
        self._source: PointTensors | None = None
        self._kept: dict[tuple[str, torch.dtype | None], Tensor] = {}

    def reader(self, point: str) -> Read:
        """What gives a point's tensors."""
        return lambda name, dtype=None: self._read(point, name, dtype)

    def _read(self, point: str, name: str, dtype: torch.dtype | None) -> Tensor:
        if self._source is None or self._source.point != point:
            self._source = self._switch(point)
        if (name, dtype) in self._kept:
            return self._kept[name, dtype]
        tensor = self._source(name).to(self.device, dtype)
        if not name.startswith(self.passing):
            self._kept[name, dtype] = tensor
        return tensor

    def _switch(self, point: str) -> PointTensors:
        before, after = self._source, self.folder.reader(point)
        self._kept = {
            (name, dtype): tensor
            for (name, dtype), tensor in self._kept.items()
            if before is not None and before.place(name).path == after.place(name).path
        }
        return after


class PublishedNetworks:
    """Networks of a model folder's points, for inference on one device.

    One generator has weights at a time: to be another's, of frames, point or dtype, it is written anew from
    what is on the device. ``offload``: from the disk.
    """

    def __init__(self, folder: ModelFolder, device: torch.device, offload: bool = False) -> None:
        self.config = folder.config
        self._tensors = DeviceTensors(folder, device, ("generator.", "adapters.") if offload else ())
        self._generators: dict[str, nn.Module] = {}
        self._written: tuple[str, str, torch.dtype] | None = None

    def load(self, point: str, name: str, dtype: torch.dtype) -> nn.Module:
        """A network of ``NETWORKS``; a generator keeps its weights until the next is asked for."""
        read = self._tensors.reader(point)
        if name not in GENERATORS:
            return build(self.config, read, name, dtype)
        if name not in self._generators:
            self._generators[name] = empty(self.config, name)
        network, wanted = self._generators[name], (point, name, dtype)
        if wanted != self._written or next(network.parameters()).is_meta:
            for other in self._generators.values():
                other.to("meta")  # makes room
            self._written = None
            write(network, self.config, read, name, dtype)
            self._written = wanted
        return network


def build(config: BaseConfig, read: Read, name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network of ``NETWORKS`` by name, for inference. Raises RuntimeError, see ``write``."""
    network = empty(config, name)
    write(network, config, read, name, dtype)
    return network


def empty(config: BaseConfig, name: str) -> nn.Module:
    """A network of ``NETWORKS`` without weights."""
    with torch.device("meta"):
        return NETWORKS[name](config).eval().requires_grad_(False)


def write(network: nn.Module, config: BaseConfig, read: Read, name: str, dtype: torch.dtype) -> None:
    """Give a network its weights, where ``read`` has them. Adapters are merged in float32.

    Weights are ``read``'s own tensors where nothing is merged. Raises RuntimeError where a tensor is of
    another shape.
    """
    frames, generates, _ = name.partition("_generator")
    folder = "generator" if generates else name
    adapted = set(adapted_layers(network)) if isinstance(network, Generator) else set()
    scale = config.generator.alpha / config.generator.rank
    state = {}
    for key in network.state_dict():
        layer, _, kind = key.rpartition(".")
        if layer in adapted and kind == "weight":
            down, up = (read(f"adapters.{frames}.{layer}.{part}") for part in ("down", "up"))
            state[key] = merge(read(f"{folder}.{key}").float(), down, up, scale).to(dtype)
        else:
            exact = generates and key.startswith("reduction.")
            state[key] = read(f"{folder}.{key}", torch.float32 if exact else dtype)
    network.load_state_dict(state, assign=True)
