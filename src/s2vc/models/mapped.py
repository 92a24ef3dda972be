"""A safetensors file read tensor by tensor, by more than its memory's worth."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from torch import Tensor

MOST_MAPPED = 256 << 20  # bytes


class MappedFile:
    """Tensors by key. They are mapped from disk; what was read and is no longer used leaves memory again.

    Raises OSError or SafetensorError for a file that is missing, cut or none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = safe_open(path, framework="pt")
        self._read = 0

    def keys(self) -> list[str]:
        return list(self._file.keys())

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(key).get_shape())

    def read(self, key: str) -> Tensor:
        tensor = self._file.get_tensor(key)
        self._read += tensor.nbytes
        if self._read > MOST_MAPPED:
            # A mapping keeps every page that was touched for as long as it lasts.
            self._file, self._read = safe_open(self.path, framework="pt"), 0
        return tensor
