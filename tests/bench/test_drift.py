"""Drift: settings as they are written, PSNR by frame, passes over repeated content, and the whole command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("imageio_ffmpeg")

from s2vc.bench import drift
from s2vc.bench.codecs import ffmpeg
from s2vc.bench.drift import SETTINGS, Setting, _passes, compare_pictures, measure_drift, there_and_back
from s2vc.bench.frames import read_rgb
from s2vc.bench.metrics import Meter
from s2vc.errors import InputError, S2vcError


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 38, 50, 3), dtype=np.uint8))


def write_clip(path: Path, frames: list[np.ndarray]) -> Path:
    height, width = frames[0].shape[:2]
    command = [ffmpeg(), "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{width}x{height}", "-i", "-", "-c:v", "ffv1", "-pix_fmt", "bgr0", str(path)]
    subprocess.run(command, input=b"".join(frame.tobytes() for frame in frames), check=True)
    return path


def test_settings() -> None:
    setting = Setting.parse("threads=2,onednn=off,coretype=Nehalem")
    assert setting.environment() == {"OPENBLAS_CORETYPE": "Nehalem", "OMP_NUM_THREADS": "2"}
    assert setting.command("decode", "a")[-4:] == ["decode", "a", "--threads", "2"]
    assert Setting.parse("instructions=sse41").environment()["ONEDNN_MAX_CPU_ISA"] == "SSE41"
    assert len({Setting.parse(text).text for text in SETTINGS}) == 4
    for wrong in ("thread=2", "threads=x", "threads=0", "onednn=maybe", "coretype", ""):
        with pytest.raises(InputError, match=f"setting '{wrong}'"):
            Setting.parse(wrong)


def test_psnr_by_frame() -> None:
    truth = pictures(3)
    other = [truth[0], np.where(truth[1] < 128, truth[1] + 1, truth[1] - 1).astype(np.uint8), truth[2]]
    found = compare_pictures(iter(truth), iter(other))
    assert found["psnr"] == [100.0, 48.13, 100.0]
    assert (found["equal"], found["worst_frame"], found["psnr_min"]) == (2, 1, 48.13)
    with pytest.raises(S2vcError, match="ends after 2 frames"):
        compare_pictures(iter(truth), iter(truth[:2]))


def test_passes_of_a_palindrome(tmp_path: Path) -> None:
    """The second forward pass is shown with three times the first's error, so PSNR falls by 9.54 dB."""
    frames = [np.clip(picture, 40, 200) for picture in pictures(4)]
    footage = tmp_path / "palindrome.mkv"
    there_and_back(write_clip(tmp_path / "clip.mkv", frames), footage, 3, 2)
    read = list(read_rgb(footage))
    order = [0, 1, 2, 2, 1, 0] * 2
    np.testing.assert_array_equal(np.stack(read), np.stack([frames[n] for n in order]))
    shown = [picture + np.uint8(1 if number < 6 else 3) for number, picture in enumerate(read)]
    found = _passes(footage, write_clip(tmp_path / "shown.mkv", shown), 4, Meter(["psnr"], step=1))
    means = found["metrics"]["psnr"]["means"]
    assert found["frames"] == 3 and means == pytest.approx([48.13, 48.13, 38.59, 38.59], abs=0.01)
    assert found["metrics"]["psnr"]["last_forward_to_first"] == pytest.approx(38.59 / 48.13, abs=1e-3)


def test_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "a.s2vc").write_bytes(b"")
    with pytest.raises(InputError, match="coded already"):
        measure_drift(tmp_path / "a.s2vc", palindrome=1)
    with pytest.raises(InputError, match="coded already"):
        measure_drift(tmp_path / "a.s2vc", adapt=True)
    with pytest.raises(InputError, match="no metric ssim: there are psnr,"):
        measure_drift(tmp_path / "a.s2vc", metrics=["ssim"])
    with pytest.raises(InputError, match="name a clip"):
        measure_drift(tmp_path / "none.mp4")


@pytest.mark.slow
def test_adapted_files_are_compared_with_what_the_first_setting_decodes(
    tmp_path: Path, scene, mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mini has no codes, so an encoder without them plays its part; there is no reconstruction."""

    def code(footage, quality, options, weights_dir, encoder, folder):
        assert options == ["--model", str(mini), "--adapt"] and weights_dir == "weights"
        encoder.run("encode", str(footage), str(folder / "coded.s2vc"), *options[:2], "-q", "--keyint", "99")
        return {"quality": quality, "encoder": encoder.text, "bytes": 1}

    monkeypatch.setattr(drift, "_code", code)
    clip = write_clip(tmp_path / "scene.mkv", scene(6))
    options = {
        "model": str(mini),
        "palindrome": 1,
        "adapt": True,
        "metrics": ["psnr"],
        "weights_dir": "weights",
    }
    found = measure_drift(clip, settings=["threads=1", "threads=2"], **options)
    (coded,) = found["coded"]
    assert [d["decoder"] for d in coded["decoders"]] == ["threads=2"]
    assert coded["decoders"][0]["frames"] == 12 and coded["decoders"][0]["psnr_min"] > 50
    assert len(coded["passes"]["metrics"]["psnr"]["means"]) == 2


@pytest.mark.slow
def test_the_whole_command(tmp_path: Path, scene, mini: Path, s2vc_command) -> None:
    clip = write_clip(tmp_path / "scene.mkv", scene(6))
    ran = s2vc_command(
        *("bench", "drift", clip, "--model", mini, "--palindrome", 1, "--metric", "psnr"),
        *("--setting", "threads=1", "--setting", "threads=1,onednn=off,coretype=Nehalem"),
        *("--out", tmp_path / "drift.json"),
    )
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found == json.loads((tmp_path / "drift.json").read_text())
    (coded,) = found["coded"]
    assert [d["decoder"] for d in coded["decoders"]] == found["settings"]
    # the same process settings as the encoder's own: its reconstruction, bit for bit
    assert coded["decoders"][0]["equal"] == 12 and coded["decoders"][1]["psnr_min"] > 50
    assert len(coded["passes"]["metrics"]["psnr"]["means"]) == 2
    assert "psnr by pass" in ran.err
