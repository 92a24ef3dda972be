"""Quality targets, and estimates before an encode: a search over a few probes, as ab-av1 does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2vc.models.files import DEFAULT

from .encoder import longest_interval
from .measures import PRICES, QualityTarget, load_measure
from .models import Model, load, set_threads
from .probes import EncodePlan, Probes
from .rates import Coded, RateRequest
from .sources import PathLike, Seconds
from .target_control import TargetControl

_CLOSE = 0.01  # a value so near the target, on its good side, ends a search
_CLOSE_BITS = 0.03  # octaves
_BITS_RISE = 0.055  # octaves a step of quality, about
_MOST_EVALUATIONS = 4

# What a target may cost beside the encode, in frames of it: at most half of them.
_PROBE_FRAMES = 4  # as many as a picture depends on; what comes later is measured on the way
_RENDERED = 1.25  # a frame that is coded and rendered
_LOOK = 1.0  # rendering the last frames
_FRAMES_A_PROBE = 100
_MOST_PROBES = 24
_MOST_QUICK_EVALUATIONS = 3
_SEARCH_SHARE, _SHARE = 0.15, 0.42
_SHORTEST_INTERVAL = 12


def target_control(
    text: str, source: PathLike, model: Model, measures_on: bool, **part: Any
) -> TargetControl:
    """What holds an encode to a target, started by quick probes. ``part``: as for Probes.

    measures_on: whether to go on measuring while coding. Raises ValueError for no target, InputError for a
    source that cannot be read twice, ModelError without the metric's weights.
    """
    target = QualityTarget.parse(text)
    measure = load_measure(target.metric)
    probes = Probes(source, model, measure, **part)
    places = int(np.clip(probes.count // _FRAMES_A_PROBE, 1, _MOST_PROBES))
    price = PRICES[target.metric]
    evaluation = places * (_PROBE_FRAMES * _RENDERED + price)
    evaluations = int(np.clip(_SEARCH_SHARE * probes.count / evaluation, 1, _MOST_QUICK_EVALUATIONS))
    looks = max(1.0, (_SHARE * probes.count - evaluations * evaluation) / (_LOOK + price))
    interval = max(_SHORTEST_INTERVAL, math.ceil(probes.count / looks))
    probes.spread(places, _PROBE_FRAMES)

    def goodness(quality: int) -> float:
        value = probes.evaluate(quality).value
        assert value is not None
        return target.goodness(value)

    lowest_quality(
        goodness, target.goodness(target.value), target.rise, target.slack(_CLOSE), most=evaluations
    )
    found = sorted((known.quality, goodness(round(known.quality))) for known in probes.done)
    curve = _along(found, target.rise)
    return TargetControl(
        target,
        measure,
        curve,
        probes.count,
        interval if measures_on else None,
        intra_only=not model.networks.quality_per_frame,
    )


def _along(points: list[tuple[float, float]], rise: float) -> NDArray[np.float64]:
    """A rising line through (quality, goodness), float64 (64,); beyond the outermost by ``rise`` a step."""
    qualities = np.arange(64.0)
    places, values = (np.array(part, float) for part in zip(*points, strict=True))
    values = np.maximum.accumulate(values) + 1e-3 * rise * (places - places[0])
    line = np.interp(qualities, places, values)
    line += rise * (np.maximum(qualities - places[-1], 0) - np.maximum(places[0] - qualities, 0))
    return line


def _find_quality(probes: Probes, target: QualityTarget, keyint: int) -> EncodePlan:
    """The lowest quality that meets a target."""

    def goodness(quality: int) -> float:
        value = probes.evaluate(quality).value
        assert value is not None
        return target.goodness(value)

    wanted = target.goodness(target.value)
    quality = lowest_quality(goodness, wanted, target.rise, target.slack(_CLOSE))
    return probes.plan(probes.between(quality), keyint, target)


def _find_rate(probes: Probes, bits: float, keyint: int) -> EncodePlan:
    """The quality, the same for all frames, whose file comes nearest to so many bits."""

    def size(quality: int) -> float:
        return math.log2(8 * probes.plan(probes.evaluate(quality), keyint).bytes)

    quality = lowest_quality(size, math.log2(bits), _BITS_RISE, _CLOSE_BITS)
    found = probes.plan(probes.between(quality), keyint)
    off = 8 * found.bytes / bits - 1
    return replace(found, met=abs(off) < 0.1)


def plan(
    source: PathLike,
    *,
    model: str | Model = DEFAULT,
    quality: int = 32,
    keyint: int | str | None = None,
    device: str = "auto",
    start: Seconds = None,
    duration: Seconds = None,
    frames: int | None = None,
    scale: str | tuple[int, int] | None = None,
    threads: int | None = None,
    bitrate: float | None = None,
    target_size: int | None = None,
    bpp: float | None = None,
    quality_target: str | None = None,
) -> EncodePlan:
    """What an encode would come to, from a few probes of the source; arguments as for ``encode``.

    >>> import s2vc
    >>> s2vc.plan("holiday.mp4", quality=20).frames
    12

    A rate or size is answered by the one quality that comes nearest to it. Other tracks are not counted.
    Raises InputError, ModelError, ValueError.
    """
    set_threads(threads)
    request = RateRequest(bitrate, target_size, bpp)
    if request and quality_target is not None:
        raise ValueError("give a rate, a size or a quality target, not two of them")
    loaded = load(model, device) if isinstance(model, str) else model
    target = None if quality_target is None else QualityTarget.parse(quality_target)
    probes = Probes(
        source,
        loaded,
        None if target is None else load_measure(target.metric),
        start=start,
        duration=duration,
        frames=frames,
        scale=scale,
    )
    interval = longest_interval(keyint, probes.info.average_rate)
    if target is not None:
        return _find_quality(probes, target, interval)
    if request:
        pixels = probes.info.width * probes.info.height
        seconds = float(probes.count / (probes.info.average_rate or 25))
        bits = request.video_bits(Coded(probes.count, seconds, 0, 0, pixels, None))
        return _find_rate(probes, bits, interval)
    return probes.plan(probes.evaluate(quality), interval)


def lowest_quality(
    goodness: Callable[[int], float], wanted: float, rise: float, close: float, most: int = _MOST_EVALUATIONS
) -> int:
    """The lowest quality, 0 … 63, whose ``goodness`` (rising with it) is at least ``wanted``; 63 if none is.

    At most ``most`` evaluations: between two of them quality is taken for a parabola over goodness, beyond
    the last two goodness for a straight line, and for one that rises by ``rise`` a step where there is but
    one. One that is at most ``close`` too good ends the search.
    """
    points: dict[int, float] = {}
    quality = 32
    while True:
        points[quality] = goodness(quality)
        low = max((q for q, value in points.items() if value < wanted), default=-1)
        high = min((q for q, value in points.items() if value >= wanted and q > low), default=64)
        if high - low <= 1:
            return min(high, 63)
        near = high <= 63 and points[high] - wanted <= close
        guess = _guess(points, wanted, low, high, rise)
        if near or len(points) == most:
            return high if near else min(guess, 63)
        quality = guess


def _guess(points: dict[int, float], wanted: float, low: int, high: int, rise: float) -> int:
    """Where between ``low`` and ``high``, both excluded, goodness may reach ``wanted``."""
    ends = [q for q in (low, high) if q in points]
    if len(ends) < 2:
        ends = sorted(points)[:2] if low == -1 else sorted(points)[-2:]
    a, b = ends[0], ends[-1]
    if a != b:
        rise = (points[b] - points[a]) / (b - a)
    guess = a + (wanted - points[a]) / rise if rise > 0 else (low + high) / 2
    if (a, b) == (low, high) and rise > 0:
        guess += _bend(points, a, b) * (wanted - points[a]) * (wanted - points[b])
    return int(np.clip(math.ceil(guess - 1e-9), low + 1, high - 1))


def _bend(points: dict[int, float], a: int, b: int) -> float:
    """How quality bends over goodness by the point nearest to a and b, as far as it still rises between them.

    Straight lines alone close in from one side where goodness bends strongly, and too slowly.
    """
    others = sorted(set(points) - {a, b}, key=lambda q: min(abs(q - a), abs(q - b)))
    at_a, at_b = points[a], points[b]
    if not others or points[others[0]] in (at_a, at_b):
        return 0.0
    c, at_c = others[0], points[others[0]]
    straight = (b - a) / (at_b - at_a)
    most = straight / (at_b - at_a)
    return float(np.clip(((c - b) / (at_c - at_b) - straight) / (at_c - at_a), -most, most))
