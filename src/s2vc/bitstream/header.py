"""The header: everything that is known before the first frame. docs/bitstream.md, "Header"."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction

from s2vc.bitstream import limits
from s2vc.bitstream.varint import MAX_RATIO, ByteReader, Malformed, blob, ratio, signed, string, varint
from s2vc.errors import FormatError

MAGIC = b"\x89S2VC\r\n\x1a"
PREFIX_SIZE = len(MAGIC) + 1 + 4


@dataclass(frozen=True)
class Colour:
    """How the source coded its colours: numbers of ITU-T H.273 (2: unspecified), 0..255 each."""

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    full_range: bool = False


class TrackKind(IntEnum):
    AUDIO = 1
    SUBTITLE = 2
    DATA = 3
    ATTACHMENT = 4
    VIDEO = 5  # a second picture track kept as it came (a cover, say), never the coded one


@dataclass(frozen=True)
class Track:
    """A track kept as it came, beside the video. Its number is its place in ``Header.tracks``, from 0.

    ``codec``: FFmpeg's name of the codec. ``language``: ISO 639-2, empty if unknown. ``disposition``:
    FFmpeg's bits (1 default, 64 forced, …). ``parameters``: what a muxer needs beside ``extradata``, as text:
    sample_rate, channels, channel_layout, sample_format, frame_size, initial_padding, bit_rate, …
    """

    kind: TrackKind
    codec: str
    time_base: Fraction
    extradata: bytes = b""
    language: str = ""
    disposition: int = 0
    parameters: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Chapter:
    """``start`` and ``end`` in units of ``time_base``; the title is in ``metadata``."""

    start: int
    end: int
    time_base: Fraction
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """What a reader learns first.

    ``model_digest``: 8 bytes. ``profile``: arithmetic that decodes the file, empty where any does (`tiny`).
    ``width``, ``height``: pixels as stored, before ``rotation`` (0, 90, 180, 270 degrees clockwise to
    display). ``time_base``: seconds a tick. ``frame_duration``: ticks a frame at the file's constant rate, a
    fraction where ticks are coarse, 0 if there is no such rate; it only makes regular times free of cost.
    ``reset_period``: 0 never. ``checksum_bytes``: 1..4, how many low bytes of the CRC-32 of a packet's
    symbols are kept.
    """

    model_id: str
    model_digest: bytes
    width: int
    height: int
    time_base: Fraction
    profile: str = ""
    sample_aspect_ratio: Fraction = Fraction(1)
    frame_duration: Fraction = Fraction(0)
    colour: Colour = Colour()
    rotation: int = 0
    reset_period: int = 32
    checksum_bytes: int = 1
    tracks: tuple[Track, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()

    @property
    def max_packet(self) -> int:
        return limits.max_packet(self.width, self.height)

    def regular_time(self, frame: int) -> int:
        """frame · frame_duration, rounded to the nearest tick, halves up."""
        top, bottom = self.frame_duration.numerator, self.frame_duration.denominator
        return (2 * frame * top + bottom) // (2 * bottom)


def _dictionary(entries: dict[str, str]) -> bytes:
    return varint(len(entries)) + b"".join(string(key) + string(value) for key, value in entries.items())


def _get_dictionary(data: ByteReader, what: str) -> dict[str, str]:
    count = data.varint(limits.MAX_METADATA, f"the number of {what}")
    entries: dict[str, str] = {}
    for _ in range(count):
        key = data.string(limits.MAX_NAME, what)
        if key in entries:
            raise Malformed(f"{what} name {key!r} twice")
        entries[key] = data.string(limits.MAX_TEXT, what)
    return entries


def pack_header(header: Header) -> bytes:
    """The header's bytes; FormatError if one of its values has no place in the format."""
    try:
        body = _pack_body(header)
    except (ValueError, OverflowError) as problem:
        raise FormatError(f"cannot be written as s2vc: {problem}") from None
    if len(body) > limits.MAX_HEADER:
        raise FormatError(f"the header would have {len(body)} bytes, at most {limits.MAX_HEADER} are allowed")
    front = MAGIC + bytes([limits.FORMAT_VERSION]) + len(body).to_bytes(4, "big") + body
    try:
        _unpack_body(body)
    except Malformed as problem:
        raise FormatError(f"cannot be written as s2vc: {problem}") from None
    return front + zlib.crc32(front).to_bytes(4, "big")


def _pack_body(header: Header) -> bytes:
    colour = header.colour
    turns, odd = divmod(header.rotation, 90)
    if odd or not 0 <= turns <= 3:
        raise ValueError(f"the rotation is {header.rotation}, not 0, 90, 180 or 270")
    if not 1 <= header.checksum_bytes <= 4:
        raise ValueError(f"{header.checksum_bytes} checksum bytes, 1 to 4 are allowed")
    if len(header.model_digest) != 8:
        raise ValueError(f"the model's digest has {len(header.model_digest)} bytes, not 8")
    flags = colour.full_range | turns << 1 | header.checksum_bytes - 1 << 3
    out = [
        string(header.model_id),
        header.model_digest,
        string(header.profile),
        header.width.to_bytes(2, "big"),
        header.height.to_bytes(2, "big"),
        ratio(header.sample_aspect_ratio),
        ratio(header.time_base),
        ratio(header.frame_duration),
        bytes([colour.matrix, colour.primaries, colour.transfer, flags]),
        varint(header.reset_period),
        varint(len(header.tracks)),
    ]
    for track in header.tracks:
        out += [
            bytes([track.kind]),
            string(track.codec),
            ratio(track.time_base),
            string(track.language),
            varint(track.disposition),
            blob(track.extradata),
            _dictionary(track.parameters),
            _dictionary(track.metadata),
        ]
    out += [_dictionary(header.metadata), varint(len(header.chapters))]
    for chapter in header.chapters:
        out += [
            ratio(chapter.time_base),
            signed(chapter.start),
            signed(chapter.end),
            _dictionary(chapter.metadata),
        ]
    return b"".join(out)


def _positive(value: Fraction, what: str) -> Fraction:
    if value <= 0:
        raise Malformed(f"{what} is not positive")
    return value


def _unpack_body(body: bytes) -> Header:
    data = ByteReader(body)
    model_id = data.string(limits.MAX_NAME, "the model's id")
    if not model_id or not model_id.isprintable():
        raise Malformed("the model's id is empty or not printable")
    digest = data.take(8)
    profile = data.string(limits.MAX_TEXT, "the arithmetic profile")
    width, height = data.integer(2), data.integer(2)
    if min(width, height) < limits.MIN_SIDE or max(width, height) > limits.MAX_SIDE:
        raise Malformed(f"the picture is {width}x{height}, sides from 16 to {limits.MAX_SIDE} are allowed")
    if width * height > limits.MAX_PIXELS:
        raise Malformed(f"the picture is {width}x{height}, more than {limits.MAX_PIXELS} pixels")
    aspect = _positive(data.ratio("the sample aspect ratio"), "the sample aspect ratio")
    time_base = _positive(data.ratio("the time base"), "the time base")
    frame_duration = data.ratio("the frame duration")
    matrix, primaries, transfer, flags = data.take(4)
    if flags >> 5:
        raise Malformed(f"unknown flags {flags:#04x}")
    reset_period = data.varint(limits.MAX_RESET_PERIOD, "the reset period")
    tracks = tuple(
        _unpack_track(data, number)
        for number in range(data.varint(limits.MAX_TRACKS, "the number of tracks"))
    )
    metadata = _get_dictionary(data, "metadata")
    chapters = tuple(
        _unpack_chapter(data) for _ in range(data.varint(limits.MAX_CHAPTERS, "the number of chapters"))
    )
    while data.left:  # fields that later writers of this version add: number, bytes
        data.varint(what="the number of a field")
        data.blob(limits.MAX_HEADER, "a field")
    return Header(
        model_id=model_id,
        model_digest=digest,
        profile=profile,
        width=width,
        height=height,
        sample_aspect_ratio=aspect,
        time_base=time_base,
        frame_duration=frame_duration,
        colour=Colour(matrix, primaries, transfer, bool(flags & 1)),
        rotation=90 * (flags >> 1 & 3),
        reset_period=reset_period,
        checksum_bytes=(flags >> 3 & 3) + 1,
        tracks=tracks,
        metadata=metadata,
        chapters=chapters,
    )


def _unpack_track(data: ByteReader, number: int) -> Track:
    what = f"track {number}"
    kind = data.integer(1)
    try:
        kind = TrackKind(kind)
    except ValueError:
        raise Malformed(f"{what} is of the unknown kind {kind}") from None
    return Track(
        kind=kind,
        codec=data.string(limits.MAX_NAME, f"the codec of {what}"),
        time_base=_positive(data.ratio(f"the time base of {what}"), f"the time base of {what}"),
        language=data.string(limits.MAX_NAME, f"the language of {what}"),
        disposition=data.varint(MAX_RATIO, f"the disposition of {what}"),
        extradata=data.blob(limits.MAX_EXTRADATA, f"the extradata of {what}"),
        parameters=_get_dictionary(data, f"the parameters of {what}"),
        metadata=_get_dictionary(data, f"the metadata of {what}"),
    )


def _unpack_chapter(data: ByteReader) -> Chapter:
    time_base = _positive(data.ratio("the time base of a chapter"), "the time base of a chapter")
    start, end = data.signed(), data.signed()
    if max(abs(start), abs(end)) > limits.MAX_TIME:
        raise Malformed("a chapter's time is out of range")
    return Chapter(start, end, time_base, _get_dictionary(data, "metadata of a chapter"))


def read_header(read: Callable[[int], bytes]) -> Header:
    """The header off a stream. ``read(n)``: n bytes, fewer only at the end. FormatError if it is unusable."""
    prefix = read(PREFIX_SIZE)
    if not prefix:
        raise FormatError("the file is empty: give a file that s2vc encode made")
    if prefix[: len(MAGIC)] != MAGIC[: len(prefix)]:
        raise FormatError("not an s2vc file: give a file that s2vc encode made")
    broken = FormatError("the header is cut short: fetch the file again")
    if len(prefix) < PREFIX_SIZE:
        raise broken
    version, length = prefix[len(MAGIC)], int.from_bytes(prefix[len(MAGIC) + 1 :], "big")
    newer = FormatError(
        f"the file needs format version {version}, this s2vc reads up to {limits.FORMAT_VERSION}: "
        "install a newer s2vc"
    )
    if length > limits.MAX_HEADER:
        if version > limits.FORMAT_VERSION:
            raise newer
        raise FormatError(f"the header claims {length} bytes, it is damaged: fetch the file again")
    body = read(length + 4)
    if len(body) < length + 4:
        raise broken
    if zlib.crc32(prefix + body[:-4]).to_bytes(4, "big") != body[-4:]:
        raise FormatError("the header is damaged (its checksum is wrong): fetch the file again")
    if version > limits.FORMAT_VERSION:
        raise newer
    if version == 0:
        raise FormatError("the file says format version 0, which never was: fetch the file again")
    try:
        return _unpack_body(body[:-4])
    except Malformed as problem:
        raise FormatError(f"the header cannot be used ({problem}): it was not made by s2vc encode") from None
