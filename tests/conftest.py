"""What all tests share: where footage and weights are, and a skip that says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def pytest_configure() -> None:
    """Without the variables, folders beside the checkout stand in where they exist, as in ``.ci/run``."""
    for name in ("data", "weights", "reference"):
        if (SHARED / name).is_dir():
            os.environ.setdefault(f"S2VC_{name.upper()}_DIR", str(SHARED / name))


def _folder(variable: str, what: str) -> Path:
    named = os.environ.get(variable, "")
    if not named or not Path(named).is_dir():
        pytest.skip(f"{variable} names no folder: the test needs {what}")
    return Path(named)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Footage (``dev``, ``train``)."""
    return _folder("S2VC_DATA_DIR", "footage")


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Published weights of the perceptual networks."""
    return _folder("S2VC_WEIGHTS_DIR", "weights of the perceptual networks")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Reference vectors of the published system."""
    return _folder("S2VC_REFERENCE_DIR", "reference vectors")


@pytest.fixture(scope="session")
def mini() -> Path:
    """The model of tests/golden: ``tiny`` at small widths, with drawn weights that never change."""
    return Path(__file__).parent / "golden" / "mini.safetensors"


def make_scene(count: int, width: int = 50, height: int = 38) -> list[np.ndarray]:
    """A texture that moves over a gradient, with a disc that moves against it: uint8 (height, width, 3)."""
    down, across = np.mgrid[0:height, 0:width].astype(float)
    texture = np.random.default_rng(5).normal(size=(height + 100, width + 100))
    for axis in (0, 1):
        texture = sum(np.roll(texture, step, axis) for step in range(-2, 3)) / 5
    pictures = []
    for t in range(count):
        top, left = int(0.3 * t) % 100, int(0.7 * t) % 100
        wave = 128 + 60 * np.sin(2 * np.pi * (across + 2 * t) / width)
        picture = np.stack([60 + 130 * across / width, 60 + 120 * down / height, wave], -1)
        picture += 60 * texture[top : top + height, left : left + width, None]
        distance = np.hypot(across - width * (0.3 + 0.02 * (t % 30)), down - height / 2)
        disc = np.clip(6 - distance + height / 6, 0, 6) / 6
        picture += disc[..., None] * np.array([50, -30, -40])
        pictures.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return pictures


@pytest.fixture(scope="session")
def scene() -> Callable[..., list[np.ndarray]]:
    """``scene(count, width, height)``: pictures that move, no two alike."""
    return make_scene


def measure_psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


@pytest.fixture(scope="session")
def psnr() -> Callable[[np.ndarray, np.ndarray], float]:
    """PSNR in dB of two pictures or two lists of them, over all their samples."""
    return measure_psnr


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: bytes
    err: str


@pytest.fixture(scope="session")
def s2vc_command() -> Callable[..., Ran]:
    """``s2vc_command("info", path, stdin=b"", env={})``: the command line in a process of its own."""

    def run(*arguments: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ran:
        ran = subprocess.run(
            [sys.executable, "-m", "s2vc", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr.decode())

    return run
