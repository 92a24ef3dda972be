"""MP4, MOV and Matroska outputs, by PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.filter
import numpy as np
from av.video.reformatter import VideoReformatter

from s2vc.bitstream import TrackPacket
from s2vc.errors import OutputError
from s2vc.video.base import VideoWriter
from s2vc.video.colour import halve_chroma, output_colour, planes_frame, rgb_to_yuv444
from s2vc.video.info import ASPECT_TAG, FINEST_CLOCK, MATRIX_RGB, Colour, Frame, VideoInfo
from s2vc.video.muxtracks import TrackMuxer
from s2vc.video.staging import StagedFile, cannot_write
from s2vc.video.tracks import Extras

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}

# Measured on 426x240 clips: 41-43 dB in under 3 ms a frame; "fast" at crf 10 is as good in half to three
# quarters of the bytes, and takes four times as long. Without B-frames, frames are stored in order: MP4 then
# holds every duration exactly.
_H264 = {"crf": "8", "preset": "superfast", "bf": "0"}


class _Coding(NamedTuple):
    codec: str
    pixel_format: str
    options: dict[str, str]


def _coding(container: str, info: VideoInfo, lossless: bool) -> _Coding:
    if not lossless:
        # 4:2:0 is what every player takes; it exists for even sides only.
        even = info.width % 2 == 0 and info.height % 2 == 0
        return _Coding("libx264", "yuv420p" if even else "yuv444p", _H264)
    if container != "matroska":  # MP4 and MOV have no FFV1
        return _Coding("libx264rgb", "bgr24", {"qp": "0", "preset": "superfast", "bf": "0"})
    return _Coding("ffv1", "bgr0", {"level": "3", "slices": "4", "slicecrc": "1"})


class _AspectSetter:
    """Gives frames a sample aspect ratio, which PyAV's frames cannot be told."""

    def __init__(self, info: VideoInfo) -> None:
        self._graph = av.filter.Graph()
        aspect = info.sample_aspect_ratio
        source = self._graph.add_buffer(
            width=info.width, height=info.height, format=av.VideoFormat("bgr0"), time_base=info.time_base
        )
        setter = self._graph.add("setsar", f"{aspect.numerator}/{aspect.denominator}")
        self._graph.link_nodes(source, setter, self._graph.add("buffersink"))
        self._graph.configure(auto_buffer=False)

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._graph.vpush(frame)
        return self._graph.vpull()


class MuxWriter(VideoWriter):
    """H.264, near-lossless; with ``lossless`` exact RGB: FFV1 in Matroska, lossless H.264 in the others.

    Keeps size, times, rotation, sample aspect ratio, primaries, transfer, matrix and range; of ``extras``
    what the container has a place for.
    """

    def __init__(
        self,
        target: str | Path,
        info: VideoInfo,
        lossless: bool,
        overwrite: bool,
        extras: Extras | None = None,
    ) -> None:
        super().__init__(str(target), info)
        container = FORMATS[Path(target).suffix.lower()]
        self._coding = _coding(container, info, lossless)
        self._colour = output_colour(info.colour, info.width, info.height)
        self._time_base = info.time_base
        if container == "matroska":
            self._time_base = Fraction(1, 1000)  # the muxer has no other clock
        elif self._time_base.denominator > FINEST_CLOCK:
            self._time_base = Fraction(1, FINEST_CLOCK)
        self._last_source_pts: int | None = None
        self._last_pts = -1
        self._shift: int | None = None
        self._durations: dict[int, int] = {}
        self._reformatter = VideoReformatter()
        self._staged = StagedFile(target, overwrite)
        self._container: Any = None
        self._aspect: _AspectSetter | None = None
        try:
            options = {} if container == "matroska" else {"movie_timescale": str(self._track_clock())}
            self._container = av.open(self._staged, "w", format=container, container_options=options)
            self._stream = self._add_stream()
            extras = extras or Extras()
            self.chapters = extras.chapters
            self._tracks = TrackMuxer(self._container, extras, self.warn)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self._discard()
            raise self._failure(error) from None

    def _track_clock(self) -> int:
        # What the muxer makes of the time base; without it a first time above 0 is rounded to a millisecond.
        clock = self._time_base.denominator
        while clock < 10000:
            clock *= 2
        return clock

    def _add_stream(self) -> Any:
        info, coding = self.info, self._coding
        stream = self._container.add_stream(
            coding.codec, rate=info.average_rate or 25, options=dict(coding.options)
        )
        stream.width, stream.height = info.width, info.height
        stream.pix_fmt = coding.pixel_format
        stream.time_base = self._time_base
        context = stream.codec_context
        context.time_base = self._time_base
        context.thread_count = 0
        context.sample_aspect_ratio = info.sample_aspect_ratio
        rgb = coding.pixel_format.startswith("bgr")
        colour = (
            Colour(MATRIX_RGB, info.colour.primaries, info.colour.transfer, True) if rgb else self._colour
        )
        context.colorspace = colour.matrix
        context.color_primaries = colour.primaries
        context.color_trc = colour.transfer
        context.color_range = 2 if colour.full_range else 1
        if coding.codec == "ffv1" and info.sample_aspect_ratio != 1:
            # PyAV cannot give Matroska the aspect ratio. FFV1 keeps each frame's, for players; the tag is
            # for us.
            stream.metadata[ASPECT_TAG] = (
                f"{info.sample_aspect_ratio.numerator}:{info.sample_aspect_ratio.denominator}"
            )
            self._aspect = _AspectSetter(info)
        if info.rotation:
            stream.set_display_rotation(-info.rotation)
        return stream

    def _failure(self, error: BaseException) -> OutputError:
        kept = self._staged.error
        if kept is not None:
            return cannot_write(self.name, kept)
        return OutputError(
            f"cannot write {self.name} ({' '.join(str(error).split())}): choose another output format"
        )

    def _picture(self, frame: Frame) -> av.VideoFrame:
        rgb = np.ascontiguousarray(frame.rgb)
        if self._coding.pixel_format.startswith("bgr"):
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            picture = self._reformatter.reformat(picture, format=self._coding.pixel_format, threads=1)
            return picture if self._aspect is None else self._aspect(picture)
        luma, blue, red = rgb_to_yuv444(rgb, self._colour)
        if self._coding.pixel_format == "yuv420p":
            blue, red = halve_chroma(blue), halve_chroma(red)
        return planes_frame(self._coding.pixel_format, [luma, blue, red])

    def _ticks(self, pts: int) -> int:
        if self._time_base == self.info.time_base:
            return pts
        return round(pts * self.info.time_base / self._time_base)

    def _write(self, frame: Frame) -> None:
        if self._shift is None:
            # Neither container holds times before 0.
            self._shift = min(0, self._ticks(frame.pts))
            if self._shift < 0:
                self.warn("starts before time 0: shifted to start at 0")
            for packet in self._tracks.start(-self._shift * self._time_base, self.chapters):
                self.write_packet(packet)
        if self._last_source_pts is not None and frame.pts <= self._last_source_pts:
            raise ValueError(f"frame times must increase: {frame.pts} comes after {self._last_source_pts}")
        self._last_source_pts = frame.pts
        # A coarse clock may give two frames one tick.
        pts = max(self._ticks(frame.pts) - self._shift, self._last_pts + 1)
        self._last_pts = pts
        picture = self._picture(frame)
        picture.pts, picture.time_base = pts, self._time_base
        if frame.duration:
            picture.duration = max(1, self._ticks(frame.duration))
            self._durations[pts] = picture.duration
        self._mux(picture)

    def _mux(self, picture: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(picture):
                duration = self._durations.pop(packet.pts, 0)
                if duration:
                    packet.duration = duration
                self._container.mux(packet)
        except (av.error.FFmpegError, OSError) as error:
            raise self._failure(error) from None
        if self._staged.error is not None:
            raise cannot_write(self.name, self._staged.error)

    def write_packet(self, packet: TrackPacket) -> None:
        try:
            self._tracks.write(packet)
        except (av.error.FFmpegError, OSError, ValueError, OverflowError) as error:
            if self._staged.error is not None:
                raise self._failure(error) from None
            # A packet that FFmpeg refuses is no reason to lose the film.
            self.warn("has no place for some packets of sound or subtitles: left out")

    def _finish(self) -> None:
        if self.frames == 0:
            raise OutputError(f"{self.name}: there are no frames to write")
        self._mux(None)
        try:
            self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            raise self._failure(error) from None
        self._staged.commit()

    def _discard(self) -> None:
        try:
            if self._container is not None:
                self._container.close()
        except (av.error.FFmpegError, OSError, ValueError):
            pass  # the file is removed
        self._staged.discard()
