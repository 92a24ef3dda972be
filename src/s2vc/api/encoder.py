"""Frame by frame: ``Encoder`` over a binary file object."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from s2vc.bitstream import Colour as CodedColour
from s2vc.bitstream import Header, StreamWriter, TrackPacket, fitted
from s2vc.codec.encoder import CodedChunk, VideoEncoder
from s2vc.codec.known import KnownPackets
from s2vc.codec.packets import checksum_bytes
from s2vc.codec.rate_control import QualityControl
from s2vc.errors import InputError
from s2vc.models.files import DEFAULT
from s2vc.video import Extras, Frame, VideoInfo
from s2vc.video.tracks import MOST_HELD, place_of

from .inspection import bytes_of_extras
from .models import Model, load

SMALLEST_SIDE = 16
LONGEST_KEYINT = "10s"  # where scene cuts decide
SHORTEST_KEYINT = "0.5s"


def longest_interval(keyint: int | str | None, rate: Fraction | None) -> int:
    """Frames from one I-frame to the next at most; of an interval in seconds about so many."""
    return _interval(_longest(keyint), rate)


def _longest(keyint: int | str | None) -> int | str:
    return LONGEST_KEYINT if keyint is None or keyint == "auto" else keyint


def _interval(interval: int | str, rate: Fraction | None) -> int:
    """Frames, of a number of them or of seconds such as "10s"."""
    if isinstance(interval, int):
        return max(1, interval)
    seconds = Fraction(interval.removesuffix("s"))
    return max(1, round(seconds * (rate or 25)))


def _ticks(interval: str, info: VideoInfo) -> int:
    """An interval such as "10s" in ticks: at a constant rate those of the frame that comes nearest to it."""
    seconds = Fraction(interval.removesuffix("s"))
    return max(1, math.ceil((seconds - 1 / (2 * (info.average_rate or Fraction(25)))) / info.time_base))


def _header(model: Model, info: VideoInfo, extras: Extras) -> Header:
    duration = Fraction(0)
    if info.average_rate:
        # It makes regular times cheap, and need not be exact: averages of long films have large terms.
        duration = fitted(1 / (info.average_rate * info.time_base))
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
        reset_period=model.networks.reset_period,
        checksum_bytes=checksum_bytes(model.networks.symbols.exact),
        profile=model.networks.profile,
        tracks=extras.tracks,
        metadata=extras.metadata,
        chapters=extras.chapters,
    )


def split_due(
    packets: list[TrackPacket], header: Header, until: int | None
) -> tuple[list[TrackPacket], list[TrackPacket]]:
    """(packets due before ``until``, a time in ticks of the header's time base, and the others)."""
    if until is None or sum(len(packet.payload) for packet in packets) > MOST_HELD:
        return packets, []
    end = until * header.time_base
    due: list[TrackPacket] = []
    later: list[TrackPacket] = []
    for packet in packets:
        place = place_of(packet)
        early = place is None or place * header.tracks[packet.track].time_base < end
        (due if early else later).append(packet)
    return due, later


class Encoder:
    """Writes an .s2vc stream frame by frame.

    ``target``: a binary file object (``write``; ``flush`` where it has one). ``rate``: frames a
    second, for times that are not given. ``model``: a name or a loaded Model. ``keyint``, ``min_keyint``: as
    for ``encode``.
    ``low_delay``: each picture's packet is written and ``target`` flushed before ``write`` returns;
    otherwise up to 32 wait for one another. ``known``: packets of the first frames, from a run that stopped.
    ``control``: chooses each frame's quality in the place of ``quality`` (docs/rate-control.md).
    ``adapt``: choose codes that adapt ``tiny``'s generator to what is between two I-frames, which then waits
    for the second. ``reconstruct``: called with each Frame that a decoder will show. ``extras``: tracks,
    chapters and metadata, for the header. Use it as a context manager or call ``close``.

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
        rate: Fraction | float = 25,
        model: str | Model = DEFAULT,
        quality: int = 32,
        keyint: int | str | None = None,
        min_keyint: int | str | None = None,
        low_delay: bool = False,
        known: KnownPackets | None = None,
        control: QualityControl | None = None,
        device: str = "auto",
        info: VideoInfo | None = None,
        reconstruct: Callable[[Frame], object] | None = None,
        extras: Extras | None = None,
        adapt: bool = False,
    ) -> None:
        if not 0 <= quality <= 63:
            raise ValueError(f"quality is 0 to 63, not {quality}")
        if not hasattr(target, "write"):
            raise TypeError(f"target is a file open for writing, not {target!r}: s2vc.encode takes paths")
        rate = Fraction(rate).limit_denominator(1001) if isinstance(rate, float) else Fraction(rate)
        cuts = keyint is None or keyint == "auto"
        longest = _longest(keyint)
        info = info or VideoInfo(width, height, time_base=1 / rate, average_rate=rate)
        if min(info.width, info.height) < SMALLEST_SIDE:
            raise InputError(
                f"pictures of {info.width}x{info.height} are too small: "
                f"both sides must be at least {SMALLEST_SIDE}"
            )
        self.model = load(model, device) if isinstance(model, str) else model
        adapter = None
        if adapt:
            from .adapting import adapter_for  # torch, which who only reads does without

            adapter = adapter_for(self.model)
        if adapter is not None and (low_delay or known is not None or reconstruct is not None):
            raise ValueError(
                "the generator is adapted when a whole scene is coded: not with low_delay, resume or recon"
            )
        self._show = reconstruct
        self._coder = VideoEncoder(
            self.model.networks,
            info.width,
            info.height,
            quality=quality,
            keyint=longest if isinstance(longest, int) else None,
            keyint_ticks=None if isinstance(longest, int) else _ticks(longest, info),
            min_keyint=_interval(SHORTEST_KEYINT if min_keyint is None else min_keyint, info.average_rate),
            scene_cuts=cuts,
            low_delay=low_delay,
            known=known,
            control=control,
            reset_period=self.model.networks.reset_period,
            reconstruct=reconstruct is not None,
            adapter=adapter,
        )
        self._stream = StreamWriter(
            target, _header(self.model, info, extras or Extras()), low_delay=low_delay
        )
        self._control = control
        self._counted = 0
        self._count_container(0)
        self._held: list[TrackPacket] = []
        self._last: int | None = None
        self.frames = 0

    @property
    def bytes_written(self) -> int:
        """Bytes written so far: whole chunks."""
        return self._stream.bytes_written

    @property
    def video_bytes(self) -> int:
        """Bytes written so far without the other tracks, chapters and metadata."""
        return self.bytes_written - bytes_of_extras(self._stream.header, self._stream.track_bytes)

    def write(self, picture: NDArray[np.uint8], time: int | None = None, duration: int | None = None) -> None:
        """Add a picture, uint8 RGB (height, width, 3). ``time``, ``duration``: ticks of the time base (frame
        numbers unless ``info`` said otherwise)."""
        time = self.frames if time is None else time
        if self._last is not None and time <= self._last:
            raise ValueError(f"times must rise: {time} comes after {self._last}")
        self._put(self._coder.push(picture, time, 1 if duration is None else duration), time)
        self._last = time
        self.frames += 1

    def look(self) -> list[NDArray[np.uint8]]:
        """What a decoder shows of the last pictures, four at most, rendered now."""
        return self._coder.look()

    def write_packet(self, packet: TrackPacket) -> None:
        """Add a packet of another track: any time before the next picture that is due with it or later."""
        self._held.append(packet)

    def _write_due(self, until: int | None) -> None:
        """Write the other tracks' packets due before ``until``, in the pictures' ticks; None: all."""
        due, self._held = split_due(self._held, self._stream.header, until)
        for packet in due:
            self._stream.write_track_packet(packet)

    def _count_container(self, payloads: int) -> None:
        """Tell the control what was written of the video but so many bytes of payloads."""
        if self._control is not None:
            self._control.container(8 * (self.video_bytes - self._counted - payloads))
            self._counted = self.video_bytes

    def _put(self, chunks: Iterator[CodedChunk], next_time: int | None = None) -> None:
        for coded in chunks:
            chunk = coded.chunk
            end = chunk.times[-1] + chunk.last_duration
            behind = next_time if coded.until is None else coded.until
            self._write_due(end if behind is None else max(end, behind))
            if self._stream.low_delay:
                self._stream.write_packet(
                    chunk.packets[0], chunk.times[0], chunk.qualities[0], opens=chunk.opens, intra=chunk.intra
                )
            else:
                self._stream.write_chunk(chunk)
            self._count_container(sum(len(packet.payload) for packet in chunk.packets) - coded.grown)
            if self._show is not None:
                for picture, time in zip(coded.pictures, coded.chunk.times, strict=True):
                    self._show(Frame(picture, time))

    def close(self) -> None:
        """Write what is left and the end mark. The file object stays open."""
        self._put(self._coder.flush())
        self._write_due(None)
        self._stream.close()
        self._count_container(0)

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
