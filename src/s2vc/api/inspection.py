"""What a file says of itself and whether it is sound: no torch, and for ``info`` no numpy either."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from s2vc.bitstream import FORMAT_VERSION, Chunk, StreamReader
from s2vc.bitstream import Colour as CodedColour
from s2vc.errors import DamagedError

from .sources import PathLike, binary_input, name, rate


@dataclass(frozen=True)
class FileInfo:
    """What an .s2vc file says of itself. Times in seconds, sizes in bytes."""

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
    quality: list[int]
    chunks: int
    intra_frames: int
    sample_aspect_ratio: Fraction
    time_base: Fraction
    rotation: int
    colour: CodedColour
    reset_period: int
    tracks: list[str]
    damaged: str | None = None


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
    qualities: set[int] = field(default_factory=set)
    first: int | None = None
    end: int = 0

    def add(self, chunk: Chunk) -> None:
        self.frames += len(chunk.packets)
        self.chunks += chunk.opens
        self.intra += chunk.intra
        self.qualities.update(chunk.qualities)
        self.first = chunk.times[0] if self.first is None else self.first
        self.end = chunk.times[-1] + chunk.last_duration


def info(source: PathLike) -> FileInfo:
    """What an .s2vc file says of itself; needs no model and no torch. Raises InputError, FormatError.

    >>> import s2vc
    >>> facts = s2vc.info("holiday.s2vc")
    >>> (facts.width, facts.height, facts.frames, facts.quality)
    (64, 48, 12, [32])
    """
    with binary_input(source) as stream:
        reader = StreamReader(stream)
        tally, damaged = _Tally(), None
        try:
            for item in reader:
                if isinstance(item, Chunk):
                    tally.add(item)
                    if item.damaged:
                        damaged = f"{name(source)}: frame {item.first_frame} begins a damaged chunk"
        except DamagedError as error:
            damaged = f"{name(source)}: {error}"
        header, size = reader.header, reader.position
    seconds = float((tally.end - (tally.first or 0)) * header.time_base)
    frames_a_second = rate(header)
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
        bpp=8 * size / (header.width * header.height * tally.frames) if tally.frames else 0.0,
        quality=sorted(tally.qualities),
        chunks=tally.chunks,
        intra_frames=tally.intra,
        sample_aspect_ratio=header.sample_aspect_ratio,
        time_base=header.time_base,
        rotation=header.rotation,
        colour=header.colour,
        reset_period=header.reset_period,
        tracks=[f"{track.kind.name.lower()} {track.codec}" for track in header.tracks],
        damaged=damaged,
    )


def verify(source: PathLike, *, model: str | None = None) -> VerifyResult:
    """Read every symbol of a file and check every checksum, without torch (``tiny``).

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
        symbols, multiple = load_symbol_model(find_model_of(header.model_id, header.model_digest, model))
        symbol_reader = SymbolReader(symbols, header, multiple)
        try:
            for item in reader:
                if isinstance(item, Chunk):
                    read = symbol_reader.read(item)
                    frames += len(read.symbols)
                    if read.damage is not None:
                        return VerifyResult(frames, f"{name(source)}: {read.damage}")
        except DamagedError as error:
            return VerifyResult(frames, f"{name(source)}: {error}")
    return VerifyResult(frames)
