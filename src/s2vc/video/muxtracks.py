"""The other tracks of an MP4, MOV or Matroska output: packets as they came, where it has a place for them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import av
from av.packet import PacketSideData

from s2vc.bitstream import Chapter, Track, TrackKind, TrackPacket
from s2vc.video.soundclock import SoundClock
from s2vc.video.templates import stream_like
from s2vc.video.tracks import Extras, cut_chapters, place_of

# Subtitles that are text, which FFmpeg writes anew where a container has another kind of text.
_TEXT = ("subrip", "ass", "webvtt", "mov_text")
_TEXT_OF = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip"}
_SIDE_DATA = {"skip_samples": 11, "webvtt_identifier": 16, "webvtt_settings": 17}  # FFmpeg's numbers
_FINEST_TEXT_CLOCK = 90_000
_LONGEST = (1 << 31) - 1  # ticks between packets, and of one, in MP4
_new_side_data: Any = PacketSideData  # PyAV's stubs lack its arguments
_EMPTY_STYLES = b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\n\r\n[Events]\r\n"


class TrackMuxer:
    """Decides what an output of a format ("mp4", "mov", "matroska") holds of ``extras``, and writes that.

    ``warn`` is called with what is left out. Streams are added once the tracks' first packets are known,
    since sound that starts before time 0 is said in the file's head.
    """

    def __init__(self, container: Any, extras: Extras, warn: Callable[[str], None]) -> None:
        self._container = container
        self._format: str = container.format.name
        self._tracks = extras.tracks
        self._warn = warn
        self._writers: dict[int, _Sound | _Subtitles] = {}
        self._waiting: list[TrackPacket] | None = []
        container.metadata.update(extras.metadata)

    def start(self, shift: Fraction, chapters: Sequence[Chapter]) -> list[TrackPacket]:
        """Add all streams but the pictures', and give the packets that waited for that.

        ``shift``: seconds that times are moved by.
        """
        if chapters:
            self._container.set_chapters(
                [
                    {
                        "id": number,
                        "start": chapter.start,
                        "end": chapter.end,
                        "time_base": chapter.time_base,
                        "metadata": dict(chapter.metadata),
                    }
                    for number, chapter in enumerate(cut_chapters(chapters, -shift, None), 1)
                ]
            )
        waiting, self._waiting = self._waiting or [], None
        first: dict[int, TrackPacket] = {}
        for packet in waiting:
            first.setdefault(packet.track, packet)
        for number, track in enumerate(self._tracks):
            try:
                self._add(number, track, first.get(number), shift)
            except (av.error.FFmpegError, OSError, ValueError, OverflowError):
                self._leave_out(track)
        return waiting

    def write(self, packet: TrackPacket) -> None:
        """A packet on the pictures' clock. Raises FFmpeg's errors, and ValueError where times are absurd."""
        if self._waiting is not None:
            self._waiting.append(packet)
        elif packet.track in self._writers:
            for ready in self._writers[packet.track].packets(packet):
                self._container.mux(ready)

    def _add(self, number: int, track: Track, first: TrackPacket | None, shift: Fraction) -> None:
        stream: Any
        if track.kind is TrackKind.ATTACHMENT and self._format == "matroska":
            names = track.metadata
            name = names.get("filename") or f"attachment{number}"
            kind = names.get("mimetype") or "application/octet-stream"
            self._container.add_attachment(name, kind, track.extradata)
            return
        if track.kind is TrackKind.AUDIO:
            clock = SoundClock(track, first)
            stream = self._copied(track, clock.lead)
            if stream is None:
                self._leave_out(track)
                return
            stream.time_base = Fraction(1, clock.rate)
            self._writers[number] = _Sound(stream, clock, shift)
        elif track.kind is TrackKind.SUBTITLE:
            writer = self._subtitles(track, shift)
            if writer is None:
                self._leave_out(track)
                return
            stream = writer.stream
            self._writers[number] = writer
        else:
            self._leave_out(track)
            return
        stream.metadata.update(track.metadata)
        if track.language:
            stream.metadata["language"] = track.language
        stream.disposition = track.disposition

    def _copied(self, track: Track, lead: Fraction = Fraction(0)) -> Any:
        """A stream for the track's packets as they are; None where the container has no place for them."""
        like = stream_like(track, lead)
        if like is None or not _holds(self._format, like[1]):
            return None
        stream = self._container.add_stream_from_template(like[1], opaque=True)
        context = stream.codec_context
        if not track.extradata:
            context.extradata = None  # FFmpeg may have thought one up
        for name, key in (("layout", "channel_layout"), ("format", "sample_format")):
            with contextlib.suppress(ValueError):  # layouts that have no name
                if key in track.parameters:
                    setattr(context, name, track.parameters[key])
        return stream

    def _subtitles(self, track: Track, shift: Fraction) -> _Subtitles | None:
        wanted = _TEXT_OF[self._format]
        base = track.time_base if track.time_base.denominator <= _FINEST_TEXT_CLOCK else Fraction(1, 1000)
        if track.codec == "mov_text" and wanted == "mov_text":
            stream = self._container.add_stream("mov_text")
            stream.codec_context.subtitle_header = _EMPTY_STYLES
            stream.codec_context.open()
            stream.codec_context.extradata = _without_rate(track.extradata) or stream.codec_context.extradata
        else:
            stream = None if track.codec == "mov_text" else self._copied(track)
            if stream is None:
                return self._converted(track, wanted, base, shift)
        stream.time_base = base
        return _Subtitles(stream, track, shift)

    def _converted(self, track: Track, wanted: str, base: Fraction, shift: Fraction) -> _Subtitles | None:
        if track.codec not in _TEXT:
            return None
        keeper: Any = None
        if track.codec == "mov_text":
            decoder: Any = av.CodecContext.create("mov_text", "r")
            decoder.extradata = track.extradata or None
        else:
            keeper = stream_like(track)
            if keeper is None:
                return None
            decoder = keeper[1].codec_context
        decoder.open(strict=False)
        encoder: Any = av.CodecContext.create(wanted, "w")
        # SubRip would tell every line the font that is meant where none was asked for.
        encoder.subtitle_header = _EMPTY_STYLES if wanted == "subrip" else decoder.subtitle_header
        encoder.time_base = Fraction(1, 1000)
        encoder.open()
        if wanted == "mov_text":
            stream = self._container.add_stream("mov_text")
            stream.codec_context.subtitle_header = decoder.subtitle_header
            stream.codec_context.open()
        else:
            stream = self._copied(Track(TrackKind.SUBTITLE, wanted, track.time_base))
        stream.time_base = base
        if track.codec == "ass":
            self._warn("holds no styled subtitles: their text is kept, as plain ones")
        return _Subtitles(stream, track, shift, (keeper, decoder, encoder))

    def _leave_out(self, track: Track) -> None:
        what = {TrackKind.AUDIO: "sound", TrackKind.SUBTITLE: "subtitles"}.get(track.kind, "attachments")
        kind = "" if what == "attachments" else f"{track.codec} "
        advice = "" if self._format == "matroska" else ": .mkv does"
        self._warn(f"has no place for {kind}{what}, left out{advice}")


def _without_rate(extradata: bytes) -> bytes:
    """Without the box of bit rates at its end, which the muxer makes anew."""
    return extradata[:-20] if extradata[-20:-12] == b"\0\0\0\x14btrt" else extradata


def _holds(container_format: str, like: Any) -> bool:
    """Whether FFmpeg writes the head of such a file with a stream like this."""
    try:
        with av.open(io.BytesIO(), "w", format=container_format) as trial:
            stream = trial.add_stream_from_template(like, opaque=True)
            stream.time_base = Fraction(1, 1000)
            trial.start_encoding()
    except (av.error.FFmpegError, OSError, ValueError):
        return False
    return True


def _packet(stream: Any, payload: bytes, source: TrackPacket) -> Any:
    packet: Any = av.Packet(payload)
    packet.stream = stream
    packet.is_keyframe = bool(source.flags & 1)
    for name, data in source.side_data:
        # Of a file that may be hostile: only what FFmpeg's muxers read with a look at its length.
        if name in _SIDE_DATA and data and (name != "skip_samples" or len(data) == 10):
            kept: Any = _new_side_data(_SIDE_DATA[name], len(data))
            kept.update(data)
            packet.set_sidedata(kept)
    return packet


def _check(step: int, duration: int) -> None:
    if abs(step) > _LONGEST or not 0 <= duration <= _LONGEST:
        raise ValueError(f"a packet of {duration} ticks after a gap of {step}")


class _Sound:
    def __init__(self, stream: Any, clock: SoundClock, shift: Fraction) -> None:
        self.stream = stream
        self._clock = clock
        self._shift = round(shift * clock.rate)
        self._last: int | None = None

    def packets(self, source: TrackPacket) -> list[Any]:
        start, samples = self._clock.stamp(source)
        start += self._shift
        if self._last is not None and start <= self._last:
            start = self._last + 1
        _check(start - (self._last or 0), samples)
        self._last = start
        packet = _packet(self.stream, source.payload, source)
        packet.pts = packet.dts = start
        packet.duration = samples
        packet.time_base = Fraction(1, self._clock.rate)
        return [packet]


class _Subtitles:
    def __init__(self, stream: Any, track: Track, shift: Fraction, coders: Any = None) -> None:
        self.stream = stream
        self._base = track.time_base
        self._shift = round(shift / self._base)
        self._coders = coders
        self._last = 0

    def packets(self, source: TrackPacket) -> list[Any]:
        payload = source.payload
        if self._coders is not None:
            _, decoder, encoder = self._coders
            packet: Any = av.Packet(payload)
            packet.pts, packet.time_base = 0, Fraction(1, 1000)
            packet.duration = max(1, round(source.duration * self._base * 1000))
            decoded = decoder.decode2(packet)
            if decoded is None or not len(decoded):
                return []
            payload = bytes(encoder.encode_subtitle(decoded))
        place = place_of(source)
        start = max(self._last, (self._last if place is None else place + self._shift))
        fine = self._base * _FINEST_TEXT_CLOCK
        _check(round((start - self._last) * fine), round(source.duration * fine))
        self._last = start
        packet = _packet(self.stream, payload, source)
        packet.pts = packet.dts = start
        packet.duration = source.duration
        packet.time_base = self._base
        return [packet]
