"""Sound coded anew, as Opus, for films whose own sound would take more bytes than their pictures."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import av

from s2vc.bitstream import KEY, Track, TrackPacket
from s2vc.errors import InputError

RATE = 48000
_BIT_RATES = {1: 24_000, 2: 40_000}  # by channels; more than two are mixed down to two
_FRAME = 960
_GAP = Fraction(4, 100)  # seconds
_SIDE_DATA = ("skip_samples",)


class OpusTrack:
    """Decodes one track's packets and codes its sound as Opus: 24 kbit/s mono, 40 kbit/s stereo."""

    time_base = Fraction(1, RATE)

    def __init__(self, stream: Any, number: int) -> None:
        self.number = number
        self.failed = 0  # packets that could not be decoded
        self._stream = stream
        channels = min(2, stream.codec_context.channels)
        layout = "mono" if channels == 1 else "stereo"
        self._coder: Any = av.CodecContext.create("libopus", "w")
        self._coder.sample_rate = RATE
        self._coder.layout = layout
        self._coder.format = "flt"
        self._coder.bit_rate = _BIT_RATES[channels]
        self._coder.time_base = self.time_base
        self._coder.options = {"vbr": "constrained"}
        self._coder.open()
        self._due: int | None = None  # of the next sample, in the source's own samples
        self._done = False

    def describe(self, track: Track) -> Track:
        """The track's entry in the header, from that of the sound it is made of."""
        parameters = {
            "sample_rate": str(RATE),
            "channels": str(self._coder.channels),
            "channel_layout": self._coder.layout.name,
            "frame_size": str(_FRAME),
            "bit_rate": str(self._coder.bit_rate),
        }
        extradata = self._coder.extradata or b""
        return replace(
            track, codec="opus", time_base=self.time_base, extradata=extradata, parameters=parameters
        )

    def push(self, packet: Any) -> list[TrackPacket]:
        """The packets that are ready after one of the source; an empty one is the end."""
        if self._done:
            return []
        frames: list[Any] = []
        try:
            frames = self._stream.decode(packet if packet.size else None)
        except av.error.FFmpegError:
            self.failed += packet.size > 0
        made = [coded for frame in frames for coded in self._code(frame)]
        if packet.size == 0:
            self._done = True
            made += self._code(None)
        return made

    def _code(self, frame: Any) -> list[TrackPacket]:
        if frame is not None:
            self._stamp(frame)
        try:
            return [self._packet(coded) for coded in self._coder.encode(frame)]
        except ValueError:  # of PyAV's resampler, which is made for the first frame
            raise InputError(
                "the sound changes its rate or channels on the way, which --audio opus cannot follow: copy it"
            ) from None

    def _stamp(self, frame: Any) -> None:
        # Sound counts its own samples: the source's clock may be coarse. A gap is one only where it is heard.
        rate = frame.sample_rate
        said = None if frame.pts is None else round(frame.pts * frame.time_base * rate)
        if self._due is None or (said is not None and said - self._due > _GAP * rate):
            self._due = said or 0
        frame.pts, frame.time_base = self._due, Fraction(1, rate)
        self._due += frame.samples

    def _packet(self, coded: Any) -> TrackPacket:
        side = tuple(
            (name, bytes(coded.get_sidedata(name))) for name in _SIDE_DATA if coded.has_sidedata(name)
        )
        return TrackPacket(
            self.number, bytes(coded), coded.pts, coded.pts, coded.duration or _FRAME, KEY, side
        )
