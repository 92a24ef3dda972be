"""A size or a rate that was asked for: which passes over the source meet it, and whether they did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from s2vc.codec.layers import key_period
from s2vc.codec.rate_control import LeakyBucket, QualityControl, RateControl
from s2vc.codec.rate_plans import AverageRate, ConstantQuality, KnownFrames, Plan
from s2vc.errors import TargetError
from s2vc.video import VideoInfo

TOLERANCE = {1: 0.10, 2: 0.03}
"""How far from what was asked a result may lie, as a share of it, by the number of passes."""

_MOST_PASSES = 4
_AIM = 0.99  # of a target size, which must not be exceeded
_SLACK_BITS = 64  # by which the container's last bits may differ from the pass before
_USUAL_RATE = 25


ControlMaker = Callable[[VideoInfo, int], QualityControl]
"""(video, longest interval of I-frames in frames) -> the control of one pass."""


@dataclass(frozen=True)
class Coded:
    """A pass that was made. Bytes of the whole file and of its video; seconds of video."""

    frames: int
    seconds: float
    bytes: int
    video_bytes: int
    pixels: int
    control: QualityControl | None


Judge = Callable[[Coded], "str | None"]
"""Looks at a pass before its output stands: a warning or None; where it raises, nothing is left of it."""

Result = TypeVar("Result")


class NullFile:
    """Takes what a dry run writes."""

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        pass


@dataclass(frozen=True)
class RateRequest:
    """What was asked for: at most one of ``bitrate`` (bits a second), ``target_size`` (bytes of the whole
    file), ``bpp`` (bits a pixel); beside it or alone ``max_bitrate`` (bits a second) with ``bufsize`` (bits;
    one second of it if not given). Rates are of the video, container included. ``quality``: where only a
    highest rate is asked for. Raises ValueError where that makes no sense.
    """

    bitrate: float | None = None
    target_size: int | None = None
    bpp: float | None = None
    max_bitrate: float | None = None
    bufsize: float | None = None
    passes: int | None = None
    quality: int = 32

    def __post_init__(self) -> None:
        wishes = [self.bitrate, self.target_size, self.bpp]
        given = [value for value in (*wishes, self.max_bitrate, self.bufsize) if value is not None]
        if any(value <= 0 for value in given):
            raise ValueError("rates and sizes are greater than 0")
        if sum(value is not None for value in wishes) > 1:
            raise ValueError("give one of bitrate, target_size and bpp")
        if self.bufsize is not None and self.max_bitrate is None:
            raise ValueError("bufsize needs max_bitrate")
        if self.passes not in (None, 1, 2):
            raise ValueError(f"passes is 1 or 2, not {self.passes}")
        if self.passes == 2 and not self.averages:
            raise ValueError("two passes need bitrate, target_size or bpp")
        if self.target_size is not None and self.passes == 1:
            raise ValueError("target_size takes two passes")

    def __bool__(self) -> bool:
        return self.averages or self.max_bitrate is not None

    @property
    def averages(self) -> bool:
        """Whether a size or an average rate is asked for."""
        return (self.bitrate, self.target_size, self.bpp) != (None, None, None)

    def first_control(self, info: VideoInfo, keyint: int, intra_only: bool) -> RateControl:
        """The control of a pass that knows nothing yet: the only one, or what the next learns from.

        keyint: frames. intra_only: quality changes at I-frames alone.
        """
        period = key_period(not intra_only)
        pixels = info.width * info.height
        seconds = float(1 / (info.average_rate or _USUAL_RATE))
        plan: Plan = ConstantQuality(self.quality, pixels, period)
        rate, per_frame = self.bitrate, False
        if self.bpp is not None:
            rate, per_frame = self.bpp * pixels, True
        elif self.target_size is not None and info.frame_count:
            rate, per_frame = 8 * _AIM * self.target_size / info.frame_count, True
        if rate is not None:
            plan = AverageRate(
                rate,
                per_frame=per_frame,
                pixels=pixels,
                seconds=seconds,
                keyint=keyint,
                period=period,
                frames=info.frame_count,
            )
        return self._control(plan, info, intra_only)

    def next_control(self, before: Coded, info: VideoInfo) -> RateControl:
        """The control of a pass after another one over the same frames."""
        assert isinstance(before.control, RateControl)
        total = self.video_bits(before)
        first = before.control
        plan = KnownFrames(total - first.closing, first.frames, first.plan.curves, first.plan.period)
        cap = None
        if self.target_size is not None:
            video = 8 * (self.target_size - before.bytes + before.video_bytes)
            cap = video - before.control.closing - _SLACK_BITS
        return self._control(plan, info, before.control.intra_only, cap)

    def video_bits(self, coded: Coded) -> float:
        """Bits that the video is to have, container included, where other tracks have what they had then."""
        if self.bitrate is not None:
            return self.bitrate * coded.seconds
        if self.bpp is not None:
            return self.bpp * coded.pixels * coded.frames
        assert self.target_size is not None
        return 8 * (_AIM * self.target_size - coded.bytes + coded.video_bytes)

    def _control(
        self, plan: Plan, info: VideoInfo, intra_only: bool, cap: float | None = None
    ) -> RateControl:
        bucket = None
        if self.max_bitrate is not None:
            bucket = LeakyBucket(self.max_bitrate, self.bufsize or self.max_bitrate)
        return RateControl(
            plan,
            frame_seconds=float(1 / (info.average_rate or _USUAL_RATE)),
            tick=float(info.time_base),
            bucket=bucket,
            cap=cap,
            intra_only=intra_only,
        )

    def missed(self, coded: Coded) -> str | None:
        """One line on what was asked for and not met, or None."""
        assert isinstance(coded.control, RateControl)
        qualities = {frame.quality for frame in coded.control.frames}
        if self.averages and self.off(coded):
            if max(qualities) <= 1:
                why = "lowest quality", "choose more, or a smaller --scale"
            elif min(qualities) >= 62:
                why = "highest quality", "no more is needed for the best the model gives"
            elif self.passes == 1:
                why = "single pass", "two passes over a file come nearer"
            else:
                why = "nearest that was found", "choose another value where that will not do"
            return f"{self._asked} cannot be met: the {why[0]} gives {self._found(coded)}: {why[1]}"
        if coded.control.violations and self.max_bitrate is not None:
            return (
                f"{coded.control.violations} of {coded.frames} frames did not fit the buffer at the lowest "
                "quality: choose a larger --bufsize or --max-bitrate, or a smaller --scale"
            )
        return None

    def off(self, coded: Coded) -> bool:
        """Whether a result lies further from what was asked for than it should."""
        if self.target_size is not None:
            return not (1 - TOLERANCE[2]) * self.target_size <= coded.bytes <= self.target_size
        wanted = self.video_bits(coded)
        return abs(8 * coded.video_bytes - wanted) > TOLERANCE[self.passes or 2] * wanted

    def is_over(self, coded: Coded) -> bool:
        if self.target_size is not None:
            return coded.bytes > self.target_size
        return 8 * coded.video_bytes > self.video_bits(coded)

    @property
    def _asked(self) -> str:
        if self.bitrate is not None:
            return f"{self.bitrate / 1000:g} kbit/s"
        return f"{self.bpp:g} bits a pixel" if self.bpp is not None else f"{self.target_size} bytes"

    def _found(self, coded: Coded) -> str:
        if self.bitrate is not None:
            return f"{8e-3 * coded.video_bytes / max(coded.seconds, 1e-9):.4g} kbit/s"
        if self.bpp is not None:
            return f"{8 * coded.video_bytes / (coded.pixels * coded.frames):.4g} bits a pixel"
        return f"{coded.bytes} bytes"


class PassMissed(Exception):
    """Leaves a pass whose output is to be thrown away, since another one can do better."""

    def __init__(self, coded: Coded) -> None:
        super().__init__()
        self.coded = coded


def run_passes(
    request: RateRequest,
    once: Callable[[ControlMaker, Judge, bool], Result],
    *,
    rereadable: bool,
    repeatable: bool,
    strict: bool,
    intra_only: bool,
) -> Result:
    """Code as often as it takes.

    once: (maker of the control, judge, whether it is a dry run, which writes nothing) -> result.
    rereadable: the source can be read again. repeatable: an output can be thrown away. strict: a result that
    misses what was asked is a TargetError. intra_only: quality changes at I-frames alone.
    """
    request = replace(request, passes=request.passes or (2 if request.averages and rereadable else 1))
    made = 0
    before: Coded | None = None

    def maker(info: VideoInfo, keyint: int) -> RateControl:
        if before is not None:
            return request.next_control(before, info)
        return request.first_control(info, keyint, intra_only)

    def keep(coded: Coded) -> str | None:
        nonlocal before
        before = coded
        return None

    def judge(coded: Coded) -> str | None:
        message = request.missed(coded)
        if message is None:
            return None
        if request.passes == 2 and request.averages and repeatable and made < _MOST_PASSES:
            assert isinstance(coded.control, RateControl)
            if _room_left(request, coded, coded.control):
                raise PassMissed(coded)
        if strict:
            raise TargetError(message)
        return message

    if request.passes == 2:
        once(maker, keep, True)
        made += 1
    while True:
        made += 1
        try:
            return once(maker, judge, False)
        except PassMissed as missed:
            before = missed.coded


def _room_left(request: RateRequest, coded: Coded, control: RateControl) -> bool:
    """Whether other qualities could bring a pass nearer to what was asked for."""
    qualities = [frame.quality for frame in control.frames]
    return max(qualities) > 1 if request.is_over(coded) else min(qualities) < 62
