"""What a video file holds beside its pictures: sound, subtitles, chapters, metadata, attachments.

They are carried as they came: packets are copied, never decoded. ``docs/video.md`` says what is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from s2vc.bitstream import CORRUPT, DISCARD, KEY, Chapter, Track, TrackKind, TrackPacket, limits

SOUND = ("copy", "opus", "none")

# A cut keeps so much of the sound before it: its decoder needs that to be in step, and nobody hears it.
PREROLL = Fraction(8, 100)
_NO_PREROLL = ("pcm_", "flac", "alac", "wavpack", "tta")

MOST_HELD = 64 << 20  # bytes of packets that wait for their time; beyond that they go at once

_ATTACHMENTS = 2 << 20  # bytes of all together; the header takes 4 MiB
_LONGEST_TEXT = 4096
# Samples to leave out at the ends; a WebVTT cue's name and place.
_KEPT_SIDE_DATA = ("skip_samples", "webvtt_identifier", "webvtt_settings")
_OF_THE_CONTAINER = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "vendor_id"}
_DEFAULT_HANDLERS = {"VideoHandler", "SoundHandler", "SubtitleHandler", "DataHandler"}


@dataclass(frozen=True)
class Extras:
    """What a file holds beside its video, but for the tracks' packets."""

    tracks: tuple[Track, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass
class Selection:
    """The tracks of a container that are carried; ``numbers``: their places by stream index."""

    extras: Extras = field(default_factory=Extras)
    numbers: dict[int, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def select(container: Any, video: Any, sound: str) -> Selection:
    """Choose and describe what is carried of an open PyAV container whose pictures come from ``video``.

    ``sound``: "copy", "opus" or "none".
    """
    tracks: list[Track] = []
    numbers: dict[int, int] = {}
    warnings: list[str] = []
    room = _ATTACHMENTS
    for stream in container.streams:
        if stream.index == video.index or (stream.type == "audio" and sound == "none"):
            continue
        if stream.type == "attachment" and len(stream.data) <= min(room, limits.MAX_EXTRADATA):
            room -= len(stream.data)
        track, problem = _describe(stream, room)
        if track is not None and len(tracks) == limits.MAX_TRACKS:
            track, problem = None, f"has more than {limits.MAX_TRACKS} other tracks: the rest is left out"
        if track is not None:
            numbers[stream.index] = len(tracks)
            tracks.append(track)
        elif problem and problem not in warnings:
            warnings.append(problem)
    metadata = _texts(container.metadata, _OF_THE_CONTAINER)
    return Selection(Extras(tuple(tracks), _chapters(container), metadata), numbers, warnings)


def _describe(stream: Any, room: int) -> tuple[Track | None, str]:
    """(a track, "") or (None, what the user should know, if anything)."""
    kind = {
        "audio": TrackKind.AUDIO,
        "subtitle": TrackKind.SUBTITLE,
        "attachment": TrackKind.ATTACHMENT,
    }.get(stream.type)
    if stream.type == "video":
        cover = bool(int(stream.disposition) & 0x400)
        return None, "" if cover else "has a second video track, which is left out"
    if kind is None:
        return None, ""  # time codes, chapter texts and the like, which muxers make anew
    metadata = _texts(stream.metadata, {*_OF_THE_CONTAINER, "language", "creation_time"})
    if metadata.get("handler_name") in _DEFAULT_HANDLERS:
        del metadata["handler_name"]
    language = stream.metadata.get("language", "")
    common = Track(
        kind,
        "attachment",
        Fraction(1, 1000),
        language="" if language == "und" or len(language.encode()) > limits.MAX_NAME else language,
        disposition=int(stream.disposition),
        metadata=metadata,
    )
    if kind is TrackKind.ATTACHMENT:
        data = stream.data
        if len(data) > limits.MAX_EXTRADATA or room < 0:
            return None, f"attachment {stream.name or ''} of {len(data)} bytes is too large: left out"
        return replace(common, extradata=data), ""
    context = stream.codec_context
    base = stream.time_base
    if context is None or not base:
        return None, f"has a track of kind {stream.type} that this build of FFmpeg does not know: left out"
    codec = context.codec.canonical_name
    extradata = context.extradata or b""
    if len(extradata) > limits.MAX_EXTRADATA:
        return None, f"the {codec} track has too large a head: left out"
    parameters = _sound_parameters(context) if kind is TrackKind.AUDIO else {}
    return replace(common, codec=codec, time_base=base, extradata=extradata, parameters=parameters), ""


def _sound_parameters(context: Any) -> dict[str, str]:
    found = {
        "sample_rate": context.sample_rate,
        "channels": context.channels,
        "channel_layout": context.layout.name,
        "sample_format": context.format.name if context.format else "",
        "frame_size": context.frame_size,
        "bit_rate": context.bit_rate,
    }
    return {name: str(value) for name, value in found.items() if value}


def _texts(metadata: Mapping[str, str], without: Iterable[str]) -> dict[str, str]:
    """Entries that are the author's, not the container's, and have a reasonable length."""
    unwanted = set(without)
    kept = {
        key: value
        for key, value in metadata.items()
        if key.lower() not in unwanted
        and not key.startswith(("_STATISTICS", "BPS", "NUMBER_OF_", "DURATION"))
        and len(key.encode()) <= limits.MAX_NAME
        and len(value.encode()) <= _LONGEST_TEXT
    }
    return dict(list(kept.items())[:64])


def _chapters(container: Any) -> tuple[Chapter, ...]:
    return tuple(
        Chapter(chapter["start"], chapter["end"], chapter["time_base"], _texts(chapter["metadata"], ()))
        for chapter in container.chapters()[: limits.MAX_CHAPTERS]
        if chapter["time_base"] and max(abs(chapter["start"]), abs(chapter["end"])) <= limits.MAX_TIME
    )


def copy_packet(packet: Any, number: int) -> TrackPacket | None:
    """A PyAV packet as one of track ``number``; None where it has no place in the format."""
    side = tuple(
        (name, bytes(packet.get_sidedata(name))) for name in _KEPT_SIDE_DATA if packet.has_sidedata(name)
    )
    payload = bytes(packet)
    times = [time for time in (packet.pts, packet.dts, packet.duration) if time is not None]
    if len(payload) > limits.MAX_TRACK_PACKET // 2 or any(abs(time) > limits.MAX_TIME for time in times):
        return None
    flags = KEY * packet.is_keyframe | DISCARD * packet.is_discard | CORRUPT * packet.is_corrupt
    duration = max(0, packet.duration or 0)
    return TrackPacket(number, payload, packet.pts, packet.dts, duration, flags, side)


def place_of(packet: TrackPacket) -> int | None:
    """When a packet is due, in its track's ticks."""
    return packet.pts if packet.pts is not None else packet.dts


class PacketQueue:
    """Other tracks' packets on their way: held until their time comes, cut to a part, on that part's clock.

    ``begin``: the source's second that becomes 0. ``trims``: what ends before it is left out, but for the
    sound that a decoder needs to be in step (``PREROLL``, flagged DISCARD). ``length``: seconds after which
    no subtitle is shown, where that is known. Times are rounded to their track's tick.
    """

    def __init__(
        self,
        tracks: tuple[Track, ...],
        begin: Fraction = Fraction(0),
        *,
        trims: bool = False,
        length: Fraction | None = None,
    ) -> None:
        self._tracks = tracks
        self._begin = begin
        self._trims = trims
        self._length = length
        self._held: deque[TrackPacket] = deque()

    def take(self, packets: MutableSequence[TrackPacket]) -> None:
        """Take packets on the source's clock out of where they came."""
        self._held.extend(packets)
        packets.clear()

    def pop(self, until: Fraction | None, *, ends: bool = False) -> list[TrackPacket]:
        """Packets due before ``until``, a second of the source's clock; all where it is None.

        ``ends``: nothing is shown from ``until`` on; what is left is forgotten.
        """
        ready: list[TrackPacket] = []
        rest: deque[TrackPacket] = deque()
        if not ends and sum(len(packet.payload) for packet in self._held) > MOST_HELD:
            until = None
        for packet in self._held:
            place = place_of(packet)
            due = until is None or place is None or place * self._tracks[packet.track].time_base < until
            if not due:
                rest.append(packet)
            elif (cut := self._cut(packet)) is not None:
                ready.append(cut)
        self._held = deque() if ends else rest
        return ready

    def _cut(self, packet: TrackPacket) -> TrackPacket | None:
        track = self._tracks[packet.track]
        base = track.time_base
        shift = round(self._begin / base)
        place = place_of(packet)
        pts = None if packet.pts is None else packet.pts - shift
        dts = None if packet.dts is None else packet.dts - shift
        duration, flags = packet.duration, packet.flags
        if self._trims and place is not None:
            over = (place - shift + duration) * base
            if track.kind is TrackKind.AUDIO:
                kept = Fraction(0) if track.codec.startswith(_NO_PREROLL) else PREROLL
                if over <= -kept:
                    return None
                flags |= DISCARD * (over <= 0)
            else:
                if over <= 0:
                    return None
                early = max(0, shift - place)
                pts, dts, duration = place - shift + early, None, duration - early
        if self._length is not None and track.kind is TrackKind.SUBTITLE and pts is not None:
            duration = min(duration, max(1, round(self._length / base) - pts))
        return replace(packet, pts=pts, dts=pts if dts is None else dts, duration=duration, flags=flags)


def cut_chapters(
    chapters: Sequence[Chapter], begin: Fraction, length: Fraction | None
) -> tuple[Chapter, ...]:
    """Chapters of a part: on its clock, and no longer than it."""
    kept: list[Chapter] = []
    for chapter in chapters:
        base = chapter.time_base
        shift = round(begin / base)
        start, end = max(0, chapter.start - shift), chapter.end - shift
        if length is not None:
            end = min(end, round(length / base))
        if start < end:
            kept.append(replace(chapter, start=start, end=end))
    return tuple(kept)
