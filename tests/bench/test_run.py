"""Runs: resumed after a kill, failures as rows, files that appear whole."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("imageio_ffmpeg")

from s2vc.bench import run_bench
from s2vc.bench.codecs import ffmpeg
from s2vc.bench.run import Job, jobs, run
from s2vc.bench.spec import Ours, Spec
from s2vc.errors import InputError, OutputError, S2vcError


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    source = ["-f", "lavfi", "-i", "testsrc2=size=66x50:rate=25", "-frames:v", "4", "-pix_fmt", "yuv420p"]
    command = [ffmpeg(), "-loglevel", "error", "-y", *source, "-c:v", "ffv1", str(folder / "odd.mkv")]
    subprocess.run(command, check=True)
    return folder


def spec(clips: Path, names: tuple[str, ...] = ("odd.mkv",), crf: tuple[float, ...] = (30, 45)) -> Spec:
    return Spec.model_validate(
        {
            "name": "test",
            "clips": {"folder": str(clips), "names": names},
            "frames": 3,
            "metrics": ["psnr"],
            "codecs": [{"kind": "x265", "preset": "ultrafast", "crf": crf}],
        }
    )


def test_a_run_is_charged_by_file_size_and_taken_up_again(clips: Path, tmp_path: Path) -> None:
    first = run(spec(clips, crf=(30,)), tmp_path, keep_files=True)
    assert (first.done, first.kept, first.failed) == (1, 0, [])
    (path,) = (tmp_path / "x265").rglob("*.json")
    result = json.loads(path.read_text())
    coded = tmp_path / ".files" / "x265" / "odd" / "none-crf30.hevc"
    assert result["bytes"] == coded.stat().st_size and result["frames"] == 3
    assert result["bpp"] == 8 * result["bytes"] / (66 * 50 * 3)
    assert result["metrics"]["psnr"]["mean"] > 20 and len(result["metrics"]["psnr"]["frames"]) == 3
    assert (
        "-preset ultrafast" in result["encode"]["command"]
        and str(tmp_path) not in result["encode"]["command"]
    )
    assert b"x265" not in coded.read_bytes()  # the informational SEI names the encoder

    before = path.read_bytes()
    second = run(spec(clips), tmp_path)
    assert (second.done, second.kept) == (1, 1) and path.read_bytes() == before

    path.unlink()  # as if killed between encoding and measuring
    stamp = coded.stat().st_mtime_ns
    third = run(spec(clips), tmp_path, keep_files=True)
    assert (third.done, third.kept) == (1, 1) and coded.stat().st_mtime_ns == stamp
    again = json.loads(path.read_text())
    assert again["metrics"] == result["metrics"] and again["bytes"] == result["bytes"]


def test_files_go_once_they_are_measured(clips: Path, tmp_path: Path) -> None:
    run(spec(clips, crf=(45,)), tmp_path)
    assert [p for p in (tmp_path / ".files").rglob("*") if p.is_file()] == []


def test_what_fails_is_a_row_and_the_rest_goes_on(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clips / "broken.mkv").write_bytes(b"not a video")
    path = tmp_path / "spec.yaml"
    path.write_text(
        f"name: test\nclips: {{folder: {clips}, names: [none.mkv, broken.mkv, odd.mkv]}}\nframes: 3\n"
        "metrics: [psnr]\ncodecs: [{kind: x265, preset: ultrafast, crf: [40]}]\n"
    )
    with pytest.raises(S2vcError, match=r"2 of 3 results failed, the first x265 none none-crf40: no clip"):
        run_bench(path, tmp_path / "out")
    said = capsys.readouterr()
    assert "x265 odd none-crf40" in said.err and "failed: x265 broken.mkv none-crf40" in said.out
    failed = json.loads((tmp_path / "out" / "x265" / "broken" / "none-crf40.json").read_text())
    assert failed["error"].startswith("exit ") and "metrics" not in failed


def test_a_decoder_that_loses_a_frame_fails(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s2vc.bench.codecs import X265

    whole = X265.decode
    monkeypatch.setattr(
        X265, "decode", lambda *given: [*whole(*given)[:-1], "-frames:v", "2", whole(*given)[-1]]
    )
    outcome = run(spec(clips, crf=(40,)), tmp_path)
    assert outcome.failed == [("x265 odd none-crf40", "frame counts differ: decoding ends after 2 frames")]


def test_a_folder_that_cannot_be_written(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        run(spec(clips, crf=(40,)), tmp_path / "file")


def test_only_the_codecs_asked_for(clips: Path, tmp_path: Path) -> None:
    both = spec(clips, crf=(40,)).model_copy(
        update={"codecs": (*spec(clips).codecs, Ours(kind="s2vc", quality=(0,)))}
    )
    assert run(both, tmp_path, only=["x265"]).done == 2
    with pytest.raises(InputError, match="no codec vvenc"):
        run(both, tmp_path, only=["vvenc"])


def test_jobs_of_a_clip_stand_together(clips: Path, tmp_path: Path) -> None:
    found = jobs(spec(clips, ("a.mkv", "b.mkv")), tmp_path)
    assert [job.clip.stem for job in found] == ["a", "a", "b", "b"]
    assert all(isinstance(job, Job) for job in found)
