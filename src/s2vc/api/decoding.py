"""A whole .s2vc file into a video in one call."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction

from s2vc.bitstream import Header, TrackPacket
from s2vc.errors import DamagedError, InputError, SymbolMismatchError
from s2vc.video import Extras, Frame, PacketQueue, VideoWriter, cut_chapters, open_output, parse_time

from .decoder import Decoder, video_info
from .models import Model, set_threads
from .sources import PathLike, ProgressCallback, Seconds, binary_input, name


@dataclass(frozen=True)
class DecodeResult:
    """What was decoded. ``damaged``: what was wrong with the input behind the frames that were written.

    ``concealed``: (first, last) numbers in the source of frames that show an earlier picture than theirs.
    ``differs``: the input is sound, but the symbols of the frame behind those written read differently here
    than where they were encoded (only of ``base``).
    """

    frames: int
    seconds: float
    warnings: tuple[str, ...] = ()
    damaged: str | None = None
    concealed: tuple[tuple[int, int], ...] = ()
    differs: str | None = None


def decode(
    source: PathLike,
    target: PathLike,
    *,
    model: str | Model | None = None,
    start: Seconds = None,
    duration: Seconds = None,
    frames: int | None = None,
    lossless: bool = False,
    conceal: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> DecodeResult:
    """Decode an .s2vc file into a video (.mp4, .mkv, .mov, .y4m), a folder of PNG or "-" (y4m).

    >>> import s2vc
    >>> s2vc.decode("holiday.s2vc", "pictures/", frames=3)
    DecodeResult(frames=3, seconds=..., warnings=(), damaged=None, concealed=(), differs=None)

    model: where the file's model is, if not in the package. start, duration, frames: what part of it; the
    first frame of a part gets time 0. Raises InputError, FormatError, ModelError, OutputError. Damage behind
    the header is no error: ``damaged`` says what is wrong, and the frames before it are written; nor is what
    reads differently here: ``differs``. Where no frame comes before, DamagedError or SymbolMismatchError is
    raised and nothing is written. conceal: write the frames behind damage, too; each lost frame shows the
    last good picture, up to the next I-frame.
    """
    began = time.monotonic()
    set_threads(threads)
    count, damaged, differs = 0, None, None
    arrived: list[TrackPacket] = []
    with binary_input(source) as stream:
        decoder = Decoder(stream, model=model, device=device, packets=arrived.append, conceal=conceal)
        base = decoder.header.time_base
        first = _ticks(start, base)
        length = _ticks(duration, base)
        if first or length is not None:
            decoder.seek(first or 0, None if length is None else (first or 0) + length)
        info = video_info(decoder.header)
        extras = Extras(decoder.header.tracks, decoder.header.chapters, decoder.header.metadata)
        with open_output(target, info, lossless=lossless, overwrite=overwrite, extras=extras) as writer:
            origin, queue = None, PacketQueue(())
            total = None if start or duration else decoder.frame_count
            total = frames if total is None else min(total, frames or total)
            try:
                for frame in decoder:
                    if origin is None:
                        origin = frame.time if first else 0
                        queue = _part(decoder.header, writer, origin * base, length)
                    queue.take(arrived)
                    for packet in queue.pop((frame.time + max(1, frame.duration)) * base):
                        writer.write_packet(packet)
                    if not writer.write(Frame(frame.picture, frame.time - origin, frame.duration)):
                        break
                    count += 1
                    if progress is not None:
                        progress(count, total, decoder.bytes_read)
                    if count == frames:
                        break
                if not frames and length is None and count:
                    queue.take(arrived)
                    for packet in queue.pop(None):
                        writer.write_packet(packet)
                damaged = decoder.damage_of_tracks(source) or _concealed(decoder, source)
                differs = decoder.differs and f"{name(source)}: {decoder.differs}"
            except (DamagedError, SymbolMismatchError) as error:
                if not count:
                    raise
                said = f"{name(source)}: {error}"
                if isinstance(error, DamagedError):
                    damaged = said
                else:
                    differs = said
            if not count and not writer.stopped:
                raise InputError(
                    f"{name(source)}: no frame lies in the part asked for: choose an earlier start"
                )
        warnings = tuple(writer.warnings)
    seconds = time.monotonic() - began
    return DecodeResult(count, seconds, warnings, damaged, tuple(decoder.concealed), differs)


def _concealed(decoder: Decoder, source: PathLike) -> str | None:
    """One line on what a concealing decoder met with."""
    if not decoder.concealed and not decoder.damages:
        return None
    if not decoder.concealed:
        return f"{name(source)}: {decoder.damages[0].message}; no frame is lost"
    lost = sum(last - first + 1 for first, last in decoder.concealed)
    places = [f"{first}-{last}" if last > first else str(first) for first, last in decoder.concealed]
    more = f" and {len(places) - 8} more places" if len(places) > 8 else ""
    return (
        f"{name(source)}: {lost} frames are lost ({', '.join(places[:8])}{more}): "
        "the last good picture stands in for each"
    )


def _part(header: Header, writer: VideoWriter, begin: Fraction, length: int | None) -> PacketQueue:
    """The way of other tracks' packets into a part that begins at a second and lasts so many ticks."""
    seconds = None if length is None else length * header.time_base
    if begin or seconds is not None:
        writer.chapters = cut_chapters(header.chapters, begin, seconds)
    return PacketQueue(header.tracks, begin, trims=begin > 0, length=seconds)


def _ticks(seconds: Seconds, time_base: Fraction) -> int | None:
    return None if seconds is None else round(parse_time(seconds) / time_base)
