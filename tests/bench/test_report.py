"""What a report says, before a browser draws it: data, errors, marks, pictures."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("plotly")
pytest.importorskip("jinja2")
pytest.importorskip("bjontegaard")

from s2vc.bench.report import write_report, write_view
from s2vc.bench.report.media import write_pictures
from s2vc.bench.report.trained import trained_metrics
from s2vc.bench.results import write_json
from s2vc.errors import InputError, OutputError, S2vcError
from s2vc.models import find_model

REAL = Path(__file__).parents[2] / "benchmarks" / "results"


def result(codec: str, clip: str, label: str, bpp: float, dists: float, **more: Any) -> dict[str, Any]:
    return {
        "codec": codec, "variant": "", "label": label, "clip": {"name": clip},
        "settings": {"codec": codec}, "width": 16, "height": 16, "frames": 3,
        "bytes": int(1e6 * bpp), "bpp": bpp, "metrics": {"dists": {"mean": dists, "frames": [dists] * 3}},
        **more,
    }  # fmt: skip


def write_results(folder: Path, *results: dict[str, Any]) -> Path:
    for one in results:
        write_json(folder / one["codec"] / one["clip"]["name"] / f"{one['label']}.json", one)
    return folder


def curve(codec: str, clip: str, factor: float) -> list[dict[str, Any]]:
    return [result(codec, clip, f"q{n}", factor * 0.01 * 2**n, 0.4 - 0.1 * n) for n in range(4)]


def packed(page: Path, name: str) -> Any:
    found = re.search(f'id="packed-{name}">([^<]*)<', page.read_text(encoding="utf-8"))
    assert found
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def test_points_means_and_bd_rates_are_those_of_the_results(tmp_path: Path) -> None:
    both = [*curve("x265", "a.mp4", 1), *curve("ours", "a.mp4", 0.5), *curve("x265", "b.mp4", 1)]
    page = write_report(
        [write_results(tmp_path / "in", *both, *curve("ours", "b.mp4", 1.5))], tmp_path / "out"
    )
    data = packed(page, "data")
    assert [clip["name"] for clip in data["clips"]] == ["a.mp4", "b.mp4"]
    assert len(data["points"]) == 16 and len(data["means"]) == 8
    ours = next(n for n, one in enumerate(data["series"]) if one["codec"] == "ours")
    mean = next(row for row in data["means"] if row["series"] == ours and row["label"] == "q0")
    assert mean["bpp"] == pytest.approx(0.01) and mean["clips"] == 2
    (compared,) = data["comparisons"]["dists"]["x265"]["codecs"]
    assert compared["clips"]["a.mp4"]["bd_rate"] == -50 and compared["clips"]["b.mp4"]["bd_rate"] == 50
    frames = packed(page, "frames-0")
    index = next(n for n, p in enumerate(data["points"]) if p["clip"] == 0 and p["label"] == "q1")
    assert frames[str(index)]["dists"] == [1, 1, [pytest.approx(0.3)] * 3]
    assert all("why" in one["pictures"] for one in [*data["clips"], *data["points"]])


def test_the_committed_results_are_a_small_page(tmp_path: Path) -> None:
    page = write_report([REAL / "tuning-tiny", REAL / "tuning-x265"], tmp_path)
    assert page.stat().st_size < 3_000_000
    data = packed(page, "data")
    marked = {metric["name"]: metric["trained"] for metric in data["metrics"]}
    assert marked["dists"] == marked["lpips-vgg"] == [find_model("tiny").id]
    assert marked["psnr"] == marked["lpips-alex"] == []
    # ours stands first, whatever its name
    assert data["series"][0]["codec"] == "tiny"


def test_cards_say_what_models_were_trained_on() -> None:
    model = find_model("tiny").id
    assert trained_metrics(model) == ("lpips-vgg", "dists")
    assert trained_metrics(f"../weights/{model}") is None and trained_metrics("no-such-model") is None


def test_many_clips_stay_a_small_page(tmp_path: Path) -> None:
    for codec in ("x265", "ours"):
        write_results(tmp_path / "in", *(r for n in range(150) for r in curve(codec, f"clip {n:03}", 1)[:2]))
    page = write_report([tmp_path / "in"], tmp_path / "out")
    alone = write_report([write_results(tmp_path / "one", *curve("x265", "a", 1))], tmp_path / "alone")
    assert page.stat().st_size - alone.stat().st_size < 250_000


def test_what_failed_and_what_lacks_figures_is_shown(tmp_path: Path) -> None:
    failed = {**result("x<i>", "a.mp4", "q9", 1, 1), "error": "exit 1: <b>no</b>"}
    published = {
        **result("far", "a.mp4", "p", 0.02, 0.2), "width": None, "metrics": {"dists": {"mean": float("nan")}}
    }  # fmt: skip
    page = write_report([write_results(tmp_path / "in", failed, published)], tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert "exit 1: &lt;b&gt;no&lt;/b&gt;" in text and "x&lt;i&gt;" in text and "<b>no" not in text
    assert packed(page, "data")["points"][0]["metrics"] == {"dists": None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no results in"),
        ("{", r"q1\.json is no JSON object"),
        ('{"codec": "a", "label": "q1", "variant": ""}', r"q1\.json is no result of s2vc bench"),
        (json.dumps({**result("a", "c", "q1", 1, 1), "bpp": "much"}), "is no result"),
        (json.dumps({**result("a", "c", "q1", 1, 1), "bpp": 0}), "is no result"),
    ],
)
def test_a_bad_folder_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    (tmp_path / "in").mkdir()
    if content is not None:
        (tmp_path / "in" / "q1.json").write_text(content)
    with pytest.raises(InputError, match=message) as error:
        write_report([tmp_path / "in"], tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        write_report([tmp_path / "none"], tmp_path / "out")
    folder = write_results(tmp_path / "in", *curve("a", "c", 1))
    with pytest.raises(InputError, match=r"no folder .*--clips"):
        write_report([folder], tmp_path / "out", clips=tmp_path / "none")


def test_another_page_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<title>mine</title>")
    folder = write_results(tmp_path / "in", *curve("a", "c", 1))
    with pytest.raises(OutputError, match="no page of s2vc"):
        write_report([folder], tmp_path)
    assert (tmp_path / "index.html").read_text() == "<title>mine</title>"
    page = write_report([folder], tmp_path / "out")
    assert write_report([folder], tmp_path / "out") == page


def test_sheets_hold_every_frame_exactly(tmp_path: Path, scene: Callable[..., list[np.ndarray]]) -> None:
    frames = scene(40, 201, 203)
    pictures = write_pictures(iter(frames), tmp_path, "key")
    assert (pictures.width, pictures.height, pictures.frames) == (201, 203, 40)
    sheets = [tmp_path / pictures.folder / f"{n}.webp" for n in range(-(-40 // pictures.rows))]
    column = np.concatenate([cv2.imread(str(sheet))[..., ::-1] for sheet in sheets])
    assert len(sheets) == 2 and np.array_equal(column, np.concatenate(frames))

    def unread() -> Any:
        raise AssertionError("made anew")
        yield

    assert write_pictures(unread(), tmp_path, "key") == pictures


def test_a_clip_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    def breaks() -> Any:
        yield np.zeros((4, 4, 3), np.uint8)
        raise S2vcError("cut")

    with pytest.raises(S2vcError, match="cut"):
        write_pictures(breaks(), tmp_path, "key")
    assert list((tmp_path / "media").iterdir()) == []
    with pytest.raises(S2vcError, match="differ in size"):
        write_pictures(
            iter([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)]), tmp_path, "other"
        )


def test_view_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        write_view(tmp_path / "a.mkv", tmp_path / "b.mkv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_kept_files_that_cannot_be_shown_are_said(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "in", *curve("x265", "a.mp4", 1))
    kept = folder / ".files" / "x265" / "a"
    write_json(kept / "q1.hevc.json", {"request": {"frames_at_most": 96}})
    for label in ("q0", "q1"):
        (kept / f"{label}.hevc").write_bytes(b"not a video")
    said: list[str] = []
    page = write_report([folder], tmp_path / "out", clips=tmp_path, say=said.append)
    data = packed(page, "data")
    why = [point["pictures"]["why"] for point in data["points"]]
    assert why[0].startswith("exit ") and "of another run" in why[1] and "was not kept" in why[2]
    assert "a.mp4 was not found" in data["clips"][0]["pictures"]["why"]
    assert said[0] == "pictures of a.mp4" and len(said) == 4
    assert not list((tmp_path / "out" / "media").glob("*"))


def test_pictures_of_a_run_are_those_that_were_measured(
    tmp_path: Path, scene: Callable[..., list[np.ndarray]]
) -> None:
    pytest.importorskip("imageio_ffmpeg")
    from s2vc.bench.run import run
    from s2vc.bench.spec import Spec
    from s2vc.video import Frame, VideoInfo, open_output

    frames = scene(3, 66, 50)
    with open_output(tmp_path / "odd.mkv", VideoInfo(66, 50), lossless=True) as writer:
        for number, rgb in enumerate(frames):
            writer.write(Frame(rgb, number, 1))
    codecs = [
        {"kind": "x264", "preset": "ultrafast", "crf": [20, 40], "scale": scale} for scale in (1, 0.5)
    ]  # fmt: skip
    spec = {"name": "t", "clips": {"folder": str(tmp_path), "names": ["odd.mkv"]}, "frames": 3}
    outcome = run(
        Spec.model_validate({**spec, "metrics": ["psnr"], "codecs": codecs}), tmp_path / "in", keep_files=True
    )
    assert outcome.failed == []
    data = packed(write_report([tmp_path / "in"], tmp_path / "out", clips=tmp_path), "data")
    assert data["clips"][0]["rate"] == 25 and len(data["points"]) == 4

    def sheet(pictures: dict[str, Any]) -> np.ndarray:
        return cv2.imread(str(tmp_path / "out" / pictures["folder"] / "0.webp"))[..., ::-1].astype(float)

    source = sheet(data["clips"][0]["pictures"])
    assert np.array_equal(source, np.concatenate(frames))
    for point in data["points"]:
        errors = ((sheet(point["pictures"]) - source) ** 2).reshape(3, -1).mean(1)
        assert np.mean(10 * np.log10(255**2 / errors)) == pytest.approx(point["metrics"]["psnr"], abs=1e-4)
