"""What a file says of itself and whether it is sound: no torch, and for ``info`` no numpy either."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

from s2vc.bitstream import FORMAT_VERSION, Chunk, Header, StreamReader, TrackKind, TrackPacket
from s2vc.bitstream import Colour as CodedColour
from s2vc.bitstream.header import pack_header
from s2vc.codec.layers import KEY_PERIOD, Layer
from s2vc.errors import DamagedError

from .sources import PathLike, binary_input, damage_of_tracks, name, rate


@dataclass(frozen=True)
class TrackInfo:
    """A track beside the video; ``bytes`` of its packets, an attachment's of its contents."""

    kind: str
    codec: str
    language: str
    title: str
    packets: int
    bytes: int
    kbps: float


@dataclass(frozen=True)
class FileInfo:
    """What an .s2vc file says of itself. Times in seconds, sizes in bytes.

    ``bytes``, ``kbps``, ``bpp`` (bits a pixel) are of the whole file, ``video_…`` of it without other tracks.
    ``profile``: the arithmetic that decodes it, where not any does (``base``). ``points``: names of the rate
    points that coded it, of a model that has some and is at hand. ``quality``: those of key frames, which is
    what an encoder was asked for; frames between them are coarser (docs/rate-control.md).
    """

    format_version: int
    model: str
    model_digest: bytes
    width: int
    height: int
    frames: int
    duration: float
    frame_rate: float | None
    bytes: int
    kbps: float
    bpp: float
    video_bytes: int
    video_kbps: float
    video_bpp: float
    quality: list[int]
    chunks: int
    intra_frames: int
    sample_aspect_ratio: Fraction
    time_base: Fraction
    rotation: int
    colour: CodedColour
    reset_period: int
    tracks: list[TrackInfo]
    chapters: list[str]
    metadata: dict[str, str]
    damaged: str | None = None
    frame_list: list[FrameInfo] | None = None
    profile: str | None = None
    points: list[str] | None = None


@dataclass(frozen=True)
class FrameInfo:
    """A coded frame. ``time`` in seconds, ``bytes`` of its payload, ``kind`` "I" or "P".

    ``reset``: the feature buffer was read as empty. ``opens``: the first of its chunk.
    """

    number: int
    time: float
    kind: str
    reset: bool
    opens: bool
    quality: int
    bytes: int


@dataclass(frozen=True)
class VerifyResult:
    """How many frames' symbols are sound, and what is wrong with the rest."""

    frames: int
    damaged: str | None = None


@dataclass
class _Tally:
    """What a walk over a file's chunks adds up to."""

    frames: int = 0
    chunks: int = 0
    intra: int = 0
    qualities: set[int] = field(default_factory=set)  # of key frames
    since_intra: int = 0
    first: int | None = None
    end: int = 0
    packets: dict[int, int] = field(default_factory=dict)  # of each other track
    bytes: dict[int, int] = field(default_factory=dict)

    def add(self, chunk: Chunk) -> None:
        self.since_intra = 0 if chunk.intra else self.since_intra
        for quality in chunk.qualities:
            if Layer.of(self.since_intra, KEY_PERIOD) is not Layer.BETWEEN:
                self.qualities.add(quality)
            self.since_intra += 1
        self.frames += len(chunk.packets)
        self.chunks += chunk.opens
        self.intra += chunk.intra
        self.first = chunk.times[0] if self.first is None else self.first
        self.end = chunk.times[-1] + chunk.last_duration

    def add_packet(self, packet: TrackPacket) -> None:
        self.packets[packet.track] = self.packets.get(packet.track, 0) + 1
        self.bytes[packet.track] = self.bytes.get(packet.track, 0) + len(packet.payload)

    def tracks(self, header: Header, seconds: float) -> list[TrackInfo]:
        found = []
        for number, track in enumerate(header.tracks):
            attached = len(track.extradata) if track.kind is TrackKind.ATTACHMENT else 0
            size = self.bytes.get(number, 0) + attached
            found.append(
                TrackInfo(
                    kind=track.kind.name.lower(),
                    codec=track.codec,
                    language=track.language,
                    title=track.metadata.get("title", track.metadata.get("filename", "")),
                    packets=self.packets.get(number, 0),
                    bytes=size,
                    kbps=8 * size / 1000 / seconds if seconds > 0 and not attached else 0.0,
                )
            )
        return found


def bytes_of_extras(header: Header, packets: int) -> int:
    """Bytes of all but the video: ``packets``, of the groups of packets, and what the header says of them."""
    bare = replace(header, tracks=(), chapters=(), metadata={})
    return packets + len(pack_header(header)) - len(pack_header(bare))


class _Frames:
    """Makes a list of frames of a file's chunks."""

    def __init__(self, header: Header) -> None:
        from s2vc.codec.schedule import Schedule

        self.found: list[FrameInfo] = []
        self._schedule = Schedule(header.reset_period)
        self._time_base = header.time_base

    def add(self, chunk: Chunk) -> None:
        for place, (packet, quality) in enumerate(zip(chunk.packets, chunk.qualities, strict=True)):
            kind = self._schedule.next(chunk.intra and place == 0, quality)
            self.found.append(
                FrameInfo(
                    number=chunk.first_frame + place,
                    time=float(chunk.times[place] * self._time_base),
                    kind="I" if kind.intra else "P",
                    reset=kind.reset,
                    opens=chunk.opens and place == 0,
                    quality=quality,
                    bytes=len(packet.payload),
                )
            )


def _points(header: Header, qualities: set[int], model: str) -> list[str] | None:
    """Names of the rate points that a model's qualities choose; None where it has none."""
    from s2vc.codec.schedule import rate_point
    from s2vc.models.files import find_model_of

    names = find_model_of(header.model_id, header.model_digest, model).config.get("points")
    if names is None:
        return None
    return [names[number] for number in sorted({rate_point(q, len(names)) for q in qualities})]


def info(source: PathLike, *, frame_list: bool = False, model: str | None = None) -> FileInfo:
    """What an .s2vc file says of itself; needs no model and no torch. Raises InputError, FormatError.

    frame_list: and of each of its frames. model: the file's own, which names its rate points (ModelError
    where it is another).

    >>> import s2vc
    >>> facts = s2vc.info("holiday.s2vc")
    >>> (facts.width, facts.height, facts.frames, facts.quality)
    (64, 48, 12, [32])
    >>> [frame.kind for frame in s2vc.info("holiday.s2vc", frame_list=True).frame_list][:3]
    ['I', 'P', 'P']
    """
    with binary_input(source) as stream:
        reader = StreamReader(stream)
        tally, damaged = _Tally(), None
        each = _Frames(reader.header) if frame_list else None
        try:
            for item in reader:
                if isinstance(item, TrackPacket):
                    tally.add_packet(item)
                else:
                    tally.add(item)
                    if each is not None:
                        each.add(item)
                    if item.damaged:
                        damaged = f"{name(source)}: frame {item.first_frame} begins a damaged chunk"
            damaged = damaged or damage_of_tracks(reader, source)
        except DamagedError as error:
            damaged = f"{name(source)}: {error}"
        header, size = reader.header, reader.position
    seconds = float((tally.end - (tally.first or 0)) * header.time_base)
    frames_a_second = rate(header)
    of_video = size - bytes_of_extras(header, reader.track_bytes)
    pixels = header.width * header.height * tally.frames
    return FileInfo(
        format_version=FORMAT_VERSION,
        model=header.model_id,
        model_digest=header.model_digest,
        width=header.width,
        height=header.height,
        frames=tally.frames,
        duration=seconds,
        frame_rate=None if frames_a_second is None else float(frames_a_second),
        bytes=size,
        kbps=8 * size / 1000 / seconds if seconds > 0 else 0.0,
        bpp=8 * size / pixels if pixels else 0.0,
        video_bytes=of_video,
        video_kbps=8 * of_video / 1000 / seconds if seconds > 0 else 0.0,
        video_bpp=8 * of_video / pixels if pixels else 0.0,
        quality=sorted(tally.qualities),
        chunks=tally.chunks,
        intra_frames=tally.intra,
        sample_aspect_ratio=header.sample_aspect_ratio,
        time_base=header.time_base,
        rotation=header.rotation,
        colour=header.colour,
        reset_period=header.reset_period,
        tracks=tally.tracks(header, seconds),
        chapters=[
            f"{float(chapter.start * chapter.time_base):.3f} {chapter.metadata.get('title', '')}".strip()
            for chapter in header.chapters
        ],
        metadata=dict(header.metadata),
        damaged=damaged,
        frame_list=None if each is None else each.found,
        profile=header.profile or None,
        points=None if model is None else _points(header, tally.qualities, model),
    )


def verify(source: PathLike, *, model: str | None = None) -> VerifyResult:
    """Read every symbol of a file and check every checksum, without torch.

    Of a file whose symbols only some machines read (``base``), the container's sums alone, without its model.

    >>> import s2vc
    >>> s2vc.verify("holiday.s2vc")
    VerifyResult(frames=12, damaged=None)

    Raises InputError, FormatError, ModelError; what is damaged behind the header is in ``damaged``.
    """
    from s2vc.codec.decoder import SymbolReader
    from s2vc.models.files import find_model_of
    from s2vc.models.loading import load_symbol_model

    frames = 0
    with binary_input(source) as stream:
        reader = StreamReader(stream)
        header = reader.header
        symbol_reader = None
        if not header.profile:
            symbols, multiple = load_symbol_model(find_model_of(header.model_id, header.model_digest, model))
            symbol_reader = SymbolReader(symbols, header, multiple)
        try:
            for item in reader:
                if not isinstance(item, Chunk):
                    continue
                if symbol_reader is None:
                    frames += 0 if item.damaged else len(item.packets)
                    continue
                read = symbol_reader.read(item)
                frames += len(read.symbols)
                if read.damage is not None:
                    return VerifyResult(frames, f"{name(source)}: {read.damage}")
            return VerifyResult(frames, damage_of_tracks(reader, source))
        except DamagedError as error:
            return VerifyResult(frames, f"{name(source)}: {error}")
