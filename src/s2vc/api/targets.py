"""Quality targets and estimates before an encode, from a few probes of the source (as ab-av1 does for AV1).

A probe is a run of consecutive frames, coded by itself. One evaluation codes every probe at one quality; a
search takes a few of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from s2vc.codec.encoder import VideoEncoder
from s2vc.errors import InputError, TargetError
from s2vc.models.files import DEFAULT
from s2vc.video import VideoInfo, open_video, parse_time

from .measures import Measure, QualityTarget, load_measure
from .models import Model, load, set_threads
from .rates import Coded, RateRequest
from .sources import PathLike
from .streams import longest_interval

Seconds: TypeAlias = "str | float | Fraction | None"

PROBE_FRAMES = 48  # pictures get worse for a while behind an I-frame: shorter ones flatter
_SHARE = 0.05  # of all frames that one evaluation codes
_MOST_PROBES = 12
_MOST_EVALUATIONS = 4
_CLOSE = 0.01  # a value so near the target, on its good side, ends the search
_FRAME_OVERHEAD = 28  # bits that the container takes, about
_FILE_OVERHEAD = 1200


@dataclass(frozen=True)
class Evaluation:
    """All probes coded at one quality: mean bits of their I- and P-frames, and the metric's mean."""

    quality: float
    intra_bits: float
    inter_bits: float
    value: float | None = None


@dataclass(frozen=True)
class EncodePlan:
    """An estimate. ``bytes``, ``kbps``, ``bpp``: of the video, container included. ``value``: of ``metric``.

    ``met``: whether what was asked for can be met, as far as probes tell. ``evaluations``: what was tried.
    """

    quality: int
    frames: int
    bytes: int
    kbps: float
    bpp: float
    metric: str | None = None
    value: float | None = None
    met: bool = True
    evaluations: tuple[Evaluation, ...] = ()


@dataclass
class Probes:
    """Where a source is probed, and with what. Raises InputError for a source that cannot be read twice."""

    source: PathLike
    model: Model
    measure: Measure | None = None
    start: str | float | Fraction | None = None
    duration: str | float | Fraction | None = None
    frames: int | None = None
    scale: str | tuple[int, int] | None = None
    done: list[Evaluation] = field(default_factory=list)

    def __post_init__(self) -> None:
        if str(self.source) == "-":
            raise InputError("standard input cannot be read twice: name a file, or give --quality")
        begin = parse_time(self.start) if isinstance(self.start, str) else Fraction(self.start or 0)
        with open_video(
            self.source, start=begin, duration=self.duration, frames=self.frames, scale=self.scale
        ) as reader:
            self.info: VideoInfo = reader.info
            count = self.info.frame_count or sum(1 for _ in reader)
        rate = self.info.average_rate or Fraction(25)
        if self.duration is not None:
            length = parse_time(self.duration) if isinstance(self.duration, str) else Fraction(self.duration)
            count = min(count, math.ceil(length * rate))
        self.count = max(1, min(count, self.frames or count))
        probes = int(np.clip(round(_SHARE * self.count / PROBE_FRAMES), 1, _MOST_PROBES))
        spare = max(0, self.count - PROBE_FRAMES)
        self._starts = [begin + Fraction(round(spare * n / probes)) / rate for n in range(probes)]

    def _pictures(self) -> Iterator[list[NDArray[np.uint8]]]:
        for start in self._starts:
            frames = min(PROBE_FRAMES, self.count)
            with open_video(self.source, start=start, frames=frames, scale=self.scale) as reader:
                pictures = [frame.rgb for frame in reader]
            if pictures:
                yield pictures

    def evaluate(self, quality: int) -> Evaluation:
        """Code all probes at a quality, and measure them where a measure was given."""
        for known in self.done:
            if known.quality == quality:
                return known
        networks = self.model.networks
        bits: dict[bool, list[int]] = {True: [], False: []}
        values: list[float] = []
        for pictures in self._pictures():
            encoder = VideoEncoder(
                networks,
                self.info.width,
                self.info.height,
                quality=quality,
                keyint=len(pictures) + 1,
                reset_period=networks.reset_period,
                reconstruct=self.measure is not None,
            )
            chunks = [chunk for n, picture in enumerate(pictures) for chunk in encoder.push(picture, n, 1)]
            chunks += encoder.flush()
            sizes = [8 * len(packet.payload) for coded in chunks for packet in coded.chunk.packets]
            bits[True].append(sizes[0])
            bits[False] += sizes[1:]
            if self.measure is not None:
                shown = [picture for coded in chunks for picture in coded.pictures]
                values.append(self.measure(pictures, shown))
        if not bits[True]:
            raise InputError(f"{self.source}: there is no frame in it: nothing was probed")
        found = Evaluation(
            quality,
            float(np.mean(bits[True])),
            float(np.mean(bits[False] or bits[True])),
            float(np.mean(values)) if values else None,
        )
        self.done.append(found)
        return found

    def plan(self, evaluation: Evaluation, keyint: int, target: QualityTarget | None = None) -> EncodePlan:
        """The estimate for the whole of it."""
        intras = 1 + (self.count - 1) // keyint
        bits = intras * evaluation.intra_bits + (self.count - intras) * evaluation.inter_bits
        bits += _FRAME_OVERHEAD * self.count + _FILE_OVERHEAD
        seconds = float(self.count / (self.info.average_rate or 25))
        met = True
        if target is not None and evaluation.value is not None:
            better = (
                evaluation.value - target.value
                if target.higher_is_better
                else target.value - evaluation.value
            )
            met = better >= -_CLOSE * target.value
        return EncodePlan(
            quality=round(evaluation.quality),
            frames=self.count,
            bytes=round(bits / 8),
            kbps=bits / 1000 / seconds,
            bpp=bits / (self.count * self.info.width * self.info.height),
            metric=None if target is None else target.metric,
            value=evaluation.value,
            met=met,
            evaluations=tuple(self.done),
        )

    def find_quality(self, target: QualityTarget, keyint: int) -> EncodePlan:
        """The lowest quality that meets a target."""

        def goodness(quality: int) -> float:
            value = self.evaluate(quality).value
            assert value is not None
            return value if target.higher_is_better else -value

        wanted = target.value if target.higher_is_better else -target.value
        return self.plan(self._between(lowest_quality(goodness, wanted)), keyint, target)

    def find_rate(self, bits: float, keyint: int) -> EncodePlan:
        """The quality, the same for all frames, whose file comes nearest to so many bits."""

        def size(quality: int) -> float:
            return math.log2(8 * self.plan(self.evaluate(quality), keyint).bytes)

        quality = lowest_quality(size, math.log2(bits))
        found = self.plan(self._between(quality), keyint)
        off = 8 * found.bytes / bits - 1
        return EncodePlan(**{**found.__dict__, "met": abs(off) < 0.1})

    def _between(self, quality: int) -> Evaluation:
        """What a quality would give, from those tried on both sides of it."""
        tried = sorted(self.done, key=lambda known: known.quality)
        places = [known.quality for known in tried]

        def along(values: list[float]) -> float:
            return float(np.interp(quality, places, values))

        values = [known.value for known in tried if known.value is not None]
        return Evaluation(
            quality,
            2 ** along([math.log2(max(1.0, known.intra_bits)) for known in tried]),
            2 ** along([math.log2(max(1.0, known.inter_bits)) for known in tried]),
            along(values) if len(values) == len(tried) else None,
        )


def target_quality(
    text: str, source: PathLike, model: Model, strict: bool, keyint: int | str | None, **part: Any
) -> tuple[int, str | None]:
    """(the lowest quality that meets a target, a warning where none does). ``part``: as for Probes.

    Raises ValueError for no target, ModelError without the metric's weights, TargetError with ``strict``.
    """
    target = QualityTarget.parse(text)
    probes = Probes(source, model, load_measure(target.metric), **part)
    found = probes.find_quality(target, longest_interval(keyint, probes.info.average_rate))
    if found.met:
        return found.quality, None
    message = (
        f"{target.metric} {target.value:g} cannot be met: quality {found.quality} gives about "
        f"{found.value:.4g}: choose a value nearer to it"
    )
    if strict:
        raise TargetError(message)
    return found.quality, message


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
        return probes.find_quality(target, interval)
    if request:
        pixels = probes.info.width * probes.info.height
        seconds = float(probes.count / (probes.info.average_rate or 25))
        return probes.find_rate(
            request.video_bits(Coded(probes.count, seconds, 0, 0, pixels, None)), interval
        )
    return probes.plan(probes.evaluate(quality), interval)


def lowest_quality(goodness: Callable[[int], float], wanted: float) -> int:
    """The lowest quality, 0 … 63, whose ``goodness`` (rising with it) is at least ``wanted``; 63 if none is.

    Few evaluations: between two of them, or beyond the last two, goodness is taken for a straight line.
    """
    points: dict[int, float] = {}
    quality = 32
    while True:
        points[quality] = goodness(quality)
        low = max((q for q, value in points.items() if value < wanted), default=-1)
        high = min((q for q, value in points.items() if value >= wanted and q > low), default=64)
        if high - low <= 1:
            return min(high, 63)
        near = high <= 63 and points[high] - wanted <= _CLOSE * max(abs(wanted), 1e-9)
        guess = _guess(points, wanted, low, high)
        if near or len(points) == _MOST_EVALUATIONS:
            return high if near else min(guess, 63)
        quality = guess


def _guess(points: dict[int, float], wanted: float, low: int, high: int) -> int:
    """Where between ``low`` and ``high``, both excluded, goodness may reach ``wanted``."""
    if len(points) == 1:
        guess = 48.0 if high == 64 else 16.0
    else:
        ends = [q for q in (low, high) if q in points]
        if len(ends) < 2:
            ends = sorted(points)[:2] if low == -1 else sorted(points)[-2:]
        a, b = ends
        rise = points[b] - points[a]
        guess = a + (wanted - points[a]) * (b - a) / rise if rise > 0 else (low + high) / 2
    return int(np.clip(math.ceil(guess - 1e-9), low + 1, high - 1))
