"""What ``import s2vc`` offers: whole files in one call, or frame by frame.

>>> import s2vc
>>> made = s2vc.encode("holiday.mp4", "small.s2vc", quality=32)
>>> shown = s2vc.decode("small.s2vc", "again.mp4")
>>> (made.frames, shown.frames)
(12, 12)

The examples run as tests (tests/test_roundtrip_api.py), in a folder that holds ``holiday.mp4``, of twelve
frames of 64 x 48, and ``holiday.s2vc``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from s2vc.bitstream import FORMAT_VERSION, Chunk, Header, StreamReader, StreamWriter
from s2vc.bitstream import Colour as CodedColour
from s2vc.codec.decoder import DecodedFrame, SymbolReader, VideoDecoder
from s2vc.codec.encoder import CodedChunk, VideoEncoder
from s2vc.errors import DamagedError, FormatError, InputError, OutputError
from s2vc.models.files import DEFAULT, ModelFile, find_model, find_model_of
from s2vc.models.loading import load_frame_model, load_symbol_model
from s2vc.video import Colour, Frame, VideoInfo, open_output, open_video
from s2vc.video.staging import StagedFile, cannot_write

if TYPE_CHECKING:
    from s2vc.codec.protocol import FrameModel

ProgressCallback: TypeAlias = Callable[..., None]
Seconds: TypeAlias = "str | float | Fraction | None"
PathLike: TypeAlias = "str | Path"

SMALLEST_SIDE = 16
DEFAULT_KEYINT = "10s"
RESET_PERIOD = 32


@dataclass(frozen=True)
class EncodeResult:
    """What was written. ``bpp``: bits a pixel of the source's size, container included."""

    frames: int
    bytes: int
    seconds: float
    bpp: float
    kbps: float
    warnings: tuple[str, ...] = ()
    damaged: str | None = None


@dataclass(frozen=True)
class DecodeResult:
    """What was decoded. ``damaged``: what was wrong with the input behind the frames that were written."""

    frames: int
    seconds: float
    warnings: tuple[str, ...] = ()
    damaged: str | None = None


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


@dataclass(frozen=True)
class Model:
    """A loaded model: share it between encoders and decoders. ``load`` makes one."""

    file: ModelFile
    networks: FrameModel

    @property
    def id(self) -> str:
        """The name files carry, such as ``tiny-1``."""
        return self.file.id


def load(name: str = DEFAULT, device: str = "auto") -> Model:
    """Load a model by preset, id or path onto a device (auto, cpu, cuda, cuda:N, mps).

    What is loaded once can be shared by many calls:

    >>> import s2vc
    >>> model = s2vc.load("tiny", device="cpu")
    >>> [s2vc.encode("holiday.mp4", f"q{q}.s2vc", model=model, quality=q).frames for q in (10, 50)]
    [12, 12]

    Raises ModelError where there is no such model, InputError where there is no such device.
    """
    return _load(find_model(name), device)


def _load(model: ModelFile, device: str) -> Model:
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError):
        raise InputError(f"device {device} is not to be had here: use --device cpu") from None
    return Model(model, load_frame_model(model, place))


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _keyint_frames(keyint: int | str | None, rate: Fraction | None) -> int:
    keyint = DEFAULT_KEYINT if keyint is None else keyint
    if isinstance(keyint, int):
        return max(1, keyint)
    seconds = Fraction(keyint.removesuffix("s"))
    return max(1, round(seconds * (rate or 25)))


@contextlib.contextmanager
def _binary_output(target: PathLike, overwrite: bool) -> Iterator[BinaryIO]:
    """A file that appears under its name when whole, or standard output."""
    if str(target) == "-":
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except OSError as error:
            raise cannot_write("standard output", error) from None
        return
    staged = StagedFile(target, overwrite)
    try:
        yield staged  # type: ignore[misc]
        staged.commit()
    except OSError as error:
        staged.discard()
        raise cannot_write(target, error) from None
    except BaseException:
        staged.discard()
        raise


@contextlib.contextmanager
def _binary_input(source: PathLike) -> Iterator[BinaryIO]:
    """A file or standard input; what is wrong with its bytes is said with its name."""
    with contextlib.ExitStack() as stack:
        if str(source) == "-":
            stream: BinaryIO = sys.stdin.buffer
        else:
            try:
                stream = stack.enter_context(open(source, "rb"))
            except OSError as error:
                raise InputError(f"cannot read {source} ({error.strerror}): check the name") from None
        try:
            yield stream
        except (FormatError, DamagedError) as error:
            raise type(error)(f"{_name(source)}: {error}") from None


def _refuse_to_replace(source: PathLike, target: PathLike) -> None:
    """An output under the input's name would destroy it, overwriting allowed or not."""
    with contextlib.suppress(OSError):
        if os.path.samefile(source, target) and not os.path.isdir(source):
            raise OutputError(f"{target} is the input: give the output another name")


def _name(source: PathLike) -> str:
    return "standard input" if str(source) == "-" else str(source)


def _header(model: Model, info: VideoInfo) -> Header:
    duration = Fraction(0)
    if info.average_rate:
        duration = 1 / (info.average_rate * info.time_base)
    return Header(
        model_id=model.id,
        model_digest=model.file.digest,
        width=info.width,
        height=info.height,
        time_base=info.time_base,
        sample_aspect_ratio=info.sample_aspect_ratio,
        frame_duration=duration,
        colour=CodedColour(
            info.colour.matrix, info.colour.primaries, info.colour.transfer, info.colour.full_range
        ),
        rotation=info.rotation,
        reset_period=RESET_PERIOD,
    )


def _video_info(header: Header) -> VideoInfo:
    colour = header.colour
    return VideoInfo(
        width=header.width,
        height=header.height,
        sample_aspect_ratio=header.sample_aspect_ratio,
        time_base=header.time_base,
        rotation=header.rotation,
        colour=Colour(colour.matrix, colour.primaries, colour.transfer, colour.full_range),
        average_rate=_rate(header),
    )


def _rate(header: Header) -> Fraction | None:
    return 1 / (header.frame_duration * header.time_base) if header.frame_duration else None


class Encoder:
    """Writes an .s2vc stream frame by frame.

    ``target``: a binary file object (only ``write`` is needed). ``rate``: frames a second, for times that are
    not given. ``model``: a name or a loaded Model. ``reconstruct``: called with each Frame that a decoder
    will show. Use it as a context manager or call ``close``.

    >>> import io, numpy, s2vc
    >>> stream = io.BytesIO()
    >>> with s2vc.Encoder(stream, width=64, height=48, rate=25, quality=20) as encoder:
    ...     for level in range(0, 200, 40):
    ...         encoder.write(numpy.full((48, 64, 3), level, numpy.uint8))
    >>> (encoder.frames, encoder.bytes_written == len(stream.getvalue()))
    (5, True)

    Raises InputError, ModelError; ValueError for a picture of another shape or a time that does not rise.
    """

    def __init__(
        self,
        target: BinaryIO,
        width: int = 0,
        height: int = 0,
        *,
        rate: Fraction | int = 25,
        model: str | Model = DEFAULT,
        quality: int = 32,
        keyint: int | str | None = None,
        device: str = "auto",
        info: VideoInfo | None = None,
        reconstruct: Callable[[Frame], object] | None = None,
    ) -> None:
        if not 0 <= quality <= 63:
            raise ValueError(f"quality is 0 to 63, not {quality}")
        rate = Fraction(rate)
        info = info or VideoInfo(width, height, time_base=1 / rate, average_rate=rate)
        if min(info.width, info.height) < SMALLEST_SIDE:
            raise InputError(
                f"pictures of {info.width}x{info.height} are too small: "
                f"both sides must be at least {SMALLEST_SIDE}"
            )
        self.model = load(model, device) if isinstance(model, str) else model
        self._show = reconstruct
        self._coder = VideoEncoder(
            self.model.networks,
            info.width,
            info.height,
            quality=quality,
            keyint=_keyint_frames(keyint, info.average_rate),
            reset_period=RESET_PERIOD,
            reconstruct=reconstruct is not None,
        )
        self._stream = StreamWriter(target, _header(self.model, info))
        self._last: int | None = None
        self.frames = 0

    @property
    def bytes_written(self) -> int:
        """Bytes written so far: whole chunks."""
        return self._stream.bytes_written

    def write(self, picture: NDArray[np.uint8], time: int | None = None, duration: int | None = None) -> None:
        """Add a picture, uint8 RGB (height, width, 3). ``time``, ``duration``: ticks of the time base (frame
        numbers unless ``info`` said otherwise)."""
        time = self.frames if time is None else time
        if self._last is not None and time <= self._last:
            raise ValueError(f"times must rise: {time} comes after {self._last}")
        self._put(self._coder.push(picture, time, 1 if duration is None else duration))
        self._last = time
        self.frames += 1

    def _put(self, chunks: Iterator[CodedChunk]) -> None:
        for coded in chunks:
            self._stream.write_chunk(coded.chunk)
            if self._show is not None:
                for picture, time in zip(coded.pictures, coded.chunk.times, strict=True):
                    self._show(Frame(picture, time))

    def close(self) -> None:
        """Write what is left and the end mark. The file object stays open."""
        self._put(self._coder.flush())
        self._stream.close()

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


class Decoder:
    """Reads an .s2vc stream frame by frame: an iterator of ``DecodedFrame`` (picture, time, duration).

    ``source``: a binary file object; a pipe will do, and its frames come as soon as their chunk is there.
    ``model``: a loaded Model or a name or path, where the file's own model is not in the package.

    >>> import s2vc
    >>> with open("holiday.s2vc", "rb") as stream:
    ...     decoder = s2vc.Decoder(stream)
    ...     for frame in decoder:
    ...         picture = frame.picture            # uint8 RGB
    ...         seconds = frame.time * decoder.header.time_base
    >>> (picture.shape, float(seconds))
    ((48, 64, 3), 0.44)

    Raises FormatError or ModelError at once, DamagedError after the last sound frame.
    """

    def __init__(self, source: BinaryIO, *, model: str | Model | None = None, device: str = "auto") -> None:
        self._reader = StreamReader(source)
        self.header = self._reader.header
        wanted = (self.header.model_id, self.header.model_digest)
        self._device = device
        if isinstance(model, Model) and (model.file.id, model.file.digest) == wanted:
            self.model = model
        else:
            given = str(model.file.path) if isinstance(model, Model) else model
            self._model_file = find_model_of(*wanted, given)
        self._frames = self._decode()

    @cached_property
    def model(self) -> Model:
        """The file's model; its networks are loaded when first asked for."""
        return _load(self._model_file, self._device)

    @property
    def frame_count(self) -> int | None:
        """Frames in the whole file; None on a pipe, where only the end tells."""
        if not self._reader.seekable:
            return None
        return sum(entry.frames for entry in self._reader.index())

    @property
    def bytes_read(self) -> int:
        return self._reader.position

    def seek(self, ticks: int) -> None:
        """Go to the last I-frame at or before a time (a pipe cannot: it is read through instead)."""
        if not self._reader.seekable:
            return
        places = [n for n, e in enumerate(self._reader.index()) if e.intra and e.time <= ticks]
        if places:
            self._frames.close()
            self._reader.seek_chunk(places[-1])
            self._frames = self._decode()

    def _decode(self) -> Generator[DecodedFrame, None, None]:
        decoder = VideoDecoder(self.model.networks, self.header)
        chunks = (item for item in self._reader if isinstance(item, Chunk))
        yield from decoder.decode(chunks, live=not self._reader.seekable)

    def __iter__(self) -> Decoder:
        return self

    def __next__(self) -> DecodedFrame:
        return next(self._frames)


def encode(
    source: PathLike,
    target: PathLike,
    *,
    model: str | Model = DEFAULT,
    quality: int = 32,
    keyint: int | str | None = None,
    device: str = "auto",
    start: Seconds = None,
    duration: Seconds = None,
    frames: int | None = None,
    scale: str | tuple[int, int] | None = None,
    recon: PathLike | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> EncodeResult:
    """Encode a video into an .s2vc file.

    >>> import s2vc
    >>> s2vc.encode("holiday.mp4", "part.s2vc", quality=20, frames=8, keyint="2s").frames
    8

    source, target: paths, or "-" for standard input (y4m) and output. quality: 0..63, higher is better.
    keyint: an I-frame at least every so many frames, or "10s" (the default). start, duration, frames: what
    part of it. scale: (width, height). recon: also write what a decoder will show, losslessly where its
    format is (a folder of PNG, .mkv). progress: called with (frames, frames in all or None, bytes, seconds
    of video).

    Raises InputError, OutputError, ModelError. A source that breaks off is no error: ``damaged`` says so.
    """
    began = time.monotonic()
    for output in (target, recon):
        if output is not None:
            _refuse_to_replace(source, output)
    _set_threads(threads)
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(
            open_video(source, start=start, duration=duration, frames=frames, scale=scale)
        )
        info = reader.info
        shown = None
        if recon is not None:
            lossless = Path(recon).suffix.lower() in (".mkv", ".mp4", ".mov")
            shown = stack.enter_context(open_output(recon, info, lossless=lossless, overwrite=overwrite))
        stream = stack.enter_context(_binary_output(target, overwrite))
        encoder = Encoder(
            stream,
            model=model,
            quality=quality,
            keyint=keyint,
            device=device,
            info=info,
            reconstruct=None if shown is None else shown.write,
        )
        first = last = length = 0
        for frame in reader:
            encoder.write(frame.rgb, frame.pts, frame.duration)
            first = frame.pts if encoder.frames == 1 else first
            last, length = frame.pts, frame.duration
            if progress is not None:
                done = float((last - first + length) * info.time_base)
                progress(encoder.frames, info.frame_count, encoder.bytes_written, done)
        if not encoder.frames:
            raise InputError(f"{source}: {reader.damaged or 'there is no frame in it'}: nothing was encoded")
        encoder.close()
        warnings = (*reader.warnings, *(shown.warnings if shown is not None else ()))
        damaged = reader.damaged
    seconds = float((last - first + length) * info.time_base)
    bits = 8 * encoder.bytes_written
    return EncodeResult(
        frames=encoder.frames,
        bytes=encoder.bytes_written,
        seconds=time.monotonic() - began,
        bpp=bits / (info.width * info.height * encoder.frames),
        kbps=bits / 1000 / seconds if seconds > 0 else 0.0,
        warnings=warnings,
        damaged=damaged,
    )


def decode(
    source: PathLike,
    target: PathLike,
    *,
    model: str | Model | None = None,
    start: Seconds = None,
    duration: Seconds = None,
    frames: int | None = None,
    lossless: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> DecodeResult:
    """Decode an .s2vc file into a video (.mp4, .mkv, .mov, .y4m), a folder of PNG or "-" (y4m).

    >>> import s2vc
    >>> s2vc.decode("holiday.s2vc", "pictures/", frames=3)
    DecodeResult(frames=3, seconds=..., warnings=(), damaged=None)

    model: where the file's model is, if not in the package. start, duration, frames: what part of it; the
    first frame of a part gets time 0. Raises InputError, FormatError, ModelError, OutputError. Damage behind
    the header is no error: ``damaged`` says what is wrong, and the frames before it are written.
    """
    began = time.monotonic()
    _set_threads(threads)
    count, damaged = 0, None
    with _binary_input(source) as stream:
        decoder = Decoder(stream, model=model, device=device)
        base = decoder.header.time_base
        first = _ticks(start, base)
        length = _ticks(duration, base)
        if first:
            decoder.seek(first)
        info = _video_info(decoder.header)
        with open_output(target, info, lossless=lossless, overwrite=overwrite) as writer:
            origin = None
            total = None if start or duration else decoder.frame_count
            total = frames if total is None else min(total, frames or total)
            try:
                for frame in decoder:
                    if first is not None and frame.time < first:
                        continue
                    if length is not None and frame.time >= (first or 0) + length:
                        break
                    origin = (frame.time if first else 0) if origin is None else origin
                    if not writer.write(Frame(frame.picture, frame.time - origin, frame.duration)):
                        break
                    count += 1
                    if progress is not None:
                        progress(count, total, decoder.bytes_read)
                    if count == frames:
                        break
            except DamagedError as error:
                if not count:
                    raise
                damaged = f"{_name(source)}: {error}"
            if not count:
                raise InputError(
                    f"{_name(source)}: no frame lies in the part asked for: choose an earlier start"
                )
        warnings = tuple(writer.warnings)
    return DecodeResult(count, time.monotonic() - began, warnings, damaged)


def _ticks(seconds: Seconds, time_base: Fraction) -> int | None:
    from s2vc.video import parse_time

    if seconds is None:
        return None
    exact = parse_time(seconds) if isinstance(seconds, str) else Fraction(seconds)
    return round(exact / time_base)


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
    with _binary_input(source) as stream:
        reader = StreamReader(stream)
        tally, damaged = _Tally(), None
        try:
            for item in reader:
                if isinstance(item, Chunk):
                    tally.add(item)
                    if item.damaged:
                        damaged = f"{_name(source)}: frame {item.first_frame} begins a damaged chunk"
        except DamagedError as error:
            damaged = f"{_name(source)}: {error}"
        header, size = reader.header, reader.position
    seconds = float((tally.end - (tally.first or 0)) * header.time_base)
    rate = _rate(header)
    return FileInfo(
        format_version=FORMAT_VERSION,
        model=header.model_id,
        model_digest=header.model_digest,
        width=header.width,
        height=header.height,
        frames=tally.frames,
        duration=seconds,
        frame_rate=None if rate is None else float(rate),
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
    frames = 0
    with _binary_input(source) as stream:
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
                        return VerifyResult(frames, f"{_name(source)}: {read.damage}")
        except DamagedError as error:
            return VerifyResult(frames, f"{_name(source)}: {error}")
    return VerifyResult(frames)


__all__ = [
    "DecodeResult",
    "DecodedFrame",
    "Decoder",
    "EncodeResult",
    "Encoder",
    "FileInfo",
    "Model",
    "VerifyResult",
    "decode",
    "encode",
    "info",
    "load",
    "verify",
]
