"""Checkpoints: everything that a run needs to go on as if it had not stopped, in one safetensors file.

Tensors: ``model.*``, ``ema.*`` (what is exported), ``aux.NAME.*`` (networks that live while training lasts),
``optim.NAME.INDEX.FIELD``, ``carried.*`` (the slots' buffers) and ``sampler``. The description holds
progress, recipe and geometry as JSON.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from s2vc.entropy.tables import Tables
from s2vc.errors import ModelError
from s2vc.models import cards
from s2vc.models.files import FORMAT, INDEX, ModelFile, find_model
from s2vc.training.recipe import Stage
from s2vc.training.tables import FREQUENCIES, frequencies_of, no_frequencies

CHECKPOINT = "checkpoint.safetensors"
CODE_GROUPS = "entropy.codes.groups"  # the same in all models that have it: nothing is trained of it
VERSION = 2  # 1 had neither slots nor a format's name
_FORMAT = "s2vc-checkpoint"


@dataclass
class Progress:
    """How far a run has come. ``history``: what was trained before and in it, stage by stage."""

    stage: int = 0
    stage_steps: int = 0
    stage_seconds: float = 0.0
    steps: int = 0
    seconds: float = 0.0
    pixels: int = 0
    autocast: bool = False
    footage: str = ""  # fingerprint of what sequences are drawn from
    coded: str = ""  # name of the coded passages that the stage learns from
    guard: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """What the log says of it."""
        return {
            "stage_steps": self.stage_steps,
            "step": self.steps,
            "minutes": round(self.seconds / 60, 2),
            "mpixels": round(self.pixels / 1e6, 1),
        }

    def entry(self, stage: Stage) -> dict[str, Any]:
        """What the history says of the stage that it stands in."""
        return {
            "stage": stage.name,
            "kind": stage.kind,
            "steps": self.stage_steps,
            "minutes": round(self.stage_seconds / 60, 2),
            "mpixels": round(math.ceil(self.stage_steps / stage.critic_steps) * stage.pixels / 1e6, 1),
            "losses": {name: getattr(stage.losses, name) for name in stage.terms},
        }


@dataclass
class Checkpoint:
    """What a checkpoint file holds. ``whole``: all weights, not those alone that a foreign model has."""

    tensors: dict[str, Tensor]
    progress: Progress
    preset: str
    config: dict[str, Any]
    recipe: dict[str, Any]
    whole: bool = True

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose names begin with ``prefix``, without it."""
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}

    def history(self) -> list[dict[str, Any]]:
        """All that was trained, the stage that it stands in too."""
        entries = [*self.progress.history]
        if self.progress.stage_steps:
            entries.append(self.progress.entry(self.stage(self.progress.stage)))
        return entries

    def stage(self, number: int) -> Stage:
        """The n-th stage of the run's recipe. Raises ModelError where another version knew other keys."""
        try:
            return Stage.model_validate(self.recipe["stages"][number])
        except ValidationError as error:
            key = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise ModelError(
                f"the run's stage {number + 1} says {key} as this version does not know it: go on with "
                "the version that began it, or begin anew with --start"
            ) from error

    def write(self, path: Path) -> None:
        """Write beside the name and rename, so that a kill never leaves half of one."""
        description = {
            "format": _FORMAT,
            "version": str(VERSION),
            "preset": self.preset,
            "progress": json.dumps(asdict(self.progress)),
            "config": json.dumps(self.config),
            "recipe": json.dumps(self.recipe),
        }
        temporary = path.with_suffix(".tmp")
        save_file({k: v.contiguous() for k, v in self.tensors.items()}, temporary, description)
        os.replace(temporary, path)


def read_checkpoint(path: Path) -> Checkpoint:
    """A run's folder or checkpoint. ModelError where it is none, or one of another version."""
    path = path / CHECKPOINT if path.is_dir() else path
    try:
        with safe_open(path, framework="pt") as stream:
            description = stream.metadata() or {}
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot read checkpoint {path} ({error}): name a run's folder or its checkpoint"
        ) from None
    if description.get("preset", "tiny") == "tiny":
        for part in ("model", "ema"):  # before tables were counted, they were Gaussians'
            tensors.setdefault(f"{part}.{FREQUENCIES}", no_frequencies())
    if "progress" not in description:
        raise ModelError(f"{path} is not a checkpoint: name a run's folder or its checkpoint")
    version = int(description.get("version", "1"))
    if version > VERSION:
        raise ModelError(f"{path} was written by a newer s2vc (version {version}): update s2vc")
    if version < VERSION:
        done = json.loads(description["progress"])  # its weights can be used, its place in a recipe cannot
        progress = Progress(seconds=done["seconds"], pixels=int(done["pixels"]))
        progress.history = [{"run": path.parent.name, **done}]
        return Checkpoint(tensors, progress, "tiny", json.loads(description["config"]), {})
    return Checkpoint(
        tensors,
        Progress(**json.loads(description["progress"])),
        description["preset"],
        json.loads(description["config"]),
        json.loads(description["recipe"]),
    )


def read_weights(name: str | Path) -> Checkpoint:
    """What a run can start from: a run's folder, a checkpoint, a model file, folder or id, Stable Diffusion.

    Of a model only the ``ema`` tensors are there, of Stable Diffusion only what it has.
    """
    path = Path(name)
    if (path / "unet").is_dir():
        from s2vc.training.base_networks import stable_diffusion_weights

        weights = {f"ema.{name}": value for name, value in stable_diffusion_weights(path).items()}
        history = [{"model": path.name}]
        config = read_geometry(path)[1]
        return Checkpoint(weights, Progress(history=history), "base", config, {}, whole=False)
    if (path / INDEX).is_file():
        from s2vc.training.base_networks import folder_weights  # it needs diffusers

        folder = ModelFile.open(path)
        weights = {f"ema.{name}": value for name, value in folder_weights(path).items()}
        return Checkpoint(weights, Progress(history=[_entry(folder)]), "base", folder.config["config"], {})
    if not path.exists() and not path.suffix and "/" not in str(name):
        return _of_model(find_model(str(name)))
    path = path / CHECKPOINT if path.is_dir() else path
    try:
        with safe_open(path, framework="pt") as stream:
            exported = (stream.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path} ({error}): name a run, a checkpoint or a model") from None
    return _of_model(ModelFile.open(path)) if exported else read_checkpoint(path)


def _of_model(model: ModelFile) -> Checkpoint:
    weights = {f"ema.{name}": value for name, value in _exported_weights(model).items()}
    return Checkpoint(weights, Progress(history=[_entry(model)]), model.preset, model.config, {})


def _entry(model: ModelFile) -> dict[str, Any]:
    """What the history says of a model."""
    entry: dict[str, Any] = {"model": model.id, "digest": model.digest.hex()}
    trained = cards.trained_metrics(model.path.with_suffix(cards.SUFFIX))
    if trained is not None:
        entry["trained_on"] = list(trained)
    return entry


def read_geometry(name: str | Path) -> tuple[str, dict[str, Any]]:
    """Preset and widths of what ``base`` can start from, without its tensors; ModelError where it is none."""
    path = Path(name)
    if (path / "unet").is_dir():
        from s2vc.training.base_networks import stable_diffusion_config

        return "base", geometry(stable_diffusion_config(path))
    place = path / CHECKPOINT if path.is_dir() else path
    try:
        if (path / INDEX).is_file():
            folder = ModelFile.open(path)
            return folder.preset, dict(folder.config["config"])
        with safe_open(place, framework="pt") as stream:
            description = stream.metadata() or {}
        return description["preset"], dict(json.loads(description["config"]))
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(
            f"cannot read {path} ({error}): name a run, a model folder or Stable Diffusion's"
        ) from None


def geometry(config: Any) -> dict[str, Any]:
    """A configuration's widths as files hold them."""
    held: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return held


def _flat(widths: Mapping[str, Any]) -> dict[str, Any]:
    """``base``'s widths lie one level down."""
    return {
        name: value
        for part, held in widths.items()
        for name, value in (
            {f"{part}.{k}": v for k, v in held.items()} if isinstance(held, Mapping) else {part: held}
        ).items()
    }


def check_geometry(name: object, theirs: Checkpoint, preset: str, ours: Mapping[str, Any]) -> None:
    """ModelError that names the widths which differ."""
    if theirs.preset != preset:
        raise ModelError(f"{name} is of preset {theirs.preset}, not {preset}: name one of {preset}")
    # What a model from before its time does not name is off.
    wanted, found = _flat(ours), _flat(theirs.config)
    other = [width for width, value in wanted.items() if found.get(width, 0) != value]
    if other:
        text = ", ".join(f"{width} {found.get(width, 0)} instead of {wanted[width]}" for width in other)
        advice = "name its widths under the recipe's model" if preset == "tiny" else "name another start"
        raise ModelError(f"{name} is of another geometry ({text}): {advice}")


def optimiser_tensors(optimisers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Moments and step counts under ``optim.NAME.INDEX.FIELD``."""
    tensors = {}
    for name, optimiser in optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            for key, value in state.items():
                kept = value if isinstance(value, Tensor) else torch.tensor(value)
                tensors[f"optim.{name}.{index}.{key}"] = kept
    return tensors


def restore_optimiser(name: str, optimiser: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Put moments back, in the memory layout of their parameters."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    description = optimiser.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in checkpoint.part(f"optim.{name}.").items():
        index, field_name = key.split(".")
        like = parameters[int(index)]
        if value.shape == like.shape:
            value = torch.empty_like(like, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[field_name] = value
    description["state"] = state
    optimiser.load_state_dict(description)


def load_exactly(module: nn.Module, tensors: dict[str, Tensor], name: object) -> None:
    """Load all of a module's tensors; ModelError where one is missing or has another shape."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{name} does not fit ({reason}): update s2vc or name another") from None


def _exported_weights(model: ModelFile) -> dict[str, Tensor]:
    """A model file's tensors under the trainer's names; the entropy model's integers as floats."""
    arrays = model.tensors("codec.", "generator.", "entropy.")
    arrays.pop(CODE_GROUPS, None)
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
    tables = Tables.from_arrays({k.removeprefix("tables."): v for k, v in model.tensors("tables.").items()})
    weights[FREQUENCIES] = frequencies_of(tables)
    return weights
