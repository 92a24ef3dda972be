"""What folders of results say: means per point, and Bjøntegaard deltas per clip against an anchor.

BD-rates are taken clip by clip (``s2vc.bench.delta``) and then averaged, never on averaged curves. A clip
whose curves overlap over less than half of the anchor's range of log rate counts as 0 % in the mean and is
not won. A codec with variants (x265's tunes) stands with the variant that is best for the metric over the
clips.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s2vc.bench.delta import Delta, Points, delta
from s2vc.bench.names import HIGHER_IS_BETTER
from s2vc.bench.results import Result, load_results
from s2vc.errors import InputError

MINIMUM_OVERLAP = 0.5
RESAMPLINGS = 2000

Clips = dict[str, list[dict[str, Any]]]
"""clip -> results in order of rate"""
Curves = dict[str, dict[str, Clips]]
"""codec -> variant -> clips"""


@dataclass(frozen=True)
class Comparison:
    """One codec (with its best variant) against the anchor in one metric."""

    codec: str
    variant: str
    clips: dict[str, Delta]
    missing: tuple[str, ...] = ()
    """Clips of which the codec or the anchor has no values in this metric; they are in no mean."""

    @property
    def mean(self) -> float:
        return float(np.mean([counted(clip) for clip in self.clips.values()])) if self.clips else 0.0

    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean over clips; the same every time."""
        values = np.array([counted(clip) for clip in self.clips.values()])
        draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLINGS, len(values)))
        low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        metrics = [clip.metric for clip in self.clips.values() if clip.metric is not None]
        return {
            "codec": self.codec,
            "variant": self.variant,
            "bd_rate": round(self.mean, 2),
            "interval_95": [round(value, 2) for value in self.interval()],
            "won": sum(counted(clip) < 0 for clip in self.clips.values()),
            "bd_metric": round(float(np.mean(metrics)), 5) if metrics else None,
            "missing": list(self.missing),
            "clips": {
                name: {
                    "bd_rate": None if clip.rate is None else round(clip.rate, 2),
                    "overlap": round(clip.overlap, 3),
                    "counted": round(counted(clip), 2),
                    "bd_metric": None if clip.metric is None else round(clip.metric, 5),
                }
                for name, clip in self.clips.items()
            },
        }


def counted(clip: Delta) -> float:
    """What of a clip's BD-rate enters the mean."""
    return clip.rate if clip.rate is not None and clip.overlap >= MINIMUM_OVERLAP else 0.0


def curves(*folders: str | Path) -> Curves:
    """Results that did not fail, by codec, variant and clip, in order of rate.

    Raises InputError where results under one codec's name were made with other settings than each other, or
    twice: means over them would be of no codec.
    """
    return _curves(load_results(*folders))


def _curves(results: list[Result]) -> Curves:
    found: Curves = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    first: dict[str, dict[str, Any]] = {}
    seen: set[tuple[str, ...]] = set()
    for result in results:
        if "error" in result:
            continue
        codec, clip = result["codec"], result["clip"]["name"]
        other = first.setdefault(codec, result)
        if _made_by(result) != _made_by(other):
            raise InputError(
                f"{codec}: {clip} {result['label']} was made with other settings than "
                f"{other['clip']['name']} {other['label']}: give each its own folder or name, or run the "
                "older again"
            )
        place = (codec, clip, result["label"])
        if place in seen:
            raise InputError(f"{codec}: {clip} {result['label']} is there twice: name one folder that has it")
        seen.add(place)
        found[codec][result["variant"]][clip].append(result)
    for variants in found.values():
        for clips in variants.values():
            for points in clips.values():
                points.sort(key=lambda result: result["bpp"])
    return found


def _made_by(result: dict[str, Any]) -> tuple[Any, ...]:
    return (
        result["settings"],
        result.get("frames_at_most"),
        result.get("measured_with", {}).get("step"),
        result.get("rgb"),
    )


def summarise(*folders: str | Path) -> dict[str, Any]:
    """Means over clips for each codec, variant and point, by rate; ``clips`` says over how many.

    Bits a pixel and metrics are means of the clips' own figures. Points that lack a clip are given, too:
    their means are not comparable with those of full points.
    """
    results = load_results(*folders)
    means: list[dict[str, Any]] = []
    for codec, variants in _curves(results).items():
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
                        **_reported(of_point),
                        **{n: float(np.mean([r["metrics"][n]["mean"] for r in of_point])) for n in names},
                    }
                )
    means.sort(key=lambda row: (row["codec"], row["variant"], row["bpp"]))
    return {"points": means, "failed": _failed(results)}


def _failed(results: list[Result]) -> list[dict[str, str]]:
    return [
        {"codec": r["codec"], "clip": r["clip"]["name"], "label": r["label"], "error": r["error"]}
        for r in results
        if "error" in r
    ]


def _reported(of_point: list[dict[str, Any]]) -> dict[str, float]:
    """The mean rate as the codec's authors count, where all clips have it."""
    if not all("reported_bpp" in result for result in of_point):
        return {}
    return {"reported_bpp": float(np.mean([result["reported_bpp"] for result in of_point]))}


def compare(
    *folders: str | Path, anchor: str, metric: str, rates: tuple[float, float] | None = None
) -> dict[str, Any]:
    """BD-rates of every other codec against ``anchor`` in ``metric``, as a JSON object.

    ``rates``: only between these bits a pixel, as far as the curves reach. Beside quality stands what it
    took: frames a second over all points, and the largest peak memory in bytes, where the results hold them.
    Points that failed are named: curves are without them.
    """
    results = load_results(*folders)
    return {**compare_curves(_curves(results), anchor, metric, rates), "failed": _failed(results)}


def compare_curves(
    found: Curves, anchor: str, metric: str, rates: tuple[float, float] | None = None
) -> dict[str, Any]:
    """``compare`` of curves read before, for many metrics and anchors."""
    if anchor not in found:
        raise InputError(f"no results of {anchor}: there are {', '.join(sorted(found)) or 'none'}")
    measured = any(_curve(points, metric) for v in found[anchor].values() for points in v.values())
    if metric not in HIGHER_IS_BETTER or not measured:
        raise InputError(f"no {metric} in the results of {anchor}: name a metric that was measured")
    variants = _whole(found[anchor])
    first = next(iter(variants.values()))
    chosen = min(variants, key=lambda v: _against(first, variants[v], anchor, v, metric, rates).mean)
    compared, apart = [], {}
    for codec, others in sorted(found.items()):
        if codec == anchor:
            continue
        candidates = [
            _against(variants[chosen], clips, codec, v, metric, rates) for v, clips in _whole(others).items()
        ]
        if not any(candidate.clips for candidate in candidates):
            apart[codec] = f"no clip with {metric} in common with {anchor}"
            continue
        best = min((c for c in candidates if c.clips), key=lambda candidate: candidate.mean)
        compared.append({**best.to_json(), "cost": _cost(others[best.variant])})
    return {
        "metric": metric,
        "anchor": anchor,
        "anchor_variant": chosen,
        "rates": None if rates is None else list(rates),
        "anchor_cost": _cost(variants[chosen]),
        "codecs": compared,
        "not_compared": apart,
    }


def _whole(variants: dict[str, Clips]) -> dict[str, Clips]:
    """Without the variants that some clips lack: a run that is not finished chooses nothing."""
    most = max(len(clips) for clips in variants.values())
    return {variant: clips for variant, clips in variants.items() if len(clips) == most}


def _against(
    anchor: Clips, test: Clips, codec: str, variant: str, metric: str, rates: tuple[float, float] | None
) -> Comparison:
    # published sequences may carry another ending
    named = {Path(name).stem: _curve(points, metric) for name, points in test.items()}
    clips, missing = {}, []
    for name, points in sorted(anchor.items()):
        ours, theirs = named.get(Path(name).stem), _curve(points, metric)
        if ours and theirs:
            better = HIGHER_IS_BETTER[metric]
            clips[name] = delta(theirs, ours, higher_is_better=better, rates=rates)
        else:
            missing.append(name)
    known = {Path(name).stem for name in anchor}
    missing += [name for name in sorted(test) if Path(name).stem not in known]
    return Comparison(codec, variant, clips, tuple(missing))


def _curve(points: list[dict[str, Any]], metric: str) -> Points:
    return [(r["bpp"], r["metrics"][metric]["mean"]) for r in points if metric in r["metrics"]]


def _cost(clips: Clips) -> dict[str, Any]:
    """What a codec took over all its points; None where results do not say."""
    cost: dict[str, Any] = {}
    for step in ("encode", "decode"):
        known = [r for points in clips.values() for r in points if step in r]
        seconds = sum(r[step]["seconds"] for r in known)
        memory = [r[step]["peak_memory"] for r in known if "peak_memory" in r[step]]
        cost[f"{step}_frames_per_second"] = (
            round(sum(r["frames"] for r in known) / seconds, 2) if seconds else None
        )
        cost[f"{step}_peak_memory"] = max(memory, default=None)
    return cost


def table(summary: dict[str, Any]) -> str:
    """``summarise``'s points as lines of text."""
    metrics: list[str] = []
    for row in summary["points"]:
        metrics += [name for name in row if name not in metrics and name not in _PLAIN]
    reported = any("reported_bpp" in row for row in summary["points"])
    lines = [
        f"{'codec':<10} {'point':<14} {'clips':>5} {'bytes':>9} {'bpp':>8}"
        + (f" {'reported':>8}" if reported else "")
        + "".join(f" {m:>11}" for m in metrics)
    ]
    for row in summary["points"]:
        line = (
            f"{row['codec']:<10} {row['label']:<14} {row['clips']:>5} {row['bytes']:>9.0f} {row['bpp']:>8.5f}"
        )
        if reported:
            line += f" {row['reported_bpp']:>8.5f}" if "reported_bpp" in row else f" {'':>8}"
        lines.append(line + "".join(f" {row[m]:>11.4f}" if m in row else f" {'n/a':>11}" for m in metrics))
    return "\n".join(lines + _failed_lines(summary["failed"]))


def _failed_lines(failed: list[dict[str, str]]) -> list[str]:
    return [f"failed: {f['codec']} {f['clip']} {f['label']}: {f['error']}" for f in failed]


_PLAIN = frozenset({"codec", "variant", "label", "clips", "bytes", "bpp", "reported_bpp"})


def comparison_table(compared: dict[str, Any]) -> str:
    """``compare``'s object as lines of text."""
    anchor = _titled(compared["anchor"], compared["anchor_variant"])
    between = "" if compared["rates"] is None else " between {:g} and {:g} bpp".format(*compared["rates"])
    lines = [
        f"BD-rate in {compared['metric']} against {anchor}{between}, %; in brackets the overlap",
        f"{anchor}: {_cost_text(compared['anchor_cost'])}",
    ]
    for codec in compared["codecs"]:
        low, high = codec["interval_95"]
        lines.append(
            f"{_titled(codec['codec'], codec['variant'])}: "
            f"mean {codec['bd_rate']:+.1f} [{low:+.1f}, {high:+.1f}], "
            f"better on {codec['won']} of {len(codec['clips'])} clips"
            + ("" if codec["bd_metric"] is None else f"; BD-{compared['metric']} {codec['bd_metric']:+.4f}")
            + f"; {_cost_text(codec['cost'])}"
        )
        for clip, figures in codec["clips"].items():
            shown = "no overlap" if figures["bd_rate"] is None else f"{figures['bd_rate']:+.1f}"
            little = "" if figures["overlap"] >= MINIMUM_OVERLAP else ", counted as 0"
            lines.append(f"  {clip:<36} {shown:>10} ({figures['overlap']:.0%}{little})")
        lines += [f"  {clip:<36} {'n/a':>10}" for clip in codec["missing"]]
    lines += [f"{codec}: not compared: {reason}" for codec, reason in compared["not_compared"].items()]
    return "\n".join(lines + _failed_lines(compared["failed"]))


def _titled(codec: str, variant: str) -> str:
    return codec + (f" ({variant})" if variant else "")


def _cost_text(cost: dict[str, Any]) -> str:
    parts = []
    for step in ("encode", "decode"):
        speed, memory = cost[f"{step}_frames_per_second"], cost[f"{step}_peak_memory"]
        if speed is not None:
            parts.append(
                f"{step} {speed:.1f} frames/s" + ("" if memory is None else f", {memory / 1e6:.0f} MB")
            )
    return ", ".join(parts) or "speed not measured"
