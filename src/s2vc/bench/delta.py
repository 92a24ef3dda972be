"""Bjøntegaard deltas of two curves, by the ``bjontegaard`` package: what a clip's points say of two codecs.

Akima interpolation of log rate over the metric (BD-rate) and of the metric over log rate (BD-metric). The
package interpolates; the range is taken here, so that it can be held to a range of rates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Points = Sequence[tuple[float, float]]
"""(bits a pixel, metric) in any order."""


@dataclass(frozen=True)
class Delta:
    """A codec against an anchor on one clip.

    ``rate``: BD-rate in percent, negative: fewer bits. ``metric``: BD-metric in the metric's own unit, the
    codec's less the anchor's. None where the curves do not overlap. ``overlap``: the part of the anchor's
    range of log rate (as far as it counts) over which the metrics of both are the same.
    """

    rate: float | None
    metric: float | None
    overlap: float


def delta(
    anchor: Points, test: Points, *, higher_is_better: bool, rates: tuple[float, float] | None = None
) -> Delta:
    """Deltas of ``test`` against ``anchor``; ``rates``: only between these bits a pixel.

    Points that cost more than another of the same codec and are no better are left out of its curve.
    """
    from bjontegaard import bd_psnr as package_metric
    from bjontegaard import bd_rate as package_rate

    sign = 1.0 if higher_is_better else -1.0
    curves = [_rising(anchor, sign), _rising(test, sign)]
    if min(len(rate) for rate, _ in curves) < 2:
        return Delta(None, None, 0.0)
    (anchor_rate, anchor_value), (test_rate, test_value) = curves
    low, high = np.log10(rates) if rates else (-np.inf, np.inf)
    options: dict[str, Any] = {
        "method": "akima", "require_matching_points": False, "min_overlap": 0, "interpolators": True
    }  # fmt: skip

    by_metric: float | None = None
    left, right = _shared(np.log10(anchor_rate), np.log10(test_rate))
    left, right = max(left, low), min(right, high)
    if left < right:
        _, f, g = package_metric(anchor_rate, anchor_value, test_rate, test_value, **options)
        by_metric = sign * _mean_difference(f, g, left, right)

    left, right = _shared(anchor_value, test_value)
    if left >= right:
        return Delta(None, by_metric, 0.0)
    _, f, g = package_rate(anchor_rate, anchor_value, test_rate, test_value, **options)
    for curve, values in ((f, anchor_value), (g, test_value)):
        left = max(left, _where(curve, values, low))
        right = min(right, _where(curve, values, high))
    if left >= right:
        return Delta(None, by_metric, 0.0)
    span = min(np.log10(anchor_rate[-1]), high) - max(np.log10(anchor_rate[0]), low)
    by_rate = 100 * (10 ** _mean_difference(f, g, left, right) - 1)
    return Delta(float(by_rate), by_metric, float((f(right) - f(left)) / span))


def _rising(points: Points, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Rates and signed values, both strictly rising."""
    kept: list[tuple[float, float]] = []
    for rate, value in sorted(points):
        if not kept or (sign * value > kept[-1][1] and rate > kept[-1][0]):
            kept.append((rate, sign * value))
    rates, values = np.array(kept).reshape(-1, 2).T
    return rates, values


def _shared(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    return max(a[0], b[0]), min(a[-1], b[-1])


def _mean_difference(f: Any, g: Any, left: float, right: float) -> float:
    return float((g.integrate(left, right) - f.integrate(left, right)) / (right - left))


def _where(curve: Callable[[float], Any], values: np.ndarray, log_rate: float) -> float:
    """The value at which a curve has this log rate; one of its ends where it never has."""
    from scipy.optimize import brentq

    if log_rate <= curve(values[0]):
        return float(values[0])
    if log_rate >= curve(values[-1]):
        return float(values[-1])
    return float(brentq(lambda value: float(curve(value)) - log_rate, values[0], values[-1]))
