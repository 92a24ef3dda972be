"""YUV4MPEG2, the raw video that programs pipe to each other: written here, read by FFmpeg."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path

from s2vc.errors import OutputError
from s2vc.video.base import VideoWriter
from s2vc.video.colour import rgb_to_yuv444
from s2vc.video.info import Colour, Frame, VideoInfo, guess_matrix
from s2vc.video.rotate import turned, turned_aspect
from s2vc.video.staging import StagedFile, cannot_write

SIGNATURE = b"YUV4MPEG2"
FRAME = b"FRAME\n"
LONGEST_HEADER = 4096


class Y4mWriter(VideoWriter):
    """4:4:4 y4m, limited range, upright, at a constant rate; to a file or to standard output.

    y4m has no place for a matrix: the one that readers assume for the size is used. Nor for times: every
    frame is written once, in order.
    """

    def __init__(self, target: str | Path, info: VideoInfo, overwrite: bool) -> None:
        super().__init__("standard output" if str(target) == "-" else str(target), info)
        self._staged: StagedFile | None = None
        if str(target) == "-":
            if sys.stdout.isatty():
                raise OutputError("standard output is a terminal: pipe it into a program or a file")
        else:
            self._staged = StagedFile(target, overwrite)
        width, height = info.display_size
        self._colour = Colour(matrix=guess_matrix(width, height), full_range=False)
        self._rate = info.average_rate
        self._held: Frame | None = None
        self._started = False
        self._first_pts = 0

    def _write(self, frame: Frame) -> None:
        if self.frames == 0:
            self._first_pts = frame.pts
            if self._rate is None:
                # The distance to the second frame gives the rate.
                self._held = Frame(frame.rgb.copy(), frame.pts, frame.duration)
                return
        if self._held is not None:
            self._rate = 1 / ((frame.pts - self._held.pts) * self.info.time_base)
            self._release()
        self._check_time(frame)
        self._put(frame)

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._put(held)

    def _check_time(self, frame: Frame) -> None:
        assert self._rate is not None
        due = self.frames / self._rate / self.info.time_base
        # A tick for rounded times, a thousandth for rates that are averages.
        if abs(frame.pts - self._first_pts - due) > 1 + due / 1000:
            self.warn(
                f"y4m has no times: frames are written one after another, at {float(self._rate):.6g} a second"
            )

    def _put(self, frame: Frame) -> None:
        if not self._started:
            self._started = True
            self._send(self._header())
        planes = rgb_to_yuv444(turned(frame.rgb, self.info.rotation), self._colour)
        self._send(FRAME + planes.tobytes())

    def _header(self) -> bytes:
        width, height = self.info.display_size
        rate = (self._rate or Fraction(25)).limit_denominator(1001)
        aspect = turned_aspect(self.info.sample_aspect_ratio, self.info.rotation)
        return (
            f"YUV4MPEG2 W{width} H{height} F{rate.numerator}:{rate.denominator} Ip "
            f"A{aspect.numerator}:{aspect.denominator} C444 XCOLORRANGE=LIMITED\n"
        ).encode()

    def _send(self, data: bytes) -> None:
        if self.stopped:
            return
        try:
            if self._staged is not None:
                self._staged.write(data)
            else:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
        except BrokenPipeError:
            self._stop()
        except OSError as error:
            raise cannot_write(self.name, error) from None

    def _stop(self) -> None:
        self.stopped = True
        if self._staged is None:
            # Python flushes standard output once more at exit, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _finish(self) -> None:
        if self._held is not None and self._rate is None and self._held.duration:
            self._rate = 1 / (self._held.duration * self.info.time_base)
        self._release()
        if self.frames == 0 and not self.stopped:
            raise OutputError(f"{self.name}: there are no frames to write")
        if self._staged is not None:
            if self.stopped:
                self._staged.discard()
            else:
                self._staged.commit()

    def _discard(self) -> None:
        if self._staged is not None:
            self._staged.discard()
