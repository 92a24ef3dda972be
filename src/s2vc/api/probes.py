"""Probes of a source: runs of consecutive frames, each coded by itself, and what an encode would come to.

One evaluation codes every probe at one quality.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from s2vc.codec.encoder import VideoEncoder
from s2vc.errors import InputError
from s2vc.video import VideoInfo, open_video, parse_time

from .measures import Measure, QualityTarget
from .models import Model
from .sources import PathLike, can_read_twice, name

PROBE_FRAMES = 48  # pictures get worse for a while behind an I-frame: shorter ones flatter
_SHARE = 0.05  # of all frames that one evaluation codes
_MOST_PROBES = 12
_CLOSE = 0.01  # share of a target by which an estimate may miss it
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
        if not can_read_twice(self.source):
            raise InputError(f"{name(self.source)} cannot be read twice: name a file, or give --quality")
        begin = parse_time(self.start or 0)
        with open_video(
            self.source, start=begin, duration=self.duration, frames=self.frames, scale=self.scale
        ) as reader:
            self.info: VideoInfo = reader.info
            count = self.info.frame_count or sum(1 for _ in reader)
        rate = self.info.average_rate or Fraction(25)
        if self.duration is not None:
            count = min(count, math.ceil(parse_time(self.duration) * rate))
        self.count = max(1, min(count, self.frames or count))
        self._begin, self._rate = begin, rate
        self.spread(int(np.clip(round(_SHARE * self.count / PROBE_FRAMES), 1, _MOST_PROBES)), PROBE_FRAMES)

    def spread(self, probes: int, length: int) -> None:
        """So many probes of so many frames, over all of the source; forgets evaluations."""
        self._length = min(length, self.count)
        spare = self.count - self._length
        self._starts = [self._begin + Fraction(round(spare * n / probes)) / self._rate for n in range(probes)]
        self.done.clear()

    def _pictures(self) -> Iterator[list[NDArray[np.uint8]]]:
        for start in self._starts:
            with open_video(self.source, start=start, frames=self._length, scale=self.scale) as reader:
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
            met = target.goodness(evaluation.value) >= target.goodness(target.value) - target.slack(_CLOSE)
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

    def between(self, quality: int) -> Evaluation:
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
