"""What every reader and every writer of video promises, and the trimming that readers share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from s2vc.errors import InputError
from s2vc.video.info import Frame, VideoInfo
from s2vc.video.times import parse_size, parse_time
from s2vc.video.tracks import Extras

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from s2vc.bitstream import Chapter, TrackPacket

SMALLEST_SIDE = 16


@dataclass(frozen=True)
class Trim:
    """Which part of a video is wanted: seconds from its beginning, seconds, frames, a size to scale to."""

    start: Fraction = Fraction(0)
    duration: Fraction | None = None
    frames: int | None = None
    scale: tuple[int, int] | None = None

    @property
    def ends(self) -> bool:
        """Whether the end may be left out."""
        return self.duration is not None or self.frames is not None

    @classmethod
    def of(
        cls,
        start: str | float | Fraction | None,
        duration: str | float | Fraction | None,
        frames: int | None,
        scale: str | tuple[int, int] | None,
    ) -> Trim:
        """Check and convert what a user gave. Raises InputError."""
        if frames is not None and frames < 1:
            raise InputError(f"{frames} frames is nothing to read: ask for at least 1")
        length = None if duration is None else parse_time(duration)
        if length == 0:
            raise InputError("a duration of 0 s is nothing to read: ask for more")
        size = None if scale is None else parse_size(scale)
        if size is not None and min(size) < SMALLEST_SIDE:
            raise InputError(
                f"cannot scale to {size[0]}x{size[1]}: both sides must be at least {SMALLEST_SIDE}"
            )
        return cls(Fraction(0) if start is None else parse_time(start), length, frames, size)

    def count(self, total: int | None, rate: Fraction | None) -> int | None:
        """How many frames of ``total`` are left, estimated at ``rate`` frames a second."""
        if rate is not None and rate > 0:
            if total is not None:
                total = max(0, total - round(self.start * rate))
            if self.duration is not None:
                wanted = max(1, round(self.duration * rate))
                total = wanted if total is None else min(total, wanted)
        if self.frames is not None:
            total = self.frames if total is None else min(total, self.frames)
        return total


class Picture(NamedTuple):
    """A picture that is not yet converted: its time, and what the reader needs to make RGB of it."""

    pts: int
    duration: int
    content: Any


class VideoReader:
    """Iterates the frames of a video once, in display order; a context manager.

    Memory does not grow with the video's length.

    Attributes:
        info: geometry, clock and colour of the frames that come.
        warnings: one line each, for the user: what was converted or guessed.
        damaged: None, or one line on what was missing or could not be decoded. Known when the iteration
            has ended; the frames that could be read were delivered.
        origin: the source's time, in seconds, that became time 0 here (other tracks must be shifted
            alike). Known from the first frame on.
        extras: the source's other tracks, chapters and metadata. Times of chapters are on the frames' clock.
            Known from the first frame on.
    """

    info: VideoInfo
    damaged: str | None
    origin: Fraction
    extras: Extras

    def __init__(self, name: str, trim: Trim) -> None:
        self.name = name
        self.trim = trim
        self.warnings: list[str] = []
        self.damaged = None
        self.origin = Fraction(0)
        self.extras = Extras()
        self._reached = Fraction(0)
        self._ended = False

    def warn(self, message: str) -> None:
        """Note a warning, once."""
        line = f"{self.name}: {message}"
        if line not in self.warnings:
            self.warnings.append(line)

    def _pictures(self) -> Iterator[Picture]:
        """All pictures from the trim's start on, or earlier, in display order."""
        raise NotImplementedError

    def _convert(self, picture: Picture) -> NDArray[np.uint8]:
        """uint8 RGB (H, W, 3) of a picture, at the size of ``info``."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Frame]:
        trim, base = self.trim, self.info.time_base
        first = _first_tick(trim.start, base) if trim.start else None
        end = None if trim.duration is None else _first_tick(trim.start + trim.duration, base)
        shift, count = 0, 0
        for picture in self._pictures():
            if first is not None and picture.pts < first:
                continue
            if end is not None and picture.pts >= end:
                break
            if count == 0:
                shift = 0 if first is None else picture.pts
                self.origin += shift * base
                self._begin()
            end_of_it = picture.pts - shift + max(1, picture.duration)
            self._reached = self.origin + end_of_it * base
            yield Frame(self._convert(picture), picture.pts - shift, picture.duration)
            count += 1
            if count == trim.frames:
                break
        self._ended = True
        if count == 0 and self.damaged is None:
            raise InputError(f"{self.name}: no frame lies in the part asked for: choose an earlier start")

    def _begin(self) -> None:
        """``origin`` is known: the first frame is about to be given."""

    def packets(self) -> list[TrackPacket]:
        """The other tracks' packets that are due before the end of the frame given last, each once.

        After the last frame: all that are left, or of a part those that belong to it. Times are on the
        frames' clock. Sound is read ahead for this, at most three seconds; a track that is further behind its
        pictures in the source comes as late as it came.
        """
        return []

    def close(self) -> None:
        """Let go of the source."""

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _first_tick(seconds: Fraction, time_base: Fraction) -> int:
    # Half a tick of tolerance: containers that count milliseconds store 1/30 s as 33.
    ticks = seconds / time_base - Fraction(1, 2)
    return -(-ticks.numerator // ticks.denominator)


class VideoWriter:
    """Takes frames in display order and makes a file, a folder or a stream of them; a context manager.

    The output appears under its name, whole, when the ``with`` block is left without an exception. After an
    exception nothing is left.

    Attributes:
        warnings: one line each, for the user: what this output cannot keep.
        frames: frames written so far.
        chapters: of the output, where it holds any; may be changed before the first frame.
        stopped: True once the reader of a pipe has gone away: nothing more is wanted, and that is no error.
    """

    def __init__(self, name: str, info: VideoInfo) -> None:
        self.name = name
        self.info = info
        self.warnings: list[str] = []
        self.frames = 0
        self.chapters: tuple[Chapter, ...] = ()
        self.stopped = False
        self._finished = False

    def warn(self, message: str) -> None:
        """Note a warning, once."""
        line = f"{self.name}: {message}"
        if line not in self.warnings:
            self.warnings.append(line)

    def write(self, frame: Frame) -> bool:
        """Add a frame: uint8 RGB (height, width, 3) as ``info`` says, with a pts above the last one's.

        Returns False when nothing more is wanted (the reader of the pipe has gone).
        Raises OutputError when it cannot be written; ValueError on another shape or a time that goes back.
        """
        shape = (self.info.height, self.info.width, 3)
        if frame.rgb.shape != shape or frame.rgb.dtype != "uint8":
            raise ValueError(
                f"frames of {self.name} are uint8 {shape}, not {frame.rgb.dtype} {frame.rgb.shape}"
            )
        if not self.stopped:
            self._write(frame)
            self.frames += not self.stopped
        return not self.stopped

    def write_packet(self, packet: TrackPacket) -> None:
        """Add a packet of another track, on the frames' clock; nothing where the output holds pictures only.

        Give those of a frame's time before the frame.
        """

    def _write(self, frame: Frame) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        """Write what is left and give the output its name."""
        raise NotImplementedError

    def _discard(self) -> None:
        """Remove all traces."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish the output. Raises OutputError, and leaves nothing, when that fails."""
        if self._finished:
            return
        self._finished = True
        try:
            self._finish()
        except BaseException:
            self._discard()
            raise

    def discard(self) -> None:
        """Give the output up: nothing of it is left."""
        if not self._finished:
            self._finished = True
            self._discard()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def reason(error: BaseException) -> str:
    """One line on why the system refused."""
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
