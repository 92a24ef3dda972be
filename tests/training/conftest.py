"""Small footage and a small model for the trainer's tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import yaml

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.yaml"
WIDTHS = yaml.safe_load(SMOKE.read_text())["model"]


def write_clip(path: Path, frames: list[np.ndarray]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


@pytest.fixture(scope="session")
def footage(tmp_path_factory, scene) -> Path:
    """A data folder: ``clips`` with two clips and a file that is none, ``vimeo`` with a picture sequence,
    ``images`` with two photographs and a file that is none."""
    root = tmp_path_factory.mktemp("footage")
    (root / "clips").mkdir()
    write_clip(root / "clips" / "a.mkv", scene(18, 96, 80))
    write_clip(root / "clips" / "b.mkv", scene(14, 80, 112))
    (root / "clips" / "broken.mp4").write_bytes(b"no video at all")
    sequence = root / "vimeo" / "00001" / "0001"
    sequence.mkdir(parents=True)
    for number, picture in enumerate(scene(7, 80, 64), start=1):
        cv2.imwrite(str(sequence / f"im{number}.png"), picture[..., ::-1])
    (root / "images").mkdir()
    for number, picture in enumerate(scene(2, 120, 100)):
        cv2.imwrite(str(root / "images" / f"{number}.png"), picture[..., ::-1])
    (root / "images" / "3.jpg").write_bytes(b"no picture at all")
    return root


@pytest.fixture(scope="session")
def large_footage(tmp_path_factory, scene) -> Path:
    """A data folder: ``clips`` with two clips that crops of 128 fit into."""
    root = tmp_path_factory.mktemp("large")
    (root / "clips").mkdir()
    for name, count in (("a", 9), ("b", 7)):
        write_clip(root / "clips" / f"{name}.mkv", scene(count, 144, 128))
    return root


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def write_recipe(tmp_path) -> Callable[..., Path]:
    """``write_recipe(stages, **keys)``: a recipe of the small model over ``footage``, as a file."""

    def write(*stages: dict[str, Any], **keys: Any) -> Path:
        content = {
            "model": WIDTHS,
            "data": {"clips": ["clips"], "images": ["images"], "scales": [1.0], "steps": [1]},
            "precision": "float32",
            **keys,
            "stages": [{"name": stage["kind"], "batch": 4, "crop": 64, **stage} for stage in stages],
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def stops_after(monkeypatch) -> Callable[[int], AbstractContextManager[None]]:
    """``with stops_after(n):`` a run's budget is spent after so many steps."""

    @contextmanager
    def stops(steps: int) -> Iterator[None]:
        left = [steps]

        def spent(self: object, flag: bool) -> bool:
            left[0] -= 1
            return left[0] < 0

        with monkeypatch.context() as patch:
            patch.setattr("s2vc.training.processes.Processes.any", spent)
            yield

    return stops


WORKER = """
import json, sys
from pathlib import Path
from s2vc.training.loop import train
recipe, out, data, cache = map(Path, sys.argv[1:])
seen = []
train(recipe, out, data=data, cache=cache, watch=lambda p, f: seen.append(f))
(out / f"seen{__import__('os').environ['RANK']}.json").write_text(json.dumps(seen))
"""


@pytest.fixture
def in_processes() -> Callable[..., None]:
    """``in_processes(count, script, *arguments)``: a script in so many, as torchrun starts them."""

    def start(count: int, script: str, *arguments: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        places = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        command = [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)]
        ran = [
            subprocess.Popen(
                command,
                env={
                    **os.environ,
                    **{k: str(v) for k, v in {**places, "RANK": r, "LOCAL_RANK": r}.items()},
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for r in range(count)
        ]
        for process in ran:
            _, errors = process.communicate()
            assert process.returncode == 0, errors.decode()

    return start


@pytest.fixture
def curve_of(in_processes: Callable[..., None]) -> Callable[..., list[dict[str, float]]]:
    """``curve_of(count, recipe, out, footage, cache)``: every step's figures in so many processes."""

    def train(count: int, recipe: Path, out: Path, footage: Path, cache: Path) -> list[dict[str, float]]:
        in_processes(count, WORKER, recipe, out, footage, cache)
        figures: list[dict[str, float]] = json.loads((out / "seen0.json").read_text())
        return figures

    return train
