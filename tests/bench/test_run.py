"""Runs: resumed after a kill, failures as rows, files that appear whole."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch")
pytest.importorskip("imageio_ffmpeg")

from s2vc.bench import run_bench
from s2vc.bench.codecs import ffmpeg
from s2vc.bench.process import Ran, run_child
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


def test_what_stands_is_not_lost_to_a_run_that_fails(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(spec(clips, crf=(40,)), tmp_path).done == 1
    (path,) = (tmp_path / "x265").rglob("*.json")
    before = path.read_bytes()
    monkeypatch.setenv("S2VC_FFMPEG", str(tmp_path / "none"))
    outcome = run(spec(clips, crf=(40,)), tmp_path)
    assert len(outcome.failed) == 1 and path.read_bytes() == before


def test_points_that_left_the_spec_are_named(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(spec(clips, crf=(40, 45)), tmp_path / "out")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(json.loads(spec(clips, crf=(40,)).model_dump_json())))
    run_bench(tmp_path / "spec.yaml", tmp_path / "out")
    said = capsys.readouterr().err
    assert "1 results are not in the spec, but count: " in said and "none-crf45.json" in said


def test_a_metric_that_can_be_measured_now_is(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = spec(clips, crf=(40,)).model_copy(update={"metrics": ("psnr", "ms-ssim", "dists")})
    monkeypatch.setattr("s2vc.bench.run._can_measure", lambda name, folder: False)
    monkeypatch.delenv("S2VC_WEIGHTS_DIR", raising=False)
    assert run(both, tmp_path).done == 1
    (path,) = (tmp_path / "x265").rglob("*.json")
    # the clip is too small for ms-ssim
    assert set(json.loads(path.read_text())["missing"]) == {"dists", "ms-ssim"}
    assert run(both, tmp_path).kept == 1
    asked: list[str] = []
    monkeypatch.setattr("s2vc.bench.run._can_measure", lambda name, folder: not asked.append(name))
    assert run(both, tmp_path).done == 1 and asked == ["dists"]


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


def test_encoders_and_decoders_get_the_folder_of_weights(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What encodes with --adapt needs the networks that metrics need."""
    given: list[str | None] = []

    def ran(command: list[str], environment: dict[str, str]) -> Ran:
        given.append(environment.get("S2VC_WEIGHTS_DIR"))
        return run_child(command, environment)

    monkeypatch.setattr("s2vc.bench.run.run_child", ran)
    assert run(spec(clips, crf=(40,)), tmp_path / "a", weights_dir=tmp_path).done == 1
    assert run(spec(clips, crf=(40,)), tmp_path / "b").done == 1
    assert given == [str(tmp_path)] * 2 + [None] * 2


def test_a_folder_that_cannot_be_written(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        run(spec(clips, crf=(40,)), tmp_path / "file")


@pytest.mark.slow
def test_only_the_codecs_asked_for(clips: Path, tmp_path: Path) -> None:
    both = spec(clips, crf=(40,)).model_copy(
        update={"codecs": (*spec(clips).codecs, Ours(kind="s2vc", quality=(0,)))}
    )
    assert run(both, tmp_path, only=["x265"]).done == 2
    with pytest.raises(InputError, match="no codec vvenc"):
        run(both, tmp_path, only=["vvenc"])


@pytest.mark.slow
def test_a_base_model_is_charged_its_bytes_and_says_what_its_authors_would_report(
    clips: Path, base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = Ours(kind="s2vc", name="base", model=str(base_folder), quality=(0, 63))
    outcome = run(spec(clips).model_copy(update={"codecs": (ours,)}), tmp_path, keep_files=True)
    assert (outcome.done, outcome.failed) == (2, [])
    said = capsys.readouterr().err
    for path in (tmp_path / "base").rglob("*.json"):
        result = json.loads(path.read_text())
        coded = tmp_path / ".files" / "base" / "odd" / f"{path.stem}.s2vc"
        assert result["bytes"] == coded.stat().st_size
        assert 0 < result["reported_bpp"] < result["bpp"]
        assert f"{result['bpp']:.5f} bpp (as its authors report: {result['reported_bpp']:.5f})" in said


def test_jobs_of_a_clip_stand_together(tmp_path: Path) -> None:
    found = jobs([Path("a.mkv"), Path("b.mkv")], spec(tmp_path).codecs, 3, tmp_path)
    assert [job.clip.stem for job in found] == ["a", "a", "b", "b"]
    assert all(isinstance(job, Job) for job in found)


def test_a_codec_without_points_is_a_failure_and_the_rest_goes_on(clips: Path, tmp_path: Path) -> None:
    theirs = {"kind": "external", "name": "theirs", "folder": str(tmp_path / "none"), "about": ""}
    missing = {**spec(clips, ("none.mkv",), crf=(40,)).model_dump()}
    both = Spec.model_validate({**missing, "codecs": [theirs, *missing["codecs"]]})
    (first, reason), (second, _) = run(both, tmp_path / "out").failed
    assert first == "theirs" and "state each clip's bytes" in reason and second == "x265 none none-crf40"
    assert len(run(both, tmp_path / "out", only=["x265"]).failed) == 1


def timeless(folder: Path) -> dict[str, dict[str, object]]:
    """All files but what a clock said."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = json.loads(path.read_text())
            for key in ("date", "measure_seconds", "workers"):
                del content[key]
            for step in ("encode", "decode"):
                assert content[step].pop("seconds") > 0 and content[step].pop("peak_memory") > 1e6
            found[str(path.relative_to(folder))] = content
    return found


def two_codecs(clips: Path, names: tuple[str, ...]) -> Spec:
    x264 = {"kind": "x264", "preset": "ultrafast", "crf": (30, 40)}
    return Spec.model_validate(
        {**spec(clips, names).model_dump(), "codecs": [x264, spec(clips).codecs[0].model_dump()]}
    )


@pytest.fixture(scope="module")
def three(clips: Path) -> tuple[str, ...]:
    for name in ("b.mkv", "c.mkv"):
        (clips / name).write_bytes((clips / "odd.mkv").read_bytes())
    return ("odd.mkv", "b.mkv", "c.mkv")


@pytest.fixture(scope="module")
def whole(clips: Path, three: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(two_codecs(clips, three), folder).done == 12
    return folder


@pytest.mark.slow
def test_results_are_the_same_whatever_the_number_of_workers(
    clips: Path, three: tuple[str, ...], whole: Path, tmp_path: Path
) -> None:
    assert run(two_codecs(clips, three), tmp_path, workers=3).done == 12
    assert timeless(tmp_path) == timeless(whole) and len(timeless(whole)) == 12


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_ends_in_the_middle_is_taken_up_again(
    clips: Path, three: tuple[str, ...], whole: Path, tmp_path: Path, end: signal.Signals
) -> None:
    path, out = tmp_path / "spec.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(json.loads(two_codecs(clips, three).model_dump_json())))
    command = [sys.executable, "-m", "s2vc", "bench", "run", str(path), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "bpp" in line:  # the first result is there
                running.send_signal(end)
                break
        running.stderr.read()
    assert running.returncode == (130 if end == signal.SIGTERM else -signal.SIGKILL)
    left = timeless_results(out)
    assert 0 < len(left) < 12 and not any("error" in content for content in left)
    outcome = run(two_codecs(clips, three), out)
    assert outcome.kept == len(left) and outcome.done == 12 - len(left)
    assert timeless(out) == timeless(whole)


@pytest.mark.slow
def test_all_anchors_and_tiny_killed_and_resumed_end_with_the_same_files(tmp_path: Path) -> None:
    """Real footage, x265 veryslow, SVT-AV1 preset 4, VVenC medium and tiny at five points each."""
    data = os.environ.get("S2VC_DATA_DIR")
    if not data:
        pytest.skip("S2VC_DATA_DIR names no footage")
    clips = {"folder": f"{data}/dev", "names": ["akiyo_176x144_25.mp4", "carphone_176x144_30.mp4"]}
    codecs: list[dict[str, object]] = [
        {"kind": "x265", "preset": "veryslow", "crf": [26, 32, 38, 44, 50]},
        {"kind": "svt-av1", "preset": "4", "crf": [30, 40, 50, 57, 63]},
        {"kind": "vvenc", "preset": "medium", "qp": [26, 32, 38, 44, 50]},
        {"kind": "s2vc", "name": "tiny", "model": "tiny", "quality": [0, 16, 32, 48, 63]},
    ]
    content = {"name": "all", "clips": clips, "frames": 9, "metrics": ["psnr", "ms-ssim"], "codecs": codecs}
    asked = Spec.model_validate(content)
    assert run(asked, tmp_path / "whole", workers=2).done == 40
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(content))
    command = ["bench", "run", str(tmp_path / "spec.yaml"), "--workers", "2", "--out", str(tmp_path / "out")]
    for number in (1, 2):  # killed twice, the second time where the first resumed
        with subprocess.Popen(
            [sys.executable, "-m", "s2vc", *command],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as running:
            assert running.stderr is not None
            for count, _ in enumerate(line for line in running.stderr if "bpp" in line):
                if count == 7 * number:
                    running.kill()
                    break
            running.stderr.read()
    left = timeless_results(tmp_path / "out")
    assert 10 < len(left) < 40
    outcome = run(asked, tmp_path / "out", workers=2)
    assert outcome.kept == len(left) and outcome.done == 40 - len(left) and not outcome.failed
    assert timeless(tmp_path / "out") == timeless(tmp_path / "whole")


def timeless_results(folder: Path) -> list[dict[str, object]]:
    return [json.loads(p.read_text()) for p in folder.rglob("*.json") if ".files" not in p.parts]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_row_and_the_rest_goes_on(clips: Path, tmp_path: Path) -> None:
    """One encoder's file and another point's result go to a disk that is full."""
    coded, results = tmp_path / ".files" / "x265" / "odd", tmp_path / "x265" / "odd"
    for folder in (coded, results):
        folder.mkdir(parents=True)
    (coded / "part-none-crf30.hevc").symlink_to("/dev/full")
    (results / ".none-crf40.json.part").symlink_to("/dev/full")
    outcome = run(spec(clips, crf=(30, 40, 50)), tmp_path)
    assert outcome.done == 1 and [name for name, _ in outcome.failed] == [
        "x265 odd none-crf30",
        "x265 odd none-crf40",
    ]
    assert all("No space left on device" in reason for _, reason in outcome.failed)
    assert (outcome.summary() or "").startswith("2 of 3 results failed, the first x265 odd none-crf30")
    assert "No space" in json.loads((results / "none-crf40.json").read_text())["error"]


def test_a_killed_encoder_is_a_row(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suicidal = tmp_path / "ffmpeg"
    suicidal.write_text(
        '#!/bin/sh\ncase "$*" in\n*-version) echo ffmpeg version 1;;\n*-encoders) echo libx265;;\n'
        "*) kill -9 $$;;\nesac\n"
    )
    suicidal.chmod(0o755)
    monkeypatch.setenv("S2VC_FFMPEG", str(suicidal))
    outcome = run(spec(clips, crf=(40,)), tmp_path / "out")
    assert outcome.failed == [("x265 odd none-crf40", "killed by SIGKILL: no message")]


def external(clips: Path, folder: Path, point: str, decoded: Path) -> dict[str, object]:
    """A codec of one point whose decoded clip is ``decoded``."""
    (folder / point).mkdir(parents=True)
    (folder / point / "odd.mkv").symlink_to(decoded)
    (folder / "sizes.csv").write_text(f"point,clip,bytes\n{point},odd,99\n")
    return {"kind": "external", "name": "elsewhere", "folder": str(folder), "about": "by hand"}


def test_a_killed_measuring_process_fails_its_rows_only(clips: Path, tmp_path: Path) -> None:
    """It is killed while it waits for a pipe that nobody writes; the next one measures x265."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    both = Spec.model_validate(
        {
            **spec(clips, crf=(40,)).model_dump(),
            "codecs": [
                external(clips, tmp_path / "theirs", "p", pipe),
                spec(clips, crf=(40,)).codecs[0].model_dump(),
            ],
        }
    )

    def kill() -> None:
        while not (children := multiprocessing.active_children()):
            time.sleep(0.02)
        children[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = run(both, tmp_path / "out")
    killer.join()
    ((name, reason),) = outcome.failed
    assert name == "elsewhere odd p" and "the measuring process ended: killed by SIGKILL" in reason
    assert outcome.done == 1


def test_decoded_clips_and_published_numbers_stand_beside(clips: Path, tmp_path: Path) -> None:
    figures = {"frame_pixel_num": 3300, "i_frame_num": 1, "p_frame_num": 2, "ave_all_frame_bpp": 0.5}
    published = {"HEVC": {"odd.yuv": {"000": {**figures, "ave_all_frame_psnr": 30.0}}}}
    (tmp_path / "dcvc.json").write_text(json.dumps(published))
    vtm = {"kind": "published", "name": "vtm", "results": str(tmp_path / "dcvc.json"), "about": "VTM"}
    theirs = external(clips, tmp_path / "theirs", "p", clips / "odd.mkv")
    base = {**spec(clips).model_dump(), "frames": 4}
    assert run(Spec.model_validate({**base, "codecs": [vtm, theirs]}), tmp_path / "out").done == 2
    mine = json.loads((tmp_path / "out" / "elsewhere" / "odd" / "p.json").read_text())
    assert mine["bpp"] == 8 * 99 / (66 * 50 * 4) and mine["metrics"]["psnr"]["mean"] == 100
    assert mine["settings"]["about"] == "by hand" and "encode" not in mine
    asked = Spec.model_validate({**base, "codecs": [theirs]})
    assert run(asked, tmp_path / "out").kept == 1
    (tmp_path / "theirs" / "sizes.csv").write_text("point,clip,bytes\np,odd,33\n")
    assert run(asked, tmp_path / "out").done == 1
    assert json.loads((tmp_path / "out" / "elsewhere" / "odd" / "p.json").read_text())["bytes"] == 33
    numbers = json.loads((tmp_path / "out" / "vtm" / "odd" / "000.json").read_text())
    assert (numbers["bpp"], numbers["frames"], numbers["metrics"]["psnr"]["mean"]) == (0.5, 3, 30.0)
    # the clip has four frames where only three were asked for: not the same footage
    shorter = run(Spec.model_validate({**base, "frames": 3, "codecs": [theirs]}), tmp_path / "other")
    assert "frame counts differ" in shorter.failed[0][1]


def test_a_terminal_gets_a_table() -> None:
    from rich.console import Console

    from s2vc.bench.board import Board

    board = Board({"x265": 3, "tiny": 1}, live=False)
    board.kept("x265")
    board.working("x265", "odd crf40: encode")
    board.done("x265", "odd crf30", "0.1 bpp")
    board.failed("tiny", "odd q00", "exit 1: no")
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(board._table())
    shown = console.export_text()
    for text in ("2 of 3", "odd crf40: encode", "odd crf30: 0.1 bpp", "failed: exit 1: no", "min left"):
        assert text in shown
