"""Recipes: a YAML list of stages, checked before anything starts."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from s2vc.errors import InputError
from s2vc.nn.tiny.config import TinyConfig


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stage(_Strict):
    """One stage: its data, losses and length. Lengths are minutes of training on this machine."""

    name: str
    minutes: float = Field(gt=0)
    batch: int = Field(12, ge=1)
    frames: int = Field(4, ge=1)
    crop: int = Field(128, ge=64, multiple_of=16)
    longest: int = Field(32, ge=4)
    still_share: float = Field(0.2, ge=0, le=1)
    learning_rate: float = Field(1e-3, gt=0)
    muon_learning_rate: float = Field(0.01, gt=0)
    final_share: float = Field(0.02, ge=0, le=1)  # of the learning rate, at the cosine's end
    warmup_steps: int = Field(50, ge=0)
    lambda_low: float = Field(4.0, gt=0)  # λ of quality 0
    lambda_high: float = Field(0.04, gt=0)  # λ of quality 63
    intra_weight: float = Field(0.35, gt=0)  # of an I-frame's bits
    l1: float = Field(1.0, ge=0)
    reference_l1: float = Field(0.5, ge=0)
    lpips_vgg: float = Field(0.0, ge=0)
    dists: float = Field(0.0, ge=0)
    trainable: list[str] = Field(default_factory=lambda: [""])  # parameter name prefixes


class Recipe(_Strict):
    """A training run: where its data are and the stages in order.

    ``model``: widths of ``TinyConfig`` other than the default.
    """

    model: dict[str, int] = Field(default_factory=dict)
    data: str = "train/video"
    images: str | None = "train/images"
    seed: int = 1
    ema: float = Field(0.998, ge=0, lt=1)
    stages: list[Stage] = Field(min_length=1)

    @field_validator("model")
    @classmethod
    def _known_widths(cls, widths: dict[str, int]) -> dict[str, int]:
        known = {f.name for f in fields(TinyConfig)}
        for name in widths:
            if name not in known:
                raise ValueError(f"{name} is no width of tiny; there are {', '.join(sorted(known))}")
        return widths


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe; an unknown or impossible key is an InputError that names it."""
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"cannot read recipe {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where}: {first['msg']}") from error
