"""Shards: tar files in WebDataset's layout, read in place.

A sample is one scene at one scale: ``NAME.frames.npy`` (uint8 (T, H, W, 3)), ``NAME.motion_STEP.npy`` and
``NAME.json``; NAME holds no dot. Arrays lie uncompressed in the tar file, so they are memory-mapped where
they are: a shard needs no cache and no decoding. Other programs read it with the ``webdataset`` package.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from s2vc.errors import InputError

Sample = tuple[str, NDArray[np.uint8], dict[int, NDArray[np.int16]]]


def open_shard(path: Path) -> Iterator[Sample]:
    """(name, frames, fields by step) of every sample of a shard. InputError where it is damaged."""
    try:
        with tarfile.open(path, "r:") as tar:
            arrays: dict[str, dict[str, NDArray[Any]]] = {}
            for member in tar:
                name, _, rest = member.name.partition(".")
                if rest.endswith(".npy"):
                    arrays.setdefault(name, {})[rest[:-4]] = _mapped(path, member)
    except (OSError, tarfile.TarError, ValueError) as error:
        raise InputError(f"shard {path} cannot be read ({error}): make it again with s2vc pack") from error
    for name, parts in arrays.items():
        if "frames" not in parts:
            raise InputError(f"shard {path}: sample {name} has no frames: make it again with s2vc pack")
        motion = {int(k[7:]): np.array(v) for k, v in sorted(parts.items()) if k.startswith("motion_")}
        yield name, parts["frames"], motion


def _mapped(path: Path, member: tarfile.TarInfo) -> NDArray[Any]:
    with path.open("rb") as stream:
        stream.seek(member.offset_data)
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        start = stream.tell()
    if dtype.hasobject or start - member.offset_data + dtype.itemsize * int(np.prod(shape)) > member.size:
        raise ValueError(f"{member.name} is not a plain array")
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


class ShardWriter:
    """Writes samples into ``FOLDER/shard-00000.tar`` and so on, a new one before ``limit`` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.count, self.samples = 0, 0
        self._tar: tarfile.TarFile | None = None
        self._size = 0

    def write(self, name: str, arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]) -> None:
        """One sample; ``arrays`` by their names without ``.npy``."""
        size = sum(array.nbytes for array in arrays.values())
        if self._tar is None or (self._size and self._size + size > self.limit):
            self.close()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._path = self.folder / f"shard-{self.count:05d}.tar"
            self._tar = tarfile.TarFile(self._path.with_suffix(".tmp"), "w", format=tarfile.GNU_FORMAT)
            self._size = 0
        for key, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(array))
            self._add(f"{name}.{key}.npy", buffer.getvalue())
        self._add(f"{name}.json", json.dumps(dict(description), sort_keys=True).encode())
        self._size += size
        self.samples += 1

    def _add(self, name: str, content: bytes) -> None:
        assert self._tar is not None
        member = tarfile.TarInfo(name)  # time and owner stay 0: the same clips give the same bytes
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))

    def close(self) -> None:
        """Finish the open shard: it appears under its name when whole."""
        if self._tar is not None:
            self._tar.close()
            self._path.with_suffix(".tmp").replace(self._path)
            self.count += 1
            self._tar = None
