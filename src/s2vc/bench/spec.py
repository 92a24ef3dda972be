"""What a bench run measures: clips x codecs x points, written in a YAML file.

    name: tuning
    clips: {folder: dev, names: [akiyo_176x144_25.mp4]}     # folder: under S2VC_DATA_DIR, or absolute
    frames: 96                                              # at most so many of each clip
    metrics: [psnr, lpips-alex, lpips-vgg, dists]
    codecs:
      - {kind: x265, preset: veryslow, tunes: [none, ssim], crf: [30, 38, 46]}
      - {kind: s2vc, model: tiny, quality: [0, 21, 42, 63]}

Kinds of codecs and their keys: ``s2vc.bench.codecs``.

A mistake is reported with the path of its key and its line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from s2vc.bench.codecs import X265, AnyCodec, Codec, Ours, Point, Strict
from s2vc.bench.names import HIGHER_IS_BETTER
from s2vc.errors import InputError

__all__ = ["DATA_VARIABLE", "X265", "Clips", "MetricName", "Ours", "Point", "Spec", "load_spec"]

DATA_VARIABLE = "S2VC_DATA_DIR"
"""Environment variable that names the folder of footage."""


def _known_metric(name: str) -> str:
    if name not in HIGHER_IS_BETTER:
        raise ValueError(f"no metric {name}: there are {', '.join(HIGHER_IS_BETTER)}")
    return name


MetricName = Annotated[str, AfterValidator(_known_metric)]
"""A key of ``s2vc.bench.names.HIGHER_IS_BETTER``."""


class Clips(Strict):
    folder: str = "."
    names: tuple[str, ...] = Field(min_length=1)

    @field_validator("names")
    @classmethod
    def _stems_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        stems = [Path(name).stem for name in names]
        twice = {stem for stem in stems if stems.count(stem) > 1}
        if twice:
            what = ", ".join(sorted(twice))
            raise ValueError(
                f"two clips are named {what}: results stand under names without folder and ending"
            )
        return names

    def paths(self) -> list[Path]:
        """The clips' paths; a relative folder is one of S2VC_DATA_DIR, else of the current folder."""
        folder = Path(self.folder)
        if not folder.is_absolute() and os.environ.get(DATA_VARIABLE):
            folder = Path(os.environ[DATA_VARIABLE]) / folder
        return [folder / name for name in self.names]


class Spec(Strict):
    name: str
    clips: Clips
    frames: int = Field(default=96, ge=1)
    step: int = Field(default=1, ge=1)
    """Network metrics are taken on every step-th frame only; PSNR on all."""
    metrics: tuple[MetricName, ...] = ("psnr", "lpips-alex", "lpips-vgg", "dists")
    codecs: tuple[AnyCodec, ...] = Field(min_length=1)

    @field_validator("codecs")
    @classmethod
    def _names_differ(cls, codecs: tuple[Codec, ...]) -> tuple[Codec, ...]:
        names = [codec.name for codec in codecs]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two codecs are named {', '.join(sorted(twice))}: give each its own name")
        return codecs

    @model_validator(mode="after")
    def _names_are_file_names(self) -> Spec:
        for name in (self.name, *(codec.name for codec in self.codecs)):
            if not name or set(name) & set("/\\:") or name.startswith("."):
                raise ValueError(f"{name!r} cannot be a file's name")
        return self

    def with_model(self, model: str) -> Spec:
        """The same with another model of s2vc."""
        codecs = [c.model_copy(update={"model": model}) if isinstance(c, Ours) else c for c in self.codecs]
        return self.model_copy(update={"codecs": tuple(codecs)})


def load_spec(path: str | Path) -> Spec:
    """Read and check a spec. Raises InputError that names the key, with its line where it has one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"spec {path} cannot be read: {error.strerror if isinstance(error, OSError) else error}"
        ) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"spec {path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        return Spec.model_validate(content, context={"folder": Path(path).parent})
    except ValidationError as error:
        first = error.errors()[0]
        # a codec's kind stands in the location, but not in the file
        key = ".".join(
            str(p) for n, p in enumerate(first["loc"]) if not (n == 2 and first["loc"][0] == "codecs")
        )
        line = _line(node, first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        where = f"{path}:{line}" if line else str(path)
        raise InputError(f"{where}: {key or 'spec'}: {first['msg']}{more}") from error


def _line(node: yaml.Node | None, path: tuple[int | str, ...]) -> int | None:
    """Line of the deepest node on ``path`` that the file has."""
    line = node.start_mark.line + 1 if node is not None else None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if found:
                line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
