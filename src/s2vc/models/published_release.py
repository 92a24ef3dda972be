"""A published release on disk: its rate points, its archives, and whether they are what they should be.

Layout (ARCHITECTURE §1.1, §11): ``I_ckpts/<I folder>/model_1.safetensors``, ``P_ckpts/<P folder>`` with
``model.safetensors`` (generator) and ``model_1.safetensors`` (P codec), the autoencoder under ``SD_ckpts``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError

from s2vc.errors import InputError, ModelError
from s2vc.models.mapped import MappedFile
from s2vc.models.published import Shapes, Tensor, config_of, layout
from s2vc.nn.base.config import BaseConfig

DESCRIPTION = "s2vc-release.json"
"""In a release of other widths or other points: what it is (:meth:`Description.of`)."""

_VAE = "SD_ckpts/stable-diffusion-2-1/vae/diffusion_pytorch_model.safetensors"
_LFS = b"version https://git-lfs"
# Stable Diffusion's older names of the same layers.
_OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def _published_points() -> dict[str, tuple[str, str]]:
    """Rate points from the fewest bits to the most: a larger lambda means fewer bits (ARCHITECTURE §11)."""
    pairs = {"5.2": "12.2", "3.7": "7.4", "2.6": "4.6", "1.8": "2.9", "1.2": "2.9"}
    pairs |= dict.fromkeys(("0.6", "0.4", "0.2"), "1.8")
    return {video: (f"lmbda{video}", f"onedc_lmbda{still}") for video, still in pairs.items()}


@dataclass(frozen=True)
class Description:
    """What a release holds: its points, from the fewest bits to the most, each a (P folder, I folder).

    ``config``: the geometry its tensors must have; None: any.
    """

    points: Mapping[str, tuple[str, str]]
    config: BaseConfig | None = None
    alpha: float = 8.0
    window: int = 16

    @classmethod
    def of(cls, folder: Path) -> Description:
        """The published release, or what ``s2vc-release.json`` in the folder says.

        ``points``: name -> [P folder, I folder]; ``alpha`` of the adapters; ``window`` of the autoencoder's
        attention.
        """
        path = folder / DESCRIPTION
        if not path.is_file():
            return cls(_published_points(), BaseConfig())
        try:
            said = json.loads(path.read_text())
            points = {str(name): (str(p), str(i)) for name, (p, i) in said["points"].items()}
            return cls(points, None, float(said["alpha"]), int(said["window"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} describes no release ({error!r}): correct or remove it") from None


class Archive:
    """One safetensors file of a release, read tensor by tensor."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as stream:
                pointer = stream.read(len(_LFS)) == _LFS
            if pointer:
                raise InputError(
                    f"{path} is a Git LFS pointer, not the weights: fetch it with 'git lfs pull'"
                )
            self._file = MappedFile(path)
        except FileNotFoundError:
            raise InputError(
                f"{path} is missing: fetch it, or name the points you have with --points"
            ) from None
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} is cut or damaged ({error}): fetch it again") from None
        # Sizes are the header's word; a file that ends early was refused above.
        self.shapes = {key: self._file.shape(key) for key in self._file.keys()}  # noqa: SIM118

    def read(self, key: str) -> torch.Tensor:
        return self._file.read(key)


def _source_key(tensor: Tensor, shapes: Shapes) -> str:
    """The tensor's key in its archive; the autoencoder's attention may carry older names."""
    if tensor.archive == "vae" and tensor.key not in shapes:
        for new, old in _OLD_NAMES.items():
            renamed = tensor.key.replace(f".{new}.", f".{old}.")
            if renamed in shapes:
                return renamed
    return tensor.key


class Release:
    """A release that is whole, of one geometry, and mapped tensor by tensor.

    Raises InputError or ModelError, in one line, for a missing, cut or foreign archive, and where a tensor is
    missing, unknown or of another shape.
    """

    def __init__(
        self, folder: Path, points: Sequence[str] | None = None, description: Description | None = None
    ) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder: name the folder that holds I_ckpts and P_ckpts")
        described = description or Description.of(folder)
        self.folder = folder
        self.points = select(described, points)
        self._archives: dict[str, Archive] = {}
        self._paths: dict[tuple[str, str], str] = {}
        for point in self.points:
            inter, intra = described.points[point]
            self._paths |= {
                (point, "intra"): f"I_ckpts/{intra}/model_1.safetensors",
                (point, "generator"): f"P_ckpts/{inter}/model.safetensors",
                (point, "inter"): f"P_ckpts/{inter}/model_1.safetensors",
                (point, "vae"): _VAE,
            }
        # All archives first: what is missing is said before anything is looked into.
        for path in dict.fromkeys(self._paths.values()):
            self._archives[path] = Archive(folder / path)
        self.config = self._config(described)
        self.tensors = layout(self.config)
        self._keys: dict[tuple[str, str], str] = {}
        for path in self._archives:
            kind = next(kind for (_, kind), found in self._paths.items() if found == path)
            self._map(path, [tensor for tensor in self.tensors if tensor.archive == kind])

    @cached_property
    def bytes(self) -> int:
        """Bytes of all archives."""
        return sum(archive.path.stat().st_size for archive in self._archives.values())

    def path(self, point: str, tensor: Tensor) -> str:
        """The archive that holds a point's tensor, from the release's folder."""
        return self._paths[point, tensor.archive]

    def read(self, path: str, tensor: Tensor) -> torch.Tensor:
        """A tensor as the archive has it, in our shape."""
        return self._archives[path].read(self._keys[path, tensor.name]).reshape(tensor.shape)

    def _config(self, described: Description) -> BaseConfig:
        """The one geometry of all points."""
        found: dict[BaseConfig, str] = {}
        for point in self.points:
            kinds = ("intra", "generator", "inter", "vae")
            shapes = {kind: self._archives[self._paths[point, kind]].shapes for kind in kinds}
            try:
                config = config_of(shapes, described.alpha, described.window)
            except (KeyError, IndexError) as error:
                raise ModelError(
                    f"{self.folder}: tensor {error.args[0]} is missing, so this is not the published system: "
                    "check what was fetched"
                ) from None
            generator = config.generator
            for codec, name in ((config.intra, "intra"), (config.inter, "inter")):
                if (codec.output, codec.token) != (generator.input, generator.token):
                    raise ModelError(
                        f"{self._paths[point, name]} and {self._paths[point, 'generator']} do not belong "
                        "together: pair them as the release does"
                    )
            found.setdefault(config, point)
        if len(found) > 1:
            raise ModelError(
                f"points {' and '.join(found.values())} are of different widths: import them apart"
            )
        config = next(iter(found))
        if described.config not in (None, config):
            raise ModelError(f"{self.folder} is a system of other widths than the published one: check it")
        return config

    def _map(self, path: str, expected: Sequence[Tensor]) -> None:
        """Give each of our tensors its key in an archive; nothing may be missing, left over or misshapen."""
        shapes = self._archives[path].shapes
        unused = set(shapes)
        for tensor in expected:
            key = _source_key(tensor, shapes)
            if key not in shapes:
                raise ModelError(f"{path}: tensor {tensor.key} is missing: fetch the archive again")
            # Old autoencoders keep their linear layers as 1x1 convolutions.
            if tuple(n for n in shapes[key] if n != 1) != tuple(n for n in tensor.shape if n != 1):
                raise ModelError(
                    f"{path}: tensor {key} is {shapes[key]}, not {tensor.shape}: fetch the archive again"
                )
            self._keys[path, tensor.name] = key
            unused.discard(key)
        if unused:
            raise ModelError(
                f"{path}: {min(unused)} is no tensor of the published system"
                + (f" (nor are {len(unused) - 1} others)" if len(unused) > 1 else "")
                + ": check what was fetched"
            )


def select(described: Description, points: Sequence[str] | None) -> list[str]:
    """The points asked for (all: None), from the fewest bits to the most."""
    unknown = [point for point in points or () if point not in described.points]
    if unknown:
        raise InputError(f"there is no point {unknown[0]}: choose from {', '.join(described.points)}")
    return [point for point in described.points if points is None or point in points]
