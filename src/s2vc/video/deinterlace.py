"""Interlaced frames to whole pictures, one for one (FFmpeg's bwdif)."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EAGAIN
from fractions import Fraction

import av
import av.filter


class Deinterlacer:
    """Passes progressive frames through; rebuilds interlaced ones from both fields and their neighbours.

    Frames keep their number and their times.
    """

    def __init__(self, like: av.VideoFrame) -> None:
        self._time_base = like.time_base or Fraction(1, 25)
        graph = av.filter.Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=self._time_base
        )
        bwdif = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        sink = graph.add("buffersink")
        graph.link_nodes(source, bwdif, sink)
        graph.configure(auto_buffer=False)
        self._graph = graph

    def push(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """The frames that are ready after ``frame``; after None, the last ones."""
        self._graph.push(frame)
        while True:
            try:
                ready = self._graph.vpull()
            except (av.error.EOFError, av.error.BlockingIOError):
                return
            except av.error.FFmpegError as error:
                if error.errno == EAGAIN:
                    return
                raise
            # bwdif counts in half ticks.
            if ready.pts is not None and ready.time_base is not None:
                ready.pts = round(ready.pts * ready.time_base / self._time_base)
            ready.time_base = self._time_base
            yield ready
