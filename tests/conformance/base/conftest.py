"""The reference folder (``S2VC_REFERENCE_DIR``): what it holds, and its weights in our networks."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional as F


@dataclass(frozen=True)
class Case:
    """One recorded frame."""

    clip: str
    number: int
    intra: bool
    reset: bool
    height: int
    width: int

    def __str__(self):
        return f"{self.clip}{self.number}"


@dataclass(frozen=True)
class Reference:
    folder: Path

    @cached_property
    def config(self):
        return json.loads((self.folder / "config.json").read_text())

    @cached_property
    def cases(self):
        clips = json.loads((self.folder / "frames.json").read_text())
        return [
            Case(clip, number, frame["type"] == "I", frame.get("is_reset", False), held["H"], held["W"])
            for clip, held in clips.items()
            for number, frame in enumerate(held["frames"])
        ]

    def path(self, name):
        return self.folder / "vectors" / f"{name}.safetensors"

    def names(self, case):
        """Names of a frame's recorded tensors, and ``x``."""
        with safe_open(self.path(f"{case.clip}_f{case.number}"), "pt") as stream:
            return {"x", *stream.keys()}

    def load(self, name):
        return load_file(self.path(name))

    def vectors(self, case):
        """A frame's recorded tensors, and its padded picture ``x``."""
        return {"x": self.pictures(case.clip)[case.number], **self.load(f"{case.clip}_f{case.number}")}

    def pictures(self, clip):
        """A clip's frames: float32 (1, 3, H, W) in [-1, 1], reflected to multiples of 64."""
        frames = self.load(f"{clip}_input")["video_u8"]
        height, width = frames.shape[-2:]
        padding = (0, -width % 64, 0, -height % 64)
        return [F.pad(frame[None].float() / 255 * 2 - 1, padding, mode="reflect") for frame in frames]


def find_reference():
    folder = Path(os.environ.get("S2VC_REFERENCE_DIR", ""))
    return Reference(folder) if (folder / "frames.json").is_file() else None


def pytest_generate_tests(metafunc):
    """Cases, clips and stages are what the folder holds; without one there is one of each, which skips."""
    reference = find_reference()
    cases = reference.cases if reference else [None]
    wanted = set(metafunc.fixturenames)
    if {"case", "stage"} <= wanted:
        stages = metafunc.module.STAGES
        pairs = [(c, s) for c in cases for s in stages if c and s.fits(c, reference.names(c))]
        metafunc.parametrize("case, stage", pairs or [(None, None)], ids=str)
    elif "case" in wanted:
        metafunc.parametrize("case", cases, ids=str)
    elif "clip" in wanted:
        metafunc.parametrize("clip", list(dict.fromkeys(case and case.clip for case in cases)), ids=str)


@pytest.fixture(scope="session")
def reference(reference_dir):
    return find_reference() or pytest.fail(f"{reference_dir} holds no frames.json")


@pytest.fixture(autouse=True)
def one_thread():
    """The order of sums in the recorded run: one thread. Other tests want gradients."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def release(reference, tmp_path_factory):
    """(configuration, reader of tensors by our names) of the reference weights, imported."""
    from s2vc.models.published_import import import_release
    from s2vc.models.published_release import Description

    weights = reference.folder / "weights"
    pair = next((weights / "P_ckpts").iterdir()).name, next((weights / "I_ckpts").iterdir()).name
    alpha, window = reference.config["lora_config"]["lora_alpha"], reference.config["vae_attn_patch"]
    described = Description({"point": pair}, None, alpha, window)
    target = tmp_path_factory.mktemp("models") / "reference"
    imported = import_release(weights, target, dtype="fp32", description=described)
    return imported.config, imported.reader("point")


@pytest.fixture(scope="session")
def model(release):
    from s2vc.models.published_loading import build
    from s2vc.nn.base.model import NETWORKS

    return SimpleNamespace(**{name: build(*release, name) for name in NETWORKS})
