"""A run's EMA weights into a model file, and a card that says what they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s2vc.errors import ModelError, OutputError
from s2vc.models import cards
from s2vc.models.files import INDEX, ModelFile, write_model
from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.model import TinyModel
from s2vc.perceptual import file_sha256
from s2vc.training.checkpoint import Checkpoint, check_geometry, load_exactly, read_weights
from s2vc.training.tables import tables_of

TRAINED_ON = {
    "lpips-vgg": "LPIPS on VGG-16",
    "lpips-alex": "LPIPS on AlexNet",
    "dists": "on VGG-16",
}


def model_tensors(model: TinyModel) -> dict[str, NDArray[Any]]:
    """Float parts as float16, the entropy model and its tables as integers."""
    tensors: dict[str, NDArray[Any]] = {}
    for part in ("codec", "generator"):
        for name, value in getattr(model, part).state_dict().items():
            tensors[f"{part}.{name}"] = value.detach().cpu().contiguous().numpy().astype(np.float16)
    tensors |= {f"entropy.{name}": array for name, array in model.entropy.export().items()}
    tables = tables_of(model.entropy.frequencies).to_arrays()
    return tensors | {f"tables.{name}": array for name, array in tables.items()}


def _average(found: Checkpoint, name: Path, others: Sequence[str]) -> list[dict[str, Any]]:
    """Put the mean of its generator and those of others in its place; their codec must be the same one.

    Returns what the card says of the others.
    """
    history: list[dict[str, Any]] = []
    part = "ema.generator."
    sums = {key: value.clone() for key, value in found.tensors.items() if key.startswith(part)}
    for other in others:
        theirs = read_weights(other)
        check_geometry(other, theirs, found.preset, found.config)
        for key, value in found.part("ema.codec.").items():
            if not torch.equal(theirs.tensors[f"ema.codec.{key}"].half(), value.half()):
                raise ModelError(
                    f"the codec of {other} is not that of {name}: average what learnt behind one codec"
                )
        for key, value in sums.items():
            value += theirs.tensors[key]
        history += [{"generator averaged with": other}, *theirs.history()]
    found.tensors |= {key: value / (1 + len(others)) for key, value in sums.items()}
    return history


def export(
    checkpoint: Path,
    target: Path,
    *,
    average: Sequence[str] = (),
    model_id: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write a model file from a run's folder, a checkpoint or a model, and its card beside it (``.md``).

    average: other runs or models behind the same codec; the generator is the mean of all. The same weights
    give the same bytes. Returns a line that describes the model. Raises ModelError for what is no such thing,
    of a newer format, or not to be averaged; OutputError where the target exists.
    """
    found = read_weights(checkpoint)
    card = target.with_suffix(cards.SUFFIX)
    for path in (target, card):
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists: give -y to overwrite it, or another name")
    if found.preset == "base":
        if average:
            raise ModelError("generators are averaged for tiny: leave out --average")
        return _export_base(found, checkpoint, target, card, model_id)
    config = TinyConfig(**found.config)
    check_geometry(checkpoint, found, "tiny", asdict(config))
    history = [*found.history(), *_average(found, checkpoint, average)]
    model = TinyModel(config)
    load_exactly(model, found.part("ema."), checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_model(target, "tiny", model_id or target.stem, asdict(config), model_tensors(model))
    written = ModelFile.open(target)
    parameters = sum(p.numel() for p in model.parameters())
    card.write_text(_card(written, found, parameters, checkpoint, history), encoding="utf-8")
    size = target.stat().st_size / 1e6
    return f"model {written.id}, digest {written.digest.hex()}, {size:.1f} MB"


def _export_base(found: Checkpoint, checkpoint: Path, target: Path, card: Path, model_id: str | None) -> str:
    """A model folder of one rate point, in float16 but for what feeds the entropy coder."""
    from s2vc.models.published_import import write_folder  # it needs diffusers
    from s2vc.models.published_loading import config_from

    if target.exists() and not (target / INDEX).is_file():
        raise OutputError(f"{target} is not a model folder: give another name")
    weights = found.part("ema.")
    write_folder(target, config_from(found.config), weights, "fp16", model_id=model_id or target.stem)
    written = ModelFile.open(target)
    size = sum(file.stat().st_size for file in target.iterdir())
    parameters = sum(weight.numel() for weight in weights.values())
    card.write_text(_card(written, found, parameters, checkpoint, found.history()), encoding="utf-8")
    return f"model {written.id}, digest {written.digest.hex()}, {size / 1e6:.1f} MB"


def _card(
    written: ModelFile, found: Checkpoint, parameters: int, checkpoint: Path, history: list[dict[str, Any]]
) -> str:
    tiny = written.preset == "tiny"
    file = f", SHA-256 `{file_sha256(written.path)}`" if tiny else ", a folder"
    kept = "integer entropy model" if tiny else "what feeds the entropy coder as float32"
    held = written.config if tiny else written.config["config"]
    data = found.recipe.get("data", {})
    folders = [place for key in ("clips", "sequences", "images", "shards") for place in data.get(key, [])]
    metrics = {name.replace("_", "-") for entry in history for name in entry.get("losses", {})}
    metrics |= {name for entry in history for name in entry.get("trained_on", ())}
    trained = [f"`{name}` ({TRAINED_ON[name]})" for name in sorted(metrics & TRAINED_ON.keys())]
    unknown = [entry["model"] for entry in history if "model" in entry and "trained_on" not in entry]
    trained += [f"those of {name}, whose card was not there" for name in unknown]
    rows = {
        "what": f"conditional video codec of preset {written.preset}, {parameters / 1e6:.1f} M parameters, "
        f"stored as float16; {kept}",
        "file": f"`{written.path.name}`{file}",
        "digest": f"`{written.digest.hex()}`, which files coded with it carry",
        "config": f"`{json.dumps(held, sort_keys=True)}`",
        "data": ", ".join(folders) or "not recorded",
        "licence": data.get("notes") or "not stated: the code's Apache-2.0 does not cover the weights",
        "trained on metrics": ", ".join(trained) or "none",
        "compute": f"{found.progress.seconds / 60:.0f} minutes, "
        f"{found.progress.pixels / 1e6:.0f} million pixels in this run",
    }
    lines = [f"# {written.id}", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {text} |" for name, text in rows.items()]
    lines += ["", "## Training", "", *(f"* `{json.dumps(entry)}`" for entry in history or [{}])]
    lines += ["", "## Measured", "", *_measured(checkpoint)]
    return "\n".join(lines) + "\n"


def _measured(checkpoint: Path) -> list[str]:
    """The last evaluation in the run's log: coded bytes of the recipe's clips."""
    log = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "log.jsonl"
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    found = [entry for entry in entries if entry.get("event") == "evaluation"]
    if not found:
        return ["Nothing yet: `s2vc bench run` measures it."]
    last = [entry for entry in found if entry["step"] == found[-1]["step"]]
    hidden = ("time", "event", "stage", "stage_steps", "step", "minutes", "mpixels")
    names = [name for name in last[0] if name not in hidden]
    lines = [f"By coded bytes, after step {last[0]['step']} of the run:", ""]
    lines += [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    return lines + [f"| {' | '.join(str(entry[name]) for name in names)} |" for entry in last]
