"""Decoding that goes on behind damage: lost frames show the last good picture, up to the next I-frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from s2vc.bitstream import Chunk, Header
from s2vc.codec.decoder import DecodedFrame, VideoDecoder
from s2vc.codec.protocol import FrameModel, Picture


class ConcealingDecoder:
    """Every frame of a file of which some are lost; what is lost before the first good picture is black.

    A frame is lost if its packet is missing or damaged or reads differently here, and so is each P-frame
    between it and the next I-frame, for it builds on what is lost. ``concealed`` lists them as (first, last)
    frame numbers.

    first_frame: number of the first frame wanted. start: frames before this time, in ticks, are not given.
    resync: called behind a packet that proved damaged, before the next chunk is asked for. frames_in_all:
    asked at the end; None where the file does not say.
    """

    def __init__(
        self,
        model: FrameModel,
        header: Header,
        *,
        first_frame: int = 0,
        start: int | None = None,
        resync: Callable[[], object],
        frames_in_all: Callable[[], int | None],
    ) -> None:
        self.concealed: list[tuple[int, int]] = []
        self._decoder = VideoDecoder(model, header)
        self._header = header
        self._start = start
        self._resync, self._frames_in_all = resync, frames_in_all
        self._frame = first_frame  # the next one
        self._time: int | None = None  # of the one before it
        self._shift = 0  # of the last known time, to the regular one
        self._step = max(1, header.regular_time(1) - header.regular_time(0))
        self._picture: Picture = np.zeros((header.height, header.width, 3), np.uint8)
        self._lost = True  # what a P-frame would build on

    @property
    def differs(self) -> str | None:
        """One line on the first frame that reads differently here than where it was encoded, if one does."""
        return self._decoder.differs

    def decode(self, chunks: Iterable[Chunk]) -> Iterator[DecodedFrame]:
        """All frames from ``first_frame`` on, in order, none left out."""
        for chunk in chunks:
            times = [*chunk.times, *chunk.lost_times]
            usable = chunk.intra or not (self._lost or chunk.first_frame > self._frame)
            good, frames = self._decoder.decode_chunk(chunk) if usable else (0, [])
            self._lost = good < len(times)
            # Of a low-delay packet that is not known to be sound nothing is trusted, its time neither: it
            # counts as missing.
            if good or len(times) > 1:
                yield from self._fill(chunk.first_frame - self._frame, times[0])
                ends = [*times[1:], times[-1] + (0 if chunk.lost_times else chunk.last_duration)]
                yield from self._good(frames)
                yield from self._repeat(times[good:], ends[good:])
                self._shift = times[-1] - self._header.regular_time(self._frame - 1)
            if usable and good < len(chunk.packets):
                self._resync()
        total = self._frames_in_all()
        if total is not None:
            yield from self._fill(total - self._frame, None)

    def _given(self, frame: DecodedFrame) -> Iterator[DecodedFrame]:
        """Counts a frame; gives it if it is wanted."""
        if frame.concealed and self._wanted(frame):
            if self.concealed and self.concealed[-1][1] == self._frame - 1:
                self.concealed[-1] = (self.concealed[-1][0], self._frame)
            else:
                self.concealed.append((self._frame, self._frame))
        if self._time is not None:
            self._step = max(1, frame.time - self._time)
        self._frame += 1
        self._time = frame.time
        if self._wanted(frame):
            yield frame

    def _wanted(self, frame: DecodedFrame) -> bool:
        return self._start is None or frame.time >= self._start

    def _good(self, frames: Sequence[DecodedFrame]) -> Iterator[DecodedFrame]:
        for frame in frames:
            self._picture = frame.picture
            yield from self._given(frame)

    def _repeat(self, times: Sequence[int], ends: Sequence[int]) -> Iterator[DecodedFrame]:
        for time, end in zip(times, ends, strict=True):
            yield from self._given(DecodedFrame(self._picture, time, max(0, end - time), concealed=True))

    def _fill(self, count: int, until: int | None) -> Iterator[DecodedFrame]:
        """Frames of which nothing is there, ``count`` of them, up to a time."""
        if count <= 0:
            return
        times = [self._header.regular_time(self._frame + n) + self._shift for n in range(count)]
        begin = times[0] - 1 if self._time is None else self._time
        end = begin + self._step * (count + 1) if until is None else until
        fits = begin < times[0] and (until is None or times[-1] < until)
        if not fits or any(after <= before for before, after in pairwise(times)):
            times = [begin + (end - begin) * (n + 1) // (count + 1) for n in range(count)]
        yield from self._repeat(times, [*times[1:], end if until is not None else times[-1] + self._step])
