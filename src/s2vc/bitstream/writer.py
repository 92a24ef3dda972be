"""Writes a file from front to back, never going back in it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import BinaryIO

from s2vc.bitstream import limits
from s2vc.bitstream.chunk import Chunk, Packet, check_chunk, pack_chunk
from s2vc.bitstream.header import Header, pack_header
from s2vc.bitstream.index import IndexEntry, pack_end, pack_index
from s2vc.bitstream.item import CHUNK, INDEX, LOW_DELAY, TRACK, pack_item
from s2vc.bitstream.lowdelay import OpenChunk
from s2vc.bitstream.track import TrackPacket, body_of, check_track_packet, pack_group

_GROUP_BYTES = 1 << 20  # of other tracks' packets that wait for company
_WORTH_AN_INDEX = 16  # chunks; reading so many heads is as quick as reading an index


class StreamWriter:
    """Header at once, then chunks and the other tracks' packets as they come; ``close`` makes the file whole.

    ``fileobj`` needs ``write``; where it has ``flush``, that is called behind each chunk or packet. Frames
    are numbered as they come.
    Errors: FormatError (header), ValueError (a wrong call), OSError (from ``fileobj``). As a context manager
    it closes, but not after an exception: a file without its end mark is known to be cut. ``fileobj`` stays
    open.

    ``after``: chunks that ``fileobj`` holds already, as ``StreamReader.index`` gives them; it stands behind
    the last of them, and writing goes on there with no header. So an encoder that was stopped can resume.

    Other tracks' packets wait for the next chunk (with ``low_delay`` for the next packet) and stand before
    it: give those of a chunk's time before the chunk.
    """

    def __init__(
        self,
        fileobj: BinaryIO,
        header: Header,
        *,
        low_delay: bool = False,
        after: Sequence[IndexEntry] = (),
    ) -> None:
        self.header = header
        self.low_delay = low_delay
        self.frames = 0
        self.bytes_written = 0
        self.track_bytes = 0  # of them, in groups of other tracks' packets
        self._file = fileobj
        self._open: OpenChunk | None = None
        self._waiting: dict[int, list[TrackPacket]] = {}
        self._waiting_bytes = 0
        self._entries = list(after)
        self._last_time: int | None = None
        self._closed = False
        if after:
            self.frames = after[-1].frame + after[-1].frames
            self.bytes_written = after[-1].end
            self._last_time = after[-1].time
        else:
            self._write(pack_header(header))
        self._chunk_offset = self.bytes_written

    def write_chunk(self, chunk: Chunk) -> None:
        """A whole chunk of 1 to 32 frames. The first of a file starts with an I-frame."""
        check_chunk(chunk, self.header)
        self._check_order(chunk.intra, chunk.times[0])
        self._close_chunk()
        self._write_waiting()
        head, body = pack_chunk(chunk, self.frames, self.header)
        self._write(pack_item(CHUNK, head, body))
        self._enter(self.frames, len(chunk.packets), chunk.times[0], chunk.intra)
        self._flush()
        self.frames += len(chunk.packets)
        self._last_time = chunk.times[-1]

    def write_packet(
        self, packet: Packet, time: int, quality: int, *, opens: bool = False, intra: bool = False
    ) -> None:
        """One frame at once. ``opens``: it opens a chunk (the entropy model's memory starts anew): every
        I-frame does, and at the latest the 33rd frame. Its duration is taken from the next frame's time."""
        check_chunk(Chunk(intra, [time], [quality], [packet]), self.header)
        self._check_order(intra, time)
        if not opens and (intra or self._open is None or self._open.count == limits.CHUNK_FRAMES):
            raise ValueError("this packet must open a chunk: an I-frame, the first or the 33rd frame of one")
        if opens:
            self._close_chunk()
        self._write_waiting()
        if self._open is None:
            self._open = OpenChunk(self.header, intra, self.frames, time, quality)
            self._write(pack_item(LOW_DELAY, self._open.pack_head()))
        self._write(self._open.pack(packet, time, quality))
        self._flush()
        self.frames += 1
        self._last_time = time

    def write_track_packet(self, packet: TrackPacket) -> None:
        """A packet of another track."""
        self._check_open()
        check_track_packet(packet, len(self.header.tracks))
        group = self._waiting.setdefault(packet.track, [])
        group.append(packet)
        self._waiting_bytes += len(body_of(packet))
        if len(group) == limits.TRACK_GROUP or self._waiting_bytes >= _GROUP_BYTES:
            self._write_waiting()

    def close(self, index: bool | None = None) -> None:
        """End mark, before it an index: True, False, or None for when the file is long enough to need one."""
        if self._closed:
            return
        self._close_chunk()
        self._write_waiting()
        size = 0
        if self._entries and (index or (index is None and len(self._entries) > _WORTH_AN_INDEX)):
            head = pack_index(self._entries, self.header, self.bytes_written)
            if len(head) <= limits.MAX_INDEX:
                size = self._write(pack_item(INDEX, head))
        self._write(pack_end(self.frames, size))
        self._flush()
        self._closed = True

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the stream is closed")

    def _check_order(self, intra: bool, time: int) -> None:
        self._check_open()
        if self.frames == 0 and not intra:
            raise ValueError("the first chunk must start with an I-frame")
        if self._last_time is not None and time <= self._last_time:
            raise ValueError(f"time {time} of frame {self.frames} does not come after {self._last_time}")
        if self.frames > limits.MAX_FRAMES - limits.CHUNK_FRAMES:
            raise ValueError("too many frames for one file")

    def _close_chunk(self) -> None:
        if self._open is not None:
            self._write(self._open.pack_end())
            self._enter(self._open.first_frame, self._open.count, self._open.first_time, self._open.intra)
            self._open = None

    def _enter(self, frame: int, frames: int, time: int, intra: bool) -> None:
        self._entries.append(IndexEntry(self._chunk_offset, self.bytes_written, frame, frames, time, intra))
        self._chunk_offset = self.bytes_written

    def _write_waiting(self) -> None:
        for _, packets in sorted(self._waiting.items()):
            head, body = pack_group(packets)
            self.track_bytes += self._write(pack_item(TRACK, head, body))
        self._waiting.clear()
        self._waiting_bytes = 0

    def _write(self, data: bytes) -> int:
        left = memoryview(data)
        while left:  # an unbuffered file may take less than it is given
            taken = self._file.write(left)
            left = left[len(left) if taken is None else taken :]
        self.bytes_written += len(data)
        return len(data)

    def _flush(self) -> None:
        """A live reader waits for what is coded, not for a buffer to fill."""
        if hasattr(self._file, "flush"):
            self._file.flush()
