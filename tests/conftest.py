"""What all tests share: where footage and weights are, and a skip that says what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _folder(variable: str, what: str) -> Path:
    """The folder that ``variable`` names, else the one beside the checkout; skips the test without it."""
    named = os.environ.get(variable)
    # S2VC_DATA_DIR stands for ../shared/data, and so on.
    path = Path(named) if named else ROOT.parent / "shared" / variable.split("_")[1].lower()
    if not path.is_dir():
        pytest.skip(f"{variable} names no folder: the test needs {what}")
    return path


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
