"""Checkpoints and exported models as the trainer reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from s2vc.errors import ModelError
from s2vc.models.files import FORMAT, ModelFile

CHECKPOINT = "checkpoint.safetensors"


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A checkpoint's tensors and description; ModelError where it is none."""
    try:
        with safe_open(path, framework="pt") as stream:
            description = stream.metadata() or {}
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot read checkpoint {path} ({error}): name a run's folder or its checkpoint"
        ) from None
    if "progress" not in description:
        raise ModelError(f"{path} is not a checkpoint: name a run's folder or its checkpoint")
    return tensors, description


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """EMA weights of a run's folder or checkpoint, or the weights of an exported model, and a description."""
    path = path / CHECKPOINT if path.is_dir() else path
    try:
        with safe_open(path, framework="pt") as stream:
            exported = (stream.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path} ({error}): name a run, a checkpoint or a model") from None
    if exported:
        model = ModelFile.open(path)
        return _exported_weights(model), {"config": json.dumps(model.config)}
    tensors, description = read_checkpoint(path)
    return {k[4:]: v for k, v in tensors.items() if k.startswith("ema.")}, description


def _exported_weights(model: ModelFile) -> dict[str, Tensor]:
    """A model file's tensors under the trainer's names; the entropy model's integers as floats."""
    arrays = model.tensors("codec.", "generator.", "entropy.")
    weights: dict[str, Tensor] = {}
    for name, array in arrays.items():
        value = torch.from_numpy(array.astype(np.float32))
        if name == "entropy.hyper.index":
            weights["entropy.hyper_index"] = value + 0.5  # the export rounds down
        elif name.startswith("entropy."):
            layer, kind = name.rsplit(".", 1)
            if kind != "shift":
                weights[name] = value / 2.0 ** int(arrays[f"{layer}.shift"].item())
        else:
            weights[name] = value
    return weights
