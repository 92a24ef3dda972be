"""Where published weight files are found. Nothing is ever downloaded."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from s2vc.errors import ModelError

WEIGHTS_VARIABLE = "S2VC_WEIGHTS_DIR"
"""Environment variable that names the folder of weight files when no folder is given."""


def find_weights(name: str, folder: str | Path | None = None) -> Path:
    """Path of ``name``.safetensors in ``folder``, else in the folder that S2VC_WEIGHTS_DIR names.

    An explicit folder is the only one looked at. Raises ModelError when the file is not there.
    """
    chosen = folder if folder is not None else os.environ.get(WEIGHTS_VARIABLE) or None
    file = f"{name}.safetensors"
    if chosen is None:
        raise ModelError(
            f"weights {file} are needed and no folder is named: set {WEIGHTS_VARIABLE} or give --weights-dir"
        )
    path = Path(chosen) / file
    if not path.is_file():
        raise ModelError(f"no {file} in {chosen}: put it there, or name its folder with --weights-dir")
    return path


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def load_weights(name: str, folder: str | Path | None = None) -> dict[str, torch.Tensor]:
    """All tensors of a weight file as float32 on the CPU (files store some of them as float16)."""
    path = find_weights(name, folder)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: fetch the file again") from error
    return {key: value.float() for key, value in tensors.items()}
