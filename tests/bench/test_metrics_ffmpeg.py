"""VMAF and XPSNR: the same figures as ffmpeg gives for two files, frame for frame."""

from __future__ import annotations

import json
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from s2vc.bench.codecs import ffmpeg
from s2vc.bench.metrics import Meter
from s2vc.bench.metrics import ffmpeg as module
from s2vc.errors import S2vcError
from s2vc.video import ffmpeg as program
from s2vc.video.colour import limited_yuv

WIDTH, HEIGHT = 75, 50


@pytest.fixture(autouse=True)
def filters() -> None:
    for name in ("vmaf", "xpsnr"):
        if reason := module.missing_filter(name):
            pytest.skip(reason)


def by_files(
    folder: Path, source: list[np.ndarray], decoded: list[np.ndarray], rate: int
) -> tuple[list, list]:  # type: ignore[type-arg]
    """VMAF and XPSNR of luma by frame, from two raw files and ffmpeg's filters as its manual has them."""
    inputs = []
    for name, pictures in (("source", source), ("decoded", decoded)):
        path = folder / f"{name}.yuv"
        path.write_bytes(b"".join(limited_yuv(picture).tobytes() for picture in pictures))
        inputs += ["-f", "rawvideo", "-pix_fmt", "yuv444p", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(rate)]
        inputs += ["-i", str(path)]
    for graph in ("[1:v][0:v]libvmaf=log_fmt=json:log_path=vmaf.json", "[0:v][1:v]xpsnr=f=xpsnr.log"):
        command = [ffmpeg(), "-loglevel", "error", *inputs, "-lavfi", graph, "-f", "null", "-"]
        subprocess.run(command, check=True, cwd=folder, stdin=subprocess.DEVNULL)
    vmaf = json.loads((folder / "vmaf.json").read_text())
    xpsnr = re.findall(r"XPSNR y: +(\S+) ", (folder / "xpsnr.log").read_text())
    return [f["metrics"]["vmaf"] for f in vmaf["frames"]], [float(value) for value in xpsnr]


@pytest.mark.parametrize("rate", [25, 50])  # XPSNR's rule for change over time differs
def test_figures_are_those_of_two_files(rate: int, scene, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = scene(6, WIDTH, HEIGHT)
    random = np.random.default_rng(0)
    decoded = [np.clip(p + random.normal(0, 6, p.shape), 0, 255).astype(np.uint8) for p in source]
    decoded[3] = np.full_like(source[3], 90)
    worse = [p // 8 * 8 for p in decoded]
    meter = Meter(["vmaf", "xpsnr"])
    results = meter.measure(source, [decoded, worse], Fraction(rate))
    for pictures, result in zip((decoded, worse), results, strict=True):
        assert isinstance(result, dict)
        vmaf, xpsnr = by_files(tmp_path, source, pictures, rate)
        assert result["vmaf"]["frames"] == pytest.approx(vmaf, abs=1e-3)
        assert result["xpsnr"]["frames"] == pytest.approx(xpsnr, abs=1e-3)
        assert result["vmaf"]["model"] == "vmaf_v0.6.1"
        assert int(np.argmin(xpsnr)) == 3  # the spoilt frame lies where it was spoilt
    assert "imageio-ffmpeg" in meter.made_with["vmaf"]["package"]


def test_equal_pictures(scene) -> None:  # type: ignore[no-untyped-def]
    source = scene(2, WIDTH, HEIGHT)
    (result,) = Meter(["xpsnr"]).measure(source, [source])
    assert isinstance(result, dict)
    assert result["xpsnr"]["planes"] == {"y": 100, "u": 100, "v": 100}


def test_without_the_filter_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_filters", lambda program: frozenset({"psnr"}))
    meter = Meter(["psnr", "vmaf", "xpsnr"])
    assert "no filter libvmaf" in meter.missing["vmaf"] and "no filter xpsnr" in meter.missing["xpsnr"]
    picture = np.zeros((40, 40, 3), np.uint8)
    (result,) = meter.measure([picture], [[picture]])
    assert isinstance(result, dict) and set(result) == {"psnr"}


def test_an_ffmpeg_that_fails_fails_the_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    monkeypatch.setitem(program._GRAPHS, "xpsnr", "[source][decoded]xpsnr=nonsense=1")
    (result,) = Meter(["xpsnr"]).measure([picture] * 3, [[picture] * 3])
    assert isinstance(result, S2vcError)
    assert re.match(r"ffmpeg could not measure xpsnr: exit \d+: .+", str(result))
