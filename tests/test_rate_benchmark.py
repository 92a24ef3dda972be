"""``benchmarks/rate_control.py`` in a short form: every kind of row, from small films and the mini model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from s2vc.video import Frame, VideoInfo, open_output

PROGRAM = Path(__file__).resolve().parent.parent / "benchmarks" / "rate_control.py"


@pytest.mark.slow
def test_every_kind_of_row(scene, mini, weights_dir, tmp_path):
    info = VideoInfo(48, 40, time_base=Fraction(1, 25), average_rate=Fraction(25))
    for folder in ("dev", "train/video"):
        (tmp_path / folder).mkdir(parents=True)
        with open_output(tmp_path / folder / "one.mp4", info) as writer:
            for number, picture in enumerate(scene(20, 48, 40)):
                writer.write(Frame(picture, number, 1))
    out = tmp_path / "rows.json"
    kinds = ["two-pass", "one-pass", "size", "buffer", "target", "hierarchy"]
    options = {"--out": out, "--model": mini, "--clips": "one", "--rates": 6e5, "--targets": "psnr=25"}
    ran = subprocess.run(
        [
            *(sys.executable, PROGRAM, *kinds, "--seconds", "0.5", "--size", "48x40"),
            *(str(part) for option in options.items() for part in option),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "S2VC_DATA_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(out.read_text())["rows"]
    assert {name.partition("/")[0] for name in rows} == set(kinds)
    for name, row in rows.items():
        if name.startswith(("two-pass", "size")):
            assert abs(row["off"]) < 0.03 or row["warnings"], name
    assert "BD-rate" in ran.stdout
