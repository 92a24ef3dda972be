"""What all tests share: where footage and weights are, and a skip that says what is missing."""

from __future__ import annotations

import os
from pathlib import Path

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
