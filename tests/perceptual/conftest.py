"""Photos that the documented figures of the networks were taken on, out of packages of PyPI."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

# Any machine can take wheels of another: only files inside them are read. (wheel, Python, platform, folder)
WHEELS = (
    ("scikit-image==0.19.3", "310", "manylinux2014_x86_64", "skimage/data"),
    ("scikit-learn==1.9.1", "311", "manylinux_2_28_x86_64", "sklearn/datasets/images"),
)


@pytest.fixture(scope="session")
def photo_file(request: pytest.FixtureRequest) -> Callable[[str], bytes]:
    """``photo_file("chelsea.png")``: a file of scikit-image's or scikit-learn's data, downloaded once."""
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("photos"))
    found: list[tuple[Path, str]] = []
    for package, python, platform, inside in WHEELS:
        pattern = package.replace("-", "_").replace("==", "-") + "-*.whl"
        if not list(folder.glob(pattern)):
            command = [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)),
                *("--only-binary=:all:", "--python-version", python, "--abi", f"cp{python}"),
                *("--implementation", "cp", "--platform", platform, package),
            ]
            if subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode:
                pytest.skip(f"the photos of {package} are needed, and pip could not download it")
        found.append((next(iter(folder.glob(pattern))), inside))

    def read(name: str) -> bytes:
        for wheel, inside in found:
            with zipfile.ZipFile(wheel) as archive:
                if f"{inside}/{name}" in archive.namelist():
                    return archive.read(f"{inside}/{name}")
        raise FileNotFoundError(name)

    return read


@pytest.fixture(scope="session")
def photo(photo_file: Callable[[str], bytes]) -> Callable[[str], np.ndarray]:
    """``photo("chelsea.png")``: uint8 RGB (H, W, 3)."""
    import av

    def read(name: str) -> np.ndarray:
        with av.open(io.BytesIO(photo_file(name))) as container:
            return next(container.decode(video=0)).to_ndarray(format="rgb24")

    return read
