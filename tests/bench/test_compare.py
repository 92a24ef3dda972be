"""Means and BD-rates of result files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("bjontegaard")

from s2vc.bench import compare_bench
from s2vc.bench.compare import compare, comparison_table, summarise, table
from s2vc.bench.results import write_json
from s2vc.errors import InputError

RATES = np.array([0.01, 0.02, 0.04, 0.08, 0.16])
DISTS = 0.3 - 0.08 * np.log10(RATES / 0.01)


def curve(factor: float = 1.0) -> list[tuple[float, float]]:
    return [(float(r * factor), float(d)) for r, d in zip(RATES, DISTS, strict=True)]


def result(codec: str, variant: str, clip: str, label: str, bpp: float, dists: float) -> dict[str, object]:
    metrics = {"dists": {"mean": dists, "frames": [dists]}}
    return {
        "codec": codec, "variant": variant, "label": label, "clip": {"name": clip},
        "bytes": int(1e6 * bpp), "bpp": bpp, "metrics": metrics, "frames": 30, "settings": {},
        "encode": {"seconds": 10, "peak_memory": int(1e9 * bpp)}, "decode": {"seconds": 3},
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, clip in enumerate(("one", "two")):
        for index, (rate, dists) in enumerate(curve()):
            for codec, variant, factor in (
                ("x265", "none", 1),
                ("x265", "ssim", 0.9),
                ("ours", "", 0.6 + 0.6 * number),
            ):
                content = result(codec, variant, clip, f"{variant}{index}", rate * factor, dists)
                write_json(tmp_path / codec / clip / f"{variant}{index}.json", content)
    failed = {"codec": "ours", "variant": "", "label": "q9", "clip": {"name": "two"}, "error": "exit 1: no"}
    write_json(tmp_path / "ours" / "two" / "q9.json", failed)
    write_json(tmp_path / ".files" / "x.json", {"codec": "hidden", "label": "", "clip": {"name": ""}})
    return tmp_path


def test_the_anchor_stands_with_its_best_variant(folder: Path) -> None:
    compared = compare(folder, anchor="x265", metric="dists")
    assert compared["anchor_variant"] == "ssim"
    (ours,) = compared["codecs"]
    expected = [100 * (0.6 / 0.9 - 1), 100 * (1.2 / 0.9 - 1)]
    assert [clip["bd_rate"] for clip in ours["clips"].values()] == pytest.approx(expected, abs=0.01)
    assert ours["bd_rate"] == pytest.approx(np.mean(expected), abs=0.01)
    assert ours["won"] == 1 and ours["interval_95"][0] <= ours["bd_rate"] <= ours["interval_95"][1]
    shown = comparison_table(compared)
    assert "better on 1 of 2 clips" in shown and "failed: ours two q9: exit 1: no" in shown
    with pytest.raises(InputError, match="no results of vvenc"):
        compare(folder, anchor="vvenc", metric="dists")
    with pytest.raises(InputError, match="no vmaf"):
        compare(folder, anchor="x265", metric="vmaf")


def test_a_variant_that_lacks_a_clip_is_not_chosen(folder: Path) -> None:
    for path in (folder / "x265" / "two").glob("ssim*"):
        path.unlink()
    compared = compare(folder, anchor="x265", metric="dists")
    assert compared["anchor_variant"] == "none" and len(compared["codecs"][0]["clips"]) == 2


def test_clips_that_only_one_side_has_are_named(folder: Path) -> None:
    write_json(folder / "ours" / "three" / "0.json", result("ours", "", "three", "0", 0.1, 0.1))
    (ours,) = compare(folder, anchor="x265", metric="dists")["codecs"]
    assert ours["missing"] == ["three"] and list(ours["clips"]) == ["one", "two"]
    (x265,) = compare(folder, anchor="ours", metric="dists")["codecs"]
    assert x265["missing"] == ["three"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"settings": {"preset": "fast"}}, "other settings"),
        ({"frames_at_most": 30}, "other settings"),
        ({"measured_with": {"step": 5}}, "other settings"),
        ({}, "there twice"),
    ],
)
def test_results_of_several_settings_are_no_codec(
    folder: Path, tmp_path: Path, other: dict[str, object], said: str
) -> None:
    for place, content in (
        ("new", {**result("ours", "", "two", "0", 0.2, 0.1), **other}),
        ("lone", result("vtm", "", "two", "0", 0.2, 0.1)),
    ):
        write_json(tmp_path / place / "x.json", content)
    with pytest.raises(InputError, match=f"ours: two .*{said}"):
        summarise(folder)


def test_means_over_clips(folder: Path) -> None:
    summary = summarise(folder)
    rows = [row for row in summary["points"] if row["codec"] == "ours"]
    assert [row["bpp"] for row in rows] == pytest.approx(RATES * 0.9)
    assert all(row["clips"] == 2 for row in rows)
    assert summary["failed"] == [{"codec": "ours", "clip": "two", "label": "q9", "error": "exit 1: no"}]
    assert "exit 1: no" in table(summary)
    with pytest.raises(InputError, match="no folder"):
        summarise(folder / "none")


def test_the_rate_that_authors_report_stands_beside_the_true_one(folder: Path) -> None:
    for number, clip in enumerate(("one", "two")):
        content = {**result("base", "", clip, "q00", 0.02, 0.2), "reported_bpp": 0.017 + 0.001 * number}
        write_json(folder / "base" / clip / "q00.json", content)
    summary = summarise(folder)
    (base,) = [row for row in summary["points"] if row["codec"] == "base"]
    assert (base["bpp"], base["reported_bpp"]) == pytest.approx((0.02, 0.0175))
    head, *lines = table(summary).splitlines()
    assert head.split() == ["codec", "point", "clips", "bytes", "bpp", "reported", "dists"]
    (line,) = [line for line in lines if line.startswith("base")]
    assert line.split()[4:6] == ["0.02000", "0.01750"]
    assert all(len(other) == len(line) for other in lines if not other.startswith("failed"))


def test_little_overlap_counts_as_nothing_and_is_said(folder: Path) -> None:
    for path in (folder / "ours" / "one").glob("[012].json"):
        path.unlink()
    (ours,) = compare(folder, anchor="x265", metric="dists")["codecs"]
    one = ours["clips"]["one"]
    assert one["bd_rate"] == pytest.approx(100 * (0.6 / 0.9 - 1), abs=0.01)
    assert one["overlap"] == pytest.approx(0.25) and one["counted"] == 0
    assert ours["won"] == 0 and ours["bd_rate"] == pytest.approx(
        ours["clips"]["two"]["bd_rate"] / 2, abs=0.01
    )
    (folder / "ours" / "one" / "3.json").unlink()
    (folder / "ours" / "one" / "4.json").unlink()
    compared = compare(folder, anchor="x265", metric="dists")
    assert compared["codecs"][0]["missing"] == ["one"] and list(compared["codecs"][0]["clips"]) == ["two"]
    text = comparison_table(compared)
    assert re.search(r"^  one +n/a$", text, re.MULTILINE)


def test_no_overlap_is_said(folder: Path) -> None:
    better = result("ours", "", "one", "5", 0.3, 0.01)
    for path in (folder / "ours" / "one").glob("*.json"):
        path.unlink()
    for label, bpp, dists in (("8", 0.2, 0.15), ("9", 0.3, 0.1)):
        write_json(
            folder / "ours" / "one" / f"{label}.json",
            {**better, **result("ours", "", "one", label, bpp, dists)},
        )
    compared = compare(folder, anchor="x265", metric="dists")
    one = compared["codecs"][0]["clips"]["one"]
    assert one["bd_rate"] is None and one["counted"] == 0
    assert "no overlap" in comparison_table(compared)


def test_speed_and_memory_stand_beside_quality(folder: Path) -> None:
    compared = compare(folder, anchor="x265", metric="dists")
    assert compared["anchor_cost"] == {
        "encode_frames_per_second": 3.0,
        "encode_peak_memory": 144_000_000,
        "decode_frames_per_second": 10.0,
        "decode_peak_memory": None,
    }
    assert "encode 3.0 frames/s, 144 MB, decode 10.0 frames/s" in comparison_table(compared)


def test_several_anchors_and_metrics_at_once(folder: Path) -> None:
    facts, text = compare_bench([folder], ["x265", "ours"], ["dists"], (0.01, 0.15))
    first, second = facts["comparisons"]
    assert (first["anchor"], second["anchor"]) == ("x265", "ours") and first["rates"] == [0.01, 0.15]
    assert "between 0.01 and 0.15 bpp" in text and "against ours" in text


def test_published_sequences_are_clips_of_the_same_name(folder: Path) -> None:
    for index, (rate, dists) in enumerate(curve(0.5)):
        content = {**result("vtm", "", "one.yuv", f"{index}", rate, dists)}
        write_json(folder / "vtm" / "one" / f"{index}.json", content)
    found = {codec["codec"]: codec for codec in compare(folder, anchor="x265", metric="dists")["codecs"]}
    assert found["vtm"]["clips"]["one"]["bd_rate"] == pytest.approx(100 * (0.5 / 0.9 - 1), abs=0.01)
    assert found["vtm"]["missing"] == ["two"]


def test_committed_results_are_readable() -> None:
    folder = Path(__file__).parents[2] / "benchmarks" / "results"
    if not folder.is_dir():
        pytest.skip("no benchmarks here: not a checkout")
    summary = summarise(folder)
    assert summary["points"] and not summary["failed"]
    compared = compare(folder, anchor="x265", metric="dists")
    assert "tiny" in {codec["codec"] for codec in compared["codecs"]}


def test_what_was_not_measured_is_in_no_mean(folder: Path) -> None:
    """MS-SSIM is n/a on small clips; published numbers lack most metrics."""
    for path in (folder / "ours" / "one").glob("*.json"):
        content = json.loads(path.read_text())
        del content["metrics"]["dists"]
        write_json(path, content)
    write_json(folder / "vtm" / "one" / "0.json", {**result("vtm", "", "one", "0", 0.1, 0.2), "metrics": {}})
    compared = compare(folder, anchor="x265", metric="dists")
    (ours,) = compared["codecs"]
    assert ours["missing"] == ["one"] and ours["bd_rate"] == ours["clips"]["two"]["bd_rate"]
    assert compared["not_compared"] == {"vtm": "no clip with dists in common with x265"}
    assert "vtm: not compared: no clip" in comparison_table(compared)
