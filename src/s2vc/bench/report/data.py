"""What a report's page is given: results, means, comparisons and settings, as JSON values.

Everything is read from folders of results; ``media`` turns kept files into pictures. Names of clips, codecs
and points are free text here, the page escapes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from s2vc.bench.compare import compare_curves, curves, summarise
from s2vc.bench.names import METRICS, of_same_network
from s2vc.bench.report.trained import models_trained_on
from s2vc.bench.results import FILES, Result
from s2vc.errors import S2vcError

Kept = dict[tuple[str, str, str], Path]
"""(codec, clip's stem, point's label) -> the coded file"""


def find_kept(folders: Sequence[Path]) -> Kept:
    """Coded files that runs kept (``s2vc bench run --keep-files``)."""
    kept: Kept = {}
    for folder in folders:
        for path in folder.rglob(f"{FILES}/*/*/*"):
            if path.is_file() and path.suffix != ".json" and not path.name.startswith("part-"):
                kept[(path.parts[-3], path.parts[-2], path.stem)] = path
    return kept


def series_name(codec: str, variant: str) -> str:
    return f"{codec} ({variant})" if variant else codec


def report_data(folders: Sequence[Path], results: Sequence[Result]) -> dict[str, Any]:
    """All but pictures and frames' figures; ``clips`` and ``points`` have ``null`` for their pictures."""
    good = [result for result in results if "error" not in result]
    names = sorted({result["clip"]["name"] for result in good})
    series = sorted({(r["codec"], r["variant"]) for r in good}, key=lambda key: _ours_first(key, good))
    clips = []
    for name in names:
        of_clip = [r for r in good if r["clip"]["name"] == name]
        # published results know no picture sizes
        one = next((r for r in of_clip if r.get("width") and r.get("height")), of_clip[0])
        size = {"width": one.get("width"), "height": one.get("height")}
        clips.append({"name": name, **size, "frames": one["frames"], "rate": one.get("frame_rate")})
    return {
        "metrics": _metrics(good),
        "series": [
            {"codec": codec, "variant": variant, "name": series_name(codec, variant)}
            for codec, variant in series
        ],
        "clips": clips,
        "points": [_point(r, names.index(r["clip"]["name"]), series) for r in good],
        "means": _means(folders, series),
        "comparisons": _comparisons(folders, good),
    }


def _ours_first(key: tuple[str, str], results: Iterable[Result]) -> tuple[bool, tuple[str, str]]:
    ours = any(r["settings"].get("codec") == "s2vc" for r in results if r["codec"] == key[0])
    return not ours, key


def _metrics(results: Sequence[Result]) -> list[dict[str, Any]]:
    found = {name for result in results for name in result["metrics"]}
    seen: dict[str, set[str]] = {}
    for metric, models in models_trained_on(results).items():
        # a metric on the same network is no witness either
        for name in of_same_network([metric]):
            seen.setdefault(name, set()).update(models)
    order = [name for name in METRICS if name in found]
    return [
        {"name": name, **_described(name), "trained": sorted(seen.get(name, ()))}
        for name in [*order, *sorted(found - set(order))]
    ]


def _described(name: str) -> dict[str, Any]:
    """How a page writes a metric, and which way is better; null where the bench does not know it."""
    if name not in METRICS:
        return {"label": name, "unit": "", "higher": None}
    metric = METRICS[name]
    return {
        "label": metric.title + (f", {metric.unit}" if metric.unit else ""),
        "unit": metric.unit,
        "higher": metric.higher_is_better,
    }


def _point(result: Result, clip: int, series: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "clip": clip,
        "series": series.index((result["codec"], result["variant"])),
        "label": result["label"],
        "bytes": result["bytes"],
        "bpp": result["bpp"],
        "metrics": {name: values["mean"] for name, values in result["metrics"].items()},
        "missing": result.get("missing") or {},
        "encode": _speed(result, "encode"),
        "decode": _speed(result, "decode"),
        "memory": [(result.get(what) or {}).get("peak_memory") for what in ("encode", "decode")],
        "pictures": None,
    }


def _speed(result: Result, what: str) -> float | None:
    """Frames a second of the whole command, its start included."""
    seconds = (result.get(what) or {}).get("seconds")
    return result["frames"] / seconds if seconds else None


def frame_figures(results: Sequence[Result]) -> list[dict[str, Any]]:
    """For each result that did not fail its metrics by frame, as {name: [first frame, step, values]}.

    Frames count from 1. A value of a pair of frames stands at the second.
    """
    figures = []
    for result in results:
        if "error" in result:
            continue
        step = (result.get("measured_with") or {}).get("step", 1)
        of_result = {}
        for name, values in result["metrics"].items():
            if frames := values.get("frames"):
                first = 2 if name in METRICS and METRICS[name].values == "pair" else 1
                whole = len(frames) >= result["frames"] + 1 - first
                of_result[name] = [first, 1 if whole else step, frames]
        figures.append(of_result)
    return figures


_FACTS = frozenset({"codec", "variant", "label", "clips", "bytes", "bpp"})


def _means(folders: Sequence[Path], series: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {
            "series": series.index((row["codec"], row["variant"])),
            "label": row["label"],
            "clips": row["clips"],
            "bytes": row["bytes"],
            "bpp": row["bpp"],
            "metrics": {name: row[name] for name in row if name not in _FACTS},
        }
        for row in summarise(*folders)["points"]
    ]


def _comparisons(folders: Sequence[Path], results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """metric -> anchor -> what ``compare`` says, or {"error": why not}."""
    codecs = sorted({result["codec"] for result in results})
    measured = {name for result in results for name in result["metrics"]}
    found: dict[str, dict[str, Any]] = {}
    if len(codecs) < 2:
        return found
    read = curves(*folders)
    for metric in sorted(measured & set(METRICS)):
        for anchor in codecs:
            try:
                compared = compare_curves(read, anchor, metric)
            except S2vcError as error:
                compared = {"error": str(error)}
            found.setdefault(metric, {})[anchor] = compared
    return found


def settings_tables(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What each codec was set to: one entry for each codec and each of its settings, counting their clips."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for result in results:
        if "error" in result:
            continue
        text = json.dumps(result["settings"], sort_keys=True)
        group = groups.setdefault(
            (result["codec"], text),
            {
                "codec": result["codec"],
                "settings": {key: _plain(value) for key, value in result["settings"].items()},
                "clips": set(),
                "points": set(),
                "commands": [
                    result[what]["command"]
                    for what in ("encode", "decode")
                    if (result.get(what) or {}).get("command")
                ],
            },
        )
        group["clips"].add(result["clip"]["name"])
        group["points"].add(result["label"])
    return [
        {**group, "clips": len(group["clips"]), "points": sorted(group["points"])}
        for _, group in sorted(groups.items())
    ]


def measured_tables(results: Sequence[Result]) -> list[tuple[str, str]]:
    """What measured and where: rows of (what, how); several hows of the same what are several rows."""
    rows: dict[tuple[str, str], None] = {}
    for result in results:
        for key, value in (result.get("measured_with") or {}).items():
            rows[(key, _plain(value))] = None
        if "rgb" in result:
            rows[("way to RGB", _plain(result["rgb"]))] = None
        if result.get("machine"):
            rows[("machine", _plain(result["machine"]))] = None
        for name, why in (result.get("missing") or {}).items():
            rows[(f"{name}: n/a", _plain(why))] = None
    return sorted(rows, key=lambda row: row[0])


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)
