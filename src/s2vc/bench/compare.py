"""What folders of results say: means per point, and BD-rates per clip against an anchor.

BD-rates are taken clip by clip by the ``bjontegaard`` package (Akima interpolation of log rate over the
metric) and then averaged, never on averaged curves. A clip whose curves overlap over less than half of the
anchor's range of log rate counts as 0 % in the mean and is not won. A codec with variants (x265's tunes)
stands with the variant that is best for the metric over the clips.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s2vc.bench.names import HIGHER_IS_BETTER
from s2vc.bench.results import FILES, read_json
from s2vc.errors import InputError, S2vcError

MINIMUM_OVERLAP = 0.5
RESAMPLINGS = 2000

Curves = dict[str, dict[str, dict[str, list[dict[str, Any]]]]]
"""codec -> variant -> clip -> results in order of rate"""


@dataclass(frozen=True)
class ClipComparison:
    """``bd_rate`` in percent, None without overlap; ``overlap``: its share of the anchor's log rate."""

    clip: str
    bd_rate: float | None
    overlap: float

    @property
    def counted(self) -> float:
        """What enters the mean."""
        return self.bd_rate if self.bd_rate is not None and self.overlap >= MINIMUM_OVERLAP else 0.0

    @property
    def won(self) -> bool:
        return self.counted < 0


@dataclass(frozen=True)
class Comparison:
    """One codec (with its best variant) against the anchor in one metric."""

    codec: str
    variant: str
    clips: tuple[ClipComparison, ...]

    @property
    def mean(self) -> float:
        return float(np.mean([clip.counted for clip in self.clips]))

    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean over clips."""
        values = np.array([clip.counted for clip in self.clips])
        draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLINGS, len(values)))
        low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        return {
            "codec": self.codec,
            "variant": self.variant,
            "bd_rate": round(self.mean, 2),
            "interval_95": [round(value, 2) for value in self.interval()],
            "won": sum(clip.won for clip in self.clips),
            "clips": {
                clip.clip: {
                    "bd_rate": None if clip.bd_rate is None else round(clip.bd_rate, 2),
                    "overlap": round(clip.overlap, 3),
                    "counted": round(clip.counted, 2),
                }
                for clip in self.clips
            },
        }


def results(*folders: str | Path) -> Iterator[dict[str, Any]]:
    """Every result under the folders, failed ones (with ``error``) among them."""
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"no folder {folder}: name one that s2vc bench run has written")
        for path in sorted(folder.rglob("*.json")):
            if FILES in path.parts:
                continue
            content = read_json(path)
            if content and "codec" in content and "label" in content:
                yield content


def curves(*folders: str | Path) -> Curves:
    """Results that did not fail, by codec, variant and clip, in order of rate."""
    found: Curves = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for result in results(*folders):
        if "error" not in result:
            found[result["codec"]][result["variant"]][result["clip"]["name"]].append(result)
    for variants in found.values():
        for clips in variants.values():
            for points in clips.values():
                points.sort(key=lambda result: result["bpp"])
    return found


def summarise(*folders: str | Path) -> dict[str, Any]:
    """Means over clips for each codec, variant and point, by rate; ``clips`` says over how many.

    Bits a pixel and metrics are means of the clips' own figures. Points that lack a clip are given, too:
    their means are not comparable with those of full points.
    """
    means: list[dict[str, Any]] = []
    for codec, variants in curves(*folders).items():
        for variant, clips in variants.items():
            points: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for of_clip in clips.values():
                for result in of_clip:
                    points[result["label"]].append(result)
            for label, of_point in points.items():
                names = [
                    name for name in of_point[0]["metrics"] if all(name in r["metrics"] for r in of_point)
                ]
                means.append(
                    {
                        "codec": codec,
                        "variant": variant,
                        "label": label,
                        "clips": len(of_point),
                        "bytes": float(np.mean([r["bytes"] for r in of_point])),
                        "bpp": float(np.mean([r["bpp"] for r in of_point])),
                        **{n: float(np.mean([r["metrics"][n]["mean"] for r in of_point])) for n in names},
                    }
                )
    means.sort(key=lambda row: (row["codec"], row["variant"], row["bpp"]))
    failed = [
        {"codec": r["codec"], "clip": r["clip"]["name"], "label": r["label"], "error": r["error"]}
        for r in results(*folders)
        if "error" in r
    ]
    return {"points": means, "failed": failed}


def compare(*folders: str | Path, anchor: str, metric: str) -> dict[str, Any]:
    """BD-rates of every other codec against ``anchor`` in ``metric``, as a JSON object."""
    found = curves(*folders)
    if anchor not in found:
        raise InputError(f"no results of {anchor}: there are {', '.join(sorted(found)) or 'none'}")
    if not any(metric in r["metrics"] for v in found[anchor].values() for c in v.values() for r in c):
        raise InputError(f"no {metric} in the results of {anchor}: name a metric that was measured")
    variants = _whole(found[anchor])
    first = next(iter(variants))
    chosen = min(variants, key=lambda v: _against(variants[first], variants[v], anchor, v, metric).mean)
    compared = []
    for codec, others in sorted(found.items()):
        if codec == anchor:
            continue
        candidates = [
            _against(variants[chosen], clips, codec, v, metric) for v, clips in _whole(others).items()
        ]
        compared.append(min(candidates, key=lambda candidate: candidate.mean))
    return {
        "metric": metric,
        "anchor": anchor,
        "anchor_variant": chosen,
        "codecs": [comparison.to_json() for comparison in compared],
    }


def _whole(
    variants: dict[str, dict[str, list[dict[str, Any]]]],
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Without the variants that some clips lack: a run that is not finished chooses nothing."""
    most = max(len(clips) for clips in variants.values())
    return {variant: clips for variant, clips in variants.items() if len(clips) == most}


def _against(
    anchor: dict[str, list[dict[str, Any]]],
    test: dict[str, list[dict[str, Any]]],
    codec: str,
    variant: str,
    metric: str,
) -> Comparison:
    clips = [
        bd_rate(name, _curve(points, metric), _curve(test[name], metric), metric)
        for name, points in sorted(anchor.items())
        if name in test
    ]
    if not clips:
        raise S2vcError(f"{codec} and the anchor have no clip in common: run both on the same spec")
    return Comparison(codec, variant, tuple(clips))


def _curve(points: list[dict[str, Any]], metric: str) -> list[tuple[float, float]]:
    return [(r["bpp"], r["metrics"][metric]["mean"]) for r in points if metric in r["metrics"]]


def bd_rate(
    clip: str, anchor: list[tuple[float, float]], test: list[tuple[float, float]], metric: str
) -> ClipComparison:
    """(bits a pixel, metric) points of two codecs -> BD-rate of ``test`` in percent; negative: fewer bits.

    Points that cost more than another of the same codec and are no better are left out of its curve.
    """
    from bjontegaard import bd_rate as package_bd_rate

    sign = 1.0 if HIGHER_IS_BETTER[metric] else -1.0
    anchor_rate, anchor_value = _rising(anchor, sign)
    test_rate, test_value = _rising(test, sign)
    if min(len(anchor_rate), len(test_rate)) < 2:
        return ClipComparison(clip, None, 0.0)
    low, high = max(anchor_value[0], test_value[0]), min(anchor_value[-1], test_value[-1])
    if low >= high:
        return ClipComparison(clip, None, 0.0)
    log_rate = np.log(anchor_rate)
    shared = np.diff(np.interp([low, high], anchor_value, log_rate))[0]
    percent = package_bd_rate(
        anchor_rate, anchor_value, test_rate, test_value,
        method="akima", require_matching_points=False, min_overlap=0,
    )  # fmt: skip
    return ClipComparison(clip, float(percent), float(shared / (log_rate[-1] - log_rate[0])))


def _rising(points: list[tuple[float, float]], sign: float) -> tuple[np.ndarray, np.ndarray]:
    kept: list[tuple[float, float]] = []
    for rate, value in sorted(points):
        if not kept or (sign * value > kept[-1][1] and rate > kept[-1][0]):
            kept.append((rate, sign * value))
    rates, values = np.array(kept).reshape(-1, 2).T
    return rates, values


def table(summary: dict[str, Any]) -> str:
    """``summarise``'s points as lines of text."""
    metrics: list[str] = []
    for row in summary["points"]:
        metrics += [name for name in row if name not in metrics and name not in _PLAIN]
    lines = [
        f"{'codec':<10} {'point':<14} {'clips':>5} {'bytes':>9} {'bpp':>8}"
        + "".join(f" {m:>11}" for m in metrics)
    ]
    for row in summary["points"]:
        line = (
            f"{row['codec']:<10} {row['label']:<14} {row['clips']:>5} {row['bytes']:>9.0f} {row['bpp']:>8.5f}"
        )
        lines.append(line + "".join(f" {row[m]:>11.4f}" if m in row else f" {'n/a':>11}" for m in metrics))
    lines += [f"failed: {f['codec']} {f['clip']} {f['label']}: {f['error']}" for f in summary["failed"]]
    return "\n".join(lines)


_PLAIN = frozenset({"codec", "variant", "label", "clips", "bytes", "bpp"})


def comparison_table(compared: dict[str, Any]) -> str:
    """``compare``'s object as lines of text."""
    anchor = compared["anchor"] + (f" ({compared['anchor_variant']})" if compared["anchor_variant"] else "")
    lines = [f"BD-rate in {compared['metric']} against {anchor}, %; in brackets the overlap"]
    for codec in compared["codecs"]:
        low, high = codec["interval_95"]
        name = codec["codec"] + (f" ({codec['variant']})" if codec["variant"] else "")
        lines.append(
            f"{name}: mean {codec['bd_rate']:+.1f} [{low:+.1f}, {high:+.1f}], "
            f"better on {codec['won']} of {len(codec['clips'])} clips"
        )
        for clip, figures in codec["clips"].items():
            shown = "no overlap" if figures["bd_rate"] is None else f"{figures['bd_rate']:+.1f}"
            counted = "" if figures["overlap"] >= MINIMUM_OVERLAP else ", counted as 0"
            lines.append(f"  {clip:<36} {shown:>10} ({figures['overlap']:.0%}{counted})")
    return "\n".join(lines)
