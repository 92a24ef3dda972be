"""A run's EMA weights into a model file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2vc.entropy.tables import Tables, default_scales
from s2vc.errors import OutputError
from s2vc.models.files import ModelFile, write_model
from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.model import TinyModel
from s2vc.training.checkpoint import read_weights


def model_tensors(model: TinyModel) -> dict[str, NDArray[Any]]:
    """Float parts as float16, the entropy model and its tables as integers."""
    tensors: dict[str, NDArray[Any]] = {}
    for part in ("codec", "generator"):
        for name, value in getattr(model, part).state_dict().items():
            tensors[f"{part}.{name}"] = value.detach().cpu().contiguous().numpy().astype(np.float16)
    tensors |= {f"entropy.{name}": array for name, array in model.entropy.export().items()}
    tables = Tables.gaussian(default_scales()).to_arrays()
    return tensors | {f"tables.{name}": array for name, array in tables.items()}


def export(checkpoint: Path, target: Path, *, model_id: str | None = None, overwrite: bool = False) -> str:
    """Write a model file from a checkpoint or a run's folder; returns a line that describes it."""
    weights, description = read_weights(checkpoint)
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists: give -y to overwrite it, or another name")
    config = TinyConfig(**json.loads(description["config"]))
    model = TinyModel(config)
    model.load_state_dict(weights)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_model(target, "tiny", model_id or target.stem, asdict(config), model_tensors(model))
    written = ModelFile.open(target)
    size = target.stat().st_size / 1e6
    return f"model {written.id}, digest {written.digest.hex()}, {size:.1f} MB"
