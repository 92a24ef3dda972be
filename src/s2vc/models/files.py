"""Model files: safetensors with a JSON description, named by the digest of their content (DESIGN §9).

Metadata: ``format`` ("s2vc-model"), ``version``, ``preset``, ``id``, ``config`` (JSON). Tensors of ``tiny``:
``codec.*`` and ``generator.*`` float16, ``entropy.*`` and ``tables.*`` integers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from s2vc.errors import ModelError

FORMAT, VERSION = "s2vc-model", 1
SUFFIX = ".safetensors"
INDEX = "model.json"
EMBEDDED = Path(__file__).parent / "weights"
DEFAULT = "tiny"


def digest_of(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """SHA-256 over name, dtype, shape and little-endian bytes of every tensor, in order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        little = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
        total.update(f"{name}\0{tensor.dtype.name}\0{','.join(map(str, tensor.shape))}\0".encode())
        total.update(little.tobytes())
    return total.digest()


@dataclass(frozen=True)
class ModelFile:
    """A model on disk; tensors are read when asked for."""

    path: Path
    preset: str
    id: str
    config: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> ModelFile:
        """Read a model file's description, or a model folder's; ModelError names what is wrong with it."""
        if path.is_dir():
            return cls._open_folder(path)
        try:
            with safe_open(path, framework="numpy") as stream:
                metadata = stream.metadata() or {}
        except FileNotFoundError:
            raise ModelError(f"model {path} does not exist: check the name") from None
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} is not a model of s2vc ({error}): fetch it again") from None
        if metadata.get("format") != FORMAT:
            raise ModelError(f"{path} is not a model of s2vc: make one with 's2vc export'")
        try:
            if int(metadata.get("version", "0")) > VERSION:
                raise ModelError(f"{path} is of a newer model format: update s2vc")
            return cls(path, metadata["preset"], metadata["id"], dict(json.loads(metadata["config"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path}: its description is damaged ({error}): fetch it again") from None

    @classmethod
    def _open_folder(cls, path: Path) -> ModelFile:
        """What ``s2vc import-published`` made of a release; weights are read with the networks."""
        try:
            index = json.loads((path / INDEX).read_text())
            return cls(path, index["preset"], index["id"], index)
        except OSError:
            raise ModelError(
                f"{path} is a folder without {INDEX}: make a model of a release with 's2vc import-published'"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path / INDEX} is damaged ({error!r}): import the release again") from None

    def tensors(self, *prefixes: str) -> dict[str, NDArray[Any]]:
        """Tensors whose names begin with one of the prefixes (all of them without any)."""
        with safe_open(self.path, framework="numpy") as stream:
            names = [n for n in stream.keys() if not prefixes or n.startswith(prefixes)]  # noqa: SIM118
            return {name: stream.get_tensor(name) for name in names}

    @cached_property
    def digest(self) -> bytes:
        """The first eight bytes of the content's SHA-256: what files of this model carry."""
        if "digest" in self.config:  # of a folder: of what it was imported from
            return bytes.fromhex(self.config["digest"])[:8]
        return digest_of(self.tensors())[:8]


def write_model(
    path: Path, preset: str, model_id: str, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]
) -> None:
    """Write a model file; the same content gives the same bytes."""
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "preset": preset,
        "id": model_id,
        "config": json.dumps(dict(config), sort_keys=True),
    }
    path.write_bytes(
        _canonical(save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, metadata))
    )


def _canonical(content: bytes) -> bytes:
    """A safetensors file with its header's keys in order: the library writes the description's in any."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def embedded_models() -> list[ModelFile]:
    """The models in the package, oldest first: ``tiny-9`` before ``tiny-10``."""
    paths = sorted(EMBEDDED.glob(f"*{SUFFIX}"), key=lambda path: (len(path.name), path.name))
    return [ModelFile.open(path) for path in paths]


def find_model(name: str) -> ModelFile:
    """A model by path, by id ("tiny-1") or by preset ("tiny": its newest).

    Raises ModelError where there is none.
    """
    if name.endswith(SUFFIX) or "/" in name or (Path(name) / INDEX).is_file():
        return ModelFile.open(Path(name))
    known = embedded_models()
    for model in reversed(known):
        if name in (model.id, model.preset):
            return model
    names = ", ".join(model.id for model in known) or "none"
    raise ModelError(f"there is no model {name} here (there are: {names}): give a name or a path")


def find_model_of(model_id: str, digest: bytes, given: str | None = None) -> ModelFile:
    """The model a file was coded with; ``given``: where else to look. ModelError names what is needed."""
    named = [] if given is None else [find_model(given)]
    for model in [*named, *embedded_models()]:
        if model.id == model_id and model.digest == digest:
            return model
    found = "which is not here"
    if named:
        found = f"and {given} is {named[0].id} ({named[0].digest.hex()})"
    raise ModelError(f"the file needs model {model_id} ({digest.hex()}), {found}: name its file with --model")
