"""Frame by frame: ``Decoder`` over a binary file object."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import cached_property
from typing import BinaryIO

from s2vc.bitstream import Chunk, Damage, Header, StreamReader, TrackPacket
from s2vc.codec.conceal import ConcealingDecoder
from s2vc.codec.decoder import DecodedFrame, VideoDecoder, chunks_of_part
from s2vc.errors import DamagedError
from s2vc.models.files import find_model_of
from s2vc.video import Colour, VideoInfo

from .models import Model, load_file
from .sources import PathLike, damage_of_tracks, rate


def video_info(header: Header) -> VideoInfo:
    """What an output needs to know of the video."""
    colour = header.colour
    return VideoInfo(
        width=header.width,
        height=header.height,
        sample_aspect_ratio=header.sample_aspect_ratio,
        time_base=header.time_base,
        rotation=header.rotation,
        colour=Colour(colour.matrix, colour.primaries, colour.transfer, colour.full_range),
        average_rate=rate(header),
    )


class Decoder:
    """Reads an .s2vc stream frame by frame: an iterator of ``DecodedFrame`` (picture, time, duration).

    ``source``: a binary file object; a pipe will do, and its frames come as soon as their chunk is there.
    ``model``: a loaded Model or a name or path, where the file's own model is not in the package.
    ``packets``: called with each packet of the other tracks, before the frames that are due with it.
    ``conceal``: go on behind damage: in place of each lost frame comes the last good picture, marked
    ``concealed``, until the next I-frame; ``concealed`` lists them, as (first, last) frame numbers, and
    ``differs`` says which frame was the first to read differently here than where it was encoded.

    >>> import s2vc
    >>> with open("holiday.s2vc", "rb") as stream:
    ...     decoder = s2vc.Decoder(stream)
    ...     for frame in decoder:
    ...         picture = frame.picture            # uint8 RGB
    ...         seconds = frame.time * decoder.header.time_base
    >>> (picture.shape, float(seconds))
    ((48, 64, 3), 0.44)

    Raises FormatError or ModelError at once. After the last sound frame it raises DamagedError or
    SymbolMismatchError; with ``conceal`` it does not.
    """

    def __init__(
        self,
        source: BinaryIO,
        *,
        model: str | Model | None = None,
        device: str = "auto",
        packets: Callable[[TrackPacket], object] | None = None,
        conceal: bool = False,
    ) -> None:
        if not hasattr(source, "read"):
            raise TypeError(f"source is a file open for reading, not {source!r}: s2vc.decode takes paths")
        self._reader = StreamReader(source, conceal=conceal)
        self.header = self._reader.header
        wanted = (self.header.model_id, self.header.model_digest)
        self._device = device
        if isinstance(model, Model) and (model.file.id, model.file.digest) == wanted:
            self.model = model
        else:
            given = str(model.file.path) if isinstance(model, Model) else model
            self._model_file = find_model_of(*wanted, given)
        self._take = packets
        self._first_frame = 0
        self._end_frame: int | None = None
        self._wanted: int | None = None  # the part's first chunk, while what comes before it is read
        self._part: tuple[int, int | None] | None = None
        self.concealed: list[tuple[int, int]] = []
        self._concealing: ConcealingDecoder | None = None
        self._frames = self._decode()

    @cached_property
    def model(self) -> Model:
        """The file's model; its networks are loaded when first asked for."""
        return load_file(self._model_file, self._device)

    @property
    def frame_count(self) -> int | None:
        """Frames in the whole file; None on a pipe, where only the end tells."""
        if not self._reader.seekable:
            return None
        return sum(entry.frames for entry in self._reader.index())

    @property
    def bytes_read(self) -> int:
        return self._reader.position

    def damage_of_tracks(self, source: PathLike) -> str | None:
        """One line on what was wrong with the other tracks, if anything; no frame is missing for it."""
        return damage_of_tracks(self._reader, source)

    @property
    def damages(self) -> list[Damage]:
        """What was wrong on the way, with ``conceal``."""
        return self._reader.damages

    @property
    def differs(self) -> str | None:
        """With ``conceal``: one line on the first frame whose symbols read differently here, if one does."""
        return None if self._concealing is None else self._concealing.differs

    def seek(self, start: int, until: int | None = None) -> None:
        """Give the frames from a time on, and none from ``until`` on; ticks, ``until`` None: to the end.

        Of a file only the chunks are read that these pictures depend on, from the last I-frame before them; a
        pipe is read through.
        """
        self._frames.close()
        self._part = (start, until)
        if self._reader.seekable:
            index = self._reader.index()
            places = [n for n, entry in enumerate(index) if entry.intra and entry.time <= start]
            place = places[-1] if places else 0
            self._first_frame = index[place].frame if places else 0
            self._end_frame = next(
                (entry.frame for entry in index if until is not None and entry.time >= until), None
            )
            if places:
                # Sound that has begun stands before the chunk before.
                early = self._take is not None and bool(self.header.tracks) and place > 0
                self._wanted = place if early else None
                self._reader.seek_chunk(place - early)
        self._frames = self._decode()

    def _decode(self) -> Generator[DecodedFrame, None, None]:
        chunks, start, until = self._chunks(), None, None
        if self._part is not None:
            start, until = self._part
            chunks = chunks_of_part(chunks, start, until)
        if self._reader.conceal:
            concealing = ConcealingDecoder(
                self.model.networks,
                self.header,
                first_frame=self._first_frame,
                start=start,
                resync=self._reader.resync,
                frames_in_all=lambda: self._reader.frames if self._end_frame is None else self._end_frame,
            )
            self.concealed, self._concealing = concealing.concealed, concealing
            frames = concealing.decode(chunks)
        else:
            decoder = VideoDecoder(self.model.networks, self.header, start=start)
            frames = decoder.decode(chunks, live=not self._reader.seekable)
        for frame in frames:
            if until is not None and frame.time >= until:
                return
            yield frame

    def _chunks(self) -> Iterator[Chunk]:
        if self._end_frame is not None and self._end_frame <= self._first_frame:
            return
        while True:
            try:
                item = next(self._reader, None)
            except DamagedError:
                if self._wanted is None:
                    raise
                # Only sound was wanted of the chunk before the part.
                self._reader.seek_chunk(self._wanted)
                self._wanted = None
                continue
            if item is None:
                return
            if isinstance(item, TrackPacket):
                if self._take is not None:
                    self._take(item)
            elif item.first_frame >= self._first_frame:
                self._wanted = None
                yield item
                end = item.first_frame + len(item.packets) + len(item.lost_times)
                if self._end_frame is not None and end >= self._end_frame:
                    return

    def __iter__(self) -> Decoder:
        return self

    def __next__(self) -> DecodedFrame:
        return next(self._frames)
