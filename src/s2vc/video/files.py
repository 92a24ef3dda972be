"""Video files and pipes as frames, by PyAV."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.format import Flags
from numpy.typing import NDArray

from s2vc.bitstream import TrackPacket
from s2vc.errors import InputError
from s2vc.video import y4m
from s2vc.video.base import SMALLEST_SIDE, Picture, Trim, VideoReader, reason
from s2vc.video.colour import RgbConverter, colour_of
from s2vc.video.cut import missing_bytes
from s2vc.video.deinterlace import Deinterlacer
from s2vc.video.demultiplexer import Demultiplexer
from s2vc.video.info import ASPECT_TAG, Colour, VideoInfo
from s2vc.video.sound import OpusTrack
from s2vc.video.tracks import PacketQueue, Selection, cut_chapters, select

_SECOND = Fraction(1)


class _Pipe:
    """A stream that cannot seek, whose first bytes were looked at, and whose bytes are counted."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.head = file.read(len(y4m.SIGNATURE))
        self._ahead = self.head
        self.count = 0
        self.line = b""  # the first line, which holds a y4m stream's header

    def read(self, size: int) -> bytes:
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
        else:
            # A pipe gives what it has, so that a live source is not held back for a full buffer.
            data = self._file.read1(size) if hasattr(self._file, "read1") else self._file.read(size)
        self.count += len(data)
        if self.line[-1:] != b"\n" and len(self.line) < y4m.LONGEST_HEADER:
            self.line = (self.line + data).split(b"\n")[0] + b"\n" * (b"\n" in data)
        return data


class FileReader(VideoReader):
    """Frames of the main video track of a file or of a pipe (anything FFmpeg reads without seeking).

    ``sound``: "copy", "opus" or "none": what becomes of its sound; None: no other track is read.
    """

    def __init__(self, source: str | Path, trim: Trim, sound: str | None = None) -> None:
        self._path = None if str(source) == "-" else str(source)
        self._sound = sound
        super().__init__("standard input" if self._path is None else self._path, trim)
        self._pipe: _Pipe | None = None
        self._opened: BinaryIO | None = None
        self._packet_size = 0
        self._lost = 0
        self._last_pts: int | None = None
        self._demultiplexer: Demultiplexer | None = None
        self._queue: PacketQueue | None = None
        try:
            self._container = self._open()
        except OSError as error:
            self.close()
            raise InputError(self._unreadable(error)) from None
        except (av.error.FFmpegError, ValueError) as error:
            self.close()
            raise InputError(self._unreadable(error)) from None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _unreadable(self, error: BaseException) -> str:
        missing = isinstance(error, FileNotFoundError)
        advice = (
            "check the path" if missing or isinstance(error, PermissionError) else "is it a video, and whole?"
        )
        return f"cannot read {self.name} ({reason(error)}): {advice}"

    def _open(self) -> Any:
        if self._path is None:
            if sys.stdin.isatty():
                raise InputError("standard input is a terminal: pipe a y4m stream into it")
            self._pipe = _Pipe(sys.stdin.buffer)
        elif not os.path.isfile(self._path):
            # Named pipes and /dev/fd/63. A missing file and a folder raise here, with the system's words.
            self._opened = open(self._path, "rb")  # noqa: SIM115
            self._pipe = _Pipe(self._opened)
        if self._pipe is None:
            return av.open(self._path, metadata_errors="ignore")
        if not self._pipe.head:
            raise InputError(f"{self.name} is empty: pipe a y4m stream into it")
        kind = "yuv4mpegpipe" if self._pipe.head == y4m.SIGNATURE else None
        return av.open(self._pipe, format=kind, metadata_errors="ignore")

    def _start(self) -> None:
        tracks = [
            track for track in self._container.streams.video if not track.disposition & 0x400
        ]  # cover art
        if not tracks:
            raise InputError(f"{self.name} has no video track: give a file that has one")
        best = self._container.streams.best("video")
        self._stream = best if best in tracks else tracks[0]
        if self._stream.codec_context is None:
            raise InputError(
                f"{self.name}: this build of FFmpeg has no decoder for its video: convert it first"
            )
        if self._stream.metadata.get("alpha_mode") == "1":
            raise InputError(f"{self.name} carries transparency, which is not supported: flatten it first")
        self._stream.thread_type = "AUTO"
        self._time_base = self._stream.time_base or Fraction(1, 25)
        rate = self._rate()
        self._step = max(1, round(1 / (rate * self._time_base))) if rate else 1
        self._zero = self._clock_zero()
        self.origin = self._zero * self._time_base
        self._selection = Selection()
        if self._sound is not None:
            self._selection = select(self._container, self._stream, self._sound)

        self._frames = self._deinterlaced(self._decoded())
        first = next(self._frames, None)
        if first is None:
            if self.damaged:
                raise InputError(f"{self.damaged}: nothing can be decoded")
            raise InputError(f"{self.name}: no frame could be decoded: is the file whole?")
        self.info = self._describe(first, rate)
        self._convert_frame = RgbConverter(self.info.width, self.info.height, self.name)
        self._first: Any = first

    def _rate(self) -> Fraction | None:
        average, base = self._stream.average_rate, self._stream.base_rate
        # Averages over rounded times come out as 5455/182; the base rate says 30000/1001.
        if average and base and abs(base - average) < average / 1000:
            return base
        return average or self._stream.guessed_rate or None

    def _aspect(self) -> Fraction:
        aspect = self._stream.sample_aspect_ratio
        tag = re.fullmatch(r"(\d{1,5}):(\d{1,5})", self._stream.metadata.get(ASPECT_TAG, ""))
        if not aspect and tag and int(tag[1]) and int(tag[2]):
            return Fraction(int(tag[1]), int(tag[2]))
        return aspect if aspect and aspect > 0 else Fraction(1)

    def _clock_zero(self) -> int:
        # MPEG streams count from an arbitrary moment: theirs becomes 0, as in any player. Files with a clock
        # of their own (MP4, Matroska) keep it.
        if not self._container.format.flags & Flags.ts_discont.value or self._container.start_time is None:
            return 0
        zero = round(Fraction(self._container.start_time, av.time_base) / self._time_base)
        start = self._stream.start_time
        # start_time is in microseconds: take the track's own tick where the two agree.
        return (
            start
            if start is not None and abs(start - zero) <= 1 + Fraction(1, 10**6) / self._time_base
            else zero
        )

    def _describe(self, frame: av.VideoFrame, rate: Fraction | None) -> VideoInfo:
        width, height = frame.width, frame.height
        colour = self._colour(frame)
        turned, self._mirrored = _orientation(frame)
        rotation = round(turned / 90) * 90 % 360
        if abs(turned - round(turned / 90) * 90) > 1:
            self.warn(f"is to be shown turned by {turned:.0f} degrees: {rotation} is used")
        if self._mirrored:
            self.warn("is to be shown mirrored: its pictures are mirrored here")
        aspect = self._aspect()
        size = self.trim.scale
        if size is not None:
            # The size is meant as shown.
            new_width, new_height = size if rotation in (0, 180) else size[::-1]
            aspect = _scaled_aspect(aspect, (width, height), (new_width, new_height))
            width, height = new_width, new_height
        if min(width, height) < SMALLEST_SIDE:
            raise InputError(
                f"{self.name} is {width}x{height}: both sides must be at least {SMALLEST_SIDE}: scale it"
            )
        frames = self._stream.frames or None
        if frames is None and rate and self._container.duration:
            frames = round(Fraction(self._container.duration, av.time_base) * rate)
        return VideoInfo(
            width=width,
            height=height,
            sample_aspect_ratio=aspect,
            time_base=self._time_base,
            rotation=rotation,
            colour=colour,
            average_rate=rate,
            frame_count=self.trim.count(frames, rate),
        )

    def _colour(self, frame: av.VideoFrame) -> Colour:
        bits = max(part.bits for part in frame.format.components)
        if bits > 16:
            raise InputError(f"{self.name} has floating-point pictures: convert it to 8 bits first")
        colour = colour_of(frame, frame.width, frame.height, self.name)
        if bits > 8:
            self.warn(f"has {bits} bits a sample: rounded to 8")
        return colour

    def _decoded(self) -> Iterator[av.VideoFrame]:
        packets = self._demultiplexer = self._new_demultiplexer()
        last_dts: int | None = None
        flushed = False
        while not flushed:
            try:
                packet: Any = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                self._break(f"breaks off ({reason(error)})")
                packet = None
            flushed = packet is None or (packet.size == 0 and packet.dts is None)
            if flushed:
                self._check_whole()
            elif (
                packet.size == 0
            ):  # AVI's way to say that the last picture stays; a decoder would take it for the end
                continue
            elif packet.is_corrupt:
                self._lose()
                continue
            else:
                self._packet_size = self._packet_size or packet.size
                last_dts = packet.dts if packet.dts is not None else last_dts
            try:
                frames = self._stream.decode(packet)
            except av.error.FFmpegError:
                self._lose()
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._lose()
                elif flushed and self.damaged and None not in (frame.pts, last_dts) and frame.pts > last_dts:
                    # Frames are stored out of order: one that was to be shown before this may be missing.
                    return
                else:
                    yield frame

    def _new_demultiplexer(self) -> Demultiplexer:
        chosen: Selection = self._selection
        opus: dict[int, OpusTrack] = {}
        if self._sound == "opus":
            for index, number in chosen.numbers.items():
                stream = self._container.streams[index]
                if stream.type == "audio":
                    opus[index] = OpusTrack(stream, number)
        tracks = list(chosen.extras.tracks)
        for coder in opus.values():
            tracks[coder.number] = coder.describe(tracks[coder.number])
        self.extras = replace(chosen.extras, tracks=tuple(tracks))
        return Demultiplexer(self._container, self._stream, chosen.numbers, opus)

    def _begin(self) -> None:
        for message in self._selection.warnings:
            self.warn(message)
        cuts = bool(self.trim.start)
        self._queue = PacketQueue(self.extras.tracks, self.origin, trims=cuts, length=self.trim.duration)
        length = self.trim.duration
        chapters = self.extras.chapters
        if self.origin or length is not None:
            chapters = cut_chapters(chapters, self.origin, length)
        self.extras = replace(self.extras, chapters=chapters)

    def packets(self) -> list[TrackPacket]:
        if self._demultiplexer is None or self._queue is None:
            return []
        all_of_it = self._ended and not self.trim.ends
        if all_of_it:
            self._demultiplexer.finish()
        elif not self._ended:
            self._demultiplexer.read_to(self._reached)
        self._queue.take(self._demultiplexer.others)
        if self._ended and self._demultiplexer.lost:
            self.warn(f"{self._demultiplexer.lost} packets of sound or subtitles could not be read: left out")
        return self._queue.pop(None if all_of_it else self._reached, ends=self._ended)

    def _lose(self) -> None:
        # What comes before the first whole picture of a stream that was cut out of a broadcast is no damage.
        if self._last_pts is not None:
            self._lost += 1
            self.damaged = (
                f"{self.name} is damaged: {self._lost} of its packets or frames could not be decoded"
            )

    def _break(self, what: str) -> None:
        self.damaged = f"{self.name} {what}"

    def _check_whole(self) -> None:
        if self._path is not None and self._pipe is None and missing_bytes(self._path):
            self._break("breaks off before its end")
        if self._container.format.name == "yuv4mpegpipe" and self._ends_inside_frame():
            self._break("breaks off inside a frame")

    def _ends_inside_frame(self) -> bool:
        if self._pipe is not None:
            size, header = self._pipe.count, len(self._pipe.line)
        else:
            with open(self.name, "rb") as file:
                header = len(file.readline(y4m.LONGEST_HEADER))
                size = os.fstat(file.fileno()).st_size
        return self._packet_size > 0 and (size - header) % (len(y4m.FRAME) + self._packet_size) != 0

    def _deinterlaced(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        deinterlacer: Deinterlacer | None = None
        for frame in frames:
            self._stamp(frame)
            if frame.interlaced_frame and deinterlacer is None:
                self.warn("is interlaced: deinterlaced with bwdif, one picture a frame")
                deinterlacer = Deinterlacer(frame)
            if deinterlacer is None:
                yield frame
            else:
                yield from deinterlacer.push(frame)
        if deinterlacer is not None:
            yield from deinterlacer.push(None)

    def _stamp(self, frame: av.VideoFrame) -> None:
        pts = frame.pts if frame.pts is not None else frame.dts
        if pts is None:
            pts = self._zero if self._last_pts is None else self._last_pts + self._step
        elif self._last_pts is not None and pts <= self._last_pts:
            self.warn("has times that do not increase: repaired")
            pts = self._last_pts + 1
        frame.pts = self._last_pts = pts

    def _seek(self) -> bool:
        """Go to a key frame before the trim's start; False where that fails."""
        target = int(self.trim.start / self._time_base) + self._zero
        # A second earlier: containers seek by decoding time, which runs before the pictures' times.
        offset = target - int(_SECOND / self._time_base)
        if self._pipe is not None or offset <= self._first.pts:
            return False
        try:
            self._container.seek(offset, stream=self._stream)
        except (av.error.FFmpegError, OSError):
            return False
        self._last_pts, self._lost, self.damaged = None, 0, None
        self._frames = self._deinterlaced(self._decoded())
        self._first = next(self._frames, None)
        return self._first is not None and self._first.pts <= target

    def _rewind(self) -> None:
        self._container.close()
        self._container = self._open()
        self._last_pts, self._lost, self.damaged = None, 0, None
        self._start()

    def _pictures(self) -> Iterator[Picture]:
        if self.trim.start:
            before = self._first.pts
            if not self._seek() and (self._first is None or self._first.pts != before):
                self._rewind()
        frame = self._first
        self._first = None
        while frame is not None:
            # Files say wrong durations where times vary, so the next frame is looked at. A live pipe is not
            # kept waiting for that.
            following = next(self._frames, None) if self._pipe is None else None
            duration = frame.duration or 0 if following is None else following.pts - frame.pts
            yield Picture(frame.pts - self._zero, duration, frame)
            frame = following if self._pipe is None else next(self._frames, None)

    def _convert(self, picture: Picture) -> NDArray[np.uint8]:
        frame: av.VideoFrame = picture.content
        colour = self._colour(frame)
        rgb = self._convert_frame(frame, colour)
        return np.ascontiguousarray(rgb[:, ::-1]) if self._mirrored else rgb

    def close(self) -> None:
        container = getattr(self, "_container", None)
        if container is not None:
            container.close()
        if self._opened is not None:
            self._opened.close()


def _orientation(frame: av.VideoFrame) -> tuple[float, bool]:
    """How far a player turns the picture clockwise, in degrees, and whether it mirrors it before."""
    side_data: Any = frame.side_data
    matrix = side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0.0, False
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    return math.degrees(math.atan2(-c, d)) % 360, a * d - b * c < 0


def _scaled_aspect(aspect: Fraction, old: tuple[int, int], new: tuple[int, int]) -> Fraction:
    """The sample aspect ratio that keeps the display's shape; square stays square up to rounded sides."""
    exact = aspect * old[0] * new[1] / (old[1] * new[0])
    if abs(exact - 1) * max(new) < 2 * max(Fraction(1), exact):
        return Fraction(1)
    return exact.limit_denominator(1000)
