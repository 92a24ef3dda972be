"""The examples run as they are written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A folder of three pictures: the smallest video there is."""
    folder = tmp_path_factory.mktemp("clips") / "clip"
    folder.mkdir()
    for number in range(3):
        picture = np.full((48, 64, 3), 40 + 20 * number, np.uint8)
        picture[10:30, 10 + number : 30 + number] = 200
        cv2.imwrite(str(folder / f"{number:03}.png"), picture)
    return folder


def run(*command: str | Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ran = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_files(clip, mini, tmp_path):
    out = run(
        *(sys.executable, EXAMPLES / "files.py", clip, tmp_path / "a.s2vc", tmp_path / "a.mkv"),
        mini,
    )
    assert out.startswith("3 frames, ") and "64x48, model mini-1, 1 I-frames" in out
    assert (tmp_path / "a.mkv").stat().st_size > 0


def test_arrays(mini):
    lines = run(sys.executable, EXAMPLES / "arrays.py", mini).splitlines()
    assert lines[0].startswith("6 frames in ") and len(lines) == 7
    assert lines[6].startswith("frame 5: (64, 96, 3)")


def test_notebook(film, tmp_path, monkeypatch):
    """Its cells, one after another, in one namespace."""
    film(tmp_path / "in.mp4", frames=4, sound=(("aac", 44100, "eng"),))
    monkeypatch.chdir(tmp_path)
    cells = json.loads((EXAMPLES / "first_clip.ipynb").read_text())["cells"]
    namespace: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), namespace)
    assert namespace["picture"].shape == (24, 32, 3)  # type: ignore[attr-defined]


def test_lossy_link(mini):
    lines = run(sys.executable, EXAMPLES / "lossy_link.py", mini, "0.1").splitlines()
    datagrams, _, lost, _ = lines[0].split()
    assert 0 < int(lost) < int(datagrams) == 37
    assert lines[1].startswith("36 frames, ") and lines[2].startswith("#") and lines[2].endswith("#")
    assert 0 < lines[2].count(".") < 36
    assert run(sys.executable, EXAMPLES / "lossy_link.py", mini, "0").endswith("#" * 36 + "\n")


def test_batch(clip, mini, tmp_path):
    for _ in range(2):
        run(EXAMPLES / "batch.sh", clip.parent, tmp_path / "out", "--model", mini)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.s2vc"]
