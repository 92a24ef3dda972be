"""Means and BD-rates of result files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("bjontegaard")

from s2vc.bench.compare import bd_rate, compare, comparison_table, summarise, table
from s2vc.bench.results import write_json
from s2vc.errors import InputError

RATES = np.array([0.01, 0.02, 0.04, 0.08, 0.16])
DISTS = 0.3 - 0.08 * np.log10(RATES / 0.01)


def curve(factor: float = 1.0, part: slice = slice(None)) -> list[tuple[float, float]]:
    return [(float(r * factor), float(d)) for r, d in zip(RATES[part], DISTS[part], strict=True)]


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_a_constant_factor_of_rate_is_the_bd_rate(factor: float) -> None:
    found = bd_rate("clip", curve(), curve(factor), "dists")
    assert found.bd_rate == pytest.approx(100 * (factor - 1), abs=1e-6)
    assert found.overlap == pytest.approx(1)
    assert found.won == (factor < 1)


def test_bd_rate_equals_the_packages_own_call() -> None:
    from bjontegaard import bd_rate as package

    # four points of two encoders, in kbit/s and dB
    anchor = [(9487.76, 40.037), (4593.60, 38.615), (2486.44, 36.845), (1358.24, 34.851)]
    test = [(9787.80, 40.121), (4469.00, 38.651), (2451.52, 36.970), (1356.24, 34.987)]
    columns = [np.array(sorted(points)).T for points in (anchor, test)]
    expected = package(*columns[0], *columns[1], method="akima")
    assert bd_rate("clip", anchor, test, "psnr").bd_rate == pytest.approx(expected, abs=1e-9)


def test_little_or_no_overlap_counts_as_nothing() -> None:
    little = bd_rate("clip", curve(), curve(0.5, slice(3, None)), "dists")
    assert little.bd_rate is not None and little.bd_rate < 0 and little.overlap < 0.5
    assert little.counted == 0 and not little.won
    none = bd_rate("clip", curve(part=slice(0, 2)), curve(part=slice(3, None)), "dists")
    assert none.bd_rate is None and none.overlap == 0 and none.counted == 0


def test_points_that_cost_more_for_less_are_left_out() -> None:
    bent = [*curve(0.5), (0.05, 0.31)]
    assert bd_rate("clip", curve(), bent, "dists").bd_rate == pytest.approx(-50, abs=1e-6)


def result(codec: str, variant: str, clip: str, label: str, bpp: float, dists: float) -> dict[str, object]:
    metrics = {"dists": {"mean": dists, "frames": [dists]}}
    return {
        "codec": codec, "variant": variant, "label": label, "clip": {"name": clip},
        "bytes": int(1e6 * bpp), "bpp": bpp, "metrics": metrics,
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
    assert "better on 1 of 2 clips" in comparison_table(compared)
    with pytest.raises(InputError, match="no results of vvenc"):
        compare(folder, anchor="vvenc", metric="dists")
    with pytest.raises(InputError, match="no vmaf"):
        compare(folder, anchor="x265", metric="vmaf")


def test_a_variant_that_lacks_a_clip_is_not_chosen(folder: Path) -> None:
    for path in (folder / "x265" / "two").glob("ssim*"):
        path.unlink()
    compared = compare(folder, anchor="x265", metric="dists")
    assert compared["anchor_variant"] == "none" and len(compared["codecs"][0]["clips"]) == 2


def test_means_over_clips(folder: Path) -> None:
    summary = summarise(folder)
    rows = [row for row in summary["points"] if row["codec"] == "ours"]
    assert [row["bpp"] for row in rows] == pytest.approx(RATES * 0.9)
    assert all(row["clips"] == 2 for row in rows)
    assert summary["failed"] == [{"codec": "ours", "clip": "two", "label": "q9", "error": "exit 1: no"}]
    assert "exit 1: no" in table(summary)
    with pytest.raises(InputError, match="no folder"):
        summarise(folder / "none")
