"""The index at the end of a file, and the end mark that finds it. docs/bitstream.md, "Index", "End"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s2vc.bitstream import limits
from s2vc.bitstream.bits import BitReader, BitWriter, best_order
from s2vc.bitstream.header import Header
from s2vc.bitstream.item import END, pack_item
from s2vc.bitstream.varint import Malformed

END_SIZE = len(pack_item(END, bytes(8)))
COUNT_ORDER = 8


@dataclass(frozen=True)
class IndexEntry:
    """A chunk's place. From ``offset`` on stand the tracks' packets that precede the chunk, then itself."""

    offset: int  # bytes from the start of the file: the end of the chunk before, or of the header
    end: int  # of the chunk
    frame: int  # number of the first frame
    frames: int
    time: int  # of the first frame, in ticks
    intra: bool


def pack_index(entries: Sequence[IndexEntry], header: Header, offset: int) -> bytes:
    """The head of the index item (it has no body), which stands at ``offset``.

    There is one entry at least, and they follow one another without a gap; behind the last may stand packets
    of other tracks.
    """
    sizes = [entry.end - entry.offset for entry in entries]
    order = best_order(sizes)
    out = BitWriter()
    out.ue(len(entries) - 1, COUNT_ORDER)
    out.u(order, 4)
    shift = 0
    for entry, size in zip(entries, sizes, strict=True):
        out.u(entry.intra, 1)
        full = entry.frames == limits.CHUNK_FRAMES
        out.u(full, 1)
        if not full:
            out.u(entry.frames, 5)
        own = entry.time - header.regular_time(entry.frame)
        out.se(own - shift)
        out.ue(size, order)
        shift = own
    out.ue(offset - entries[-1].end, order)
    return out.getvalue()


def unpack_index(head: bytes, header: Header, offset: int, end: int) -> list[IndexEntry]:
    """``offset``: where the header ends and the first chunk's bytes start. ``end``: where the index does."""
    bits = BitReader(head)
    count = bits.ue(COUNT_ORDER, 2 * len(head)) + 1  # an entry takes four bits at least
    order = bits.u(4)
    entries: list[IndexEntry] = []
    frame = shift = 0
    for _ in range(count):
        intra = bool(bits.u(1))
        frames = limits.CHUNK_FRAMES if bits.u(1) else bits.u(5)
        shift += bits.se()
        size = bits.ue(order)
        if size < limits.MIN_CHUNK or offset + size > end:
            raise Malformed("the index points behind itself")
        if frames == 0 or frame + frames > limits.MAX_FRAMES or abs(shift) > limits.MAX_TIME:
            raise Malformed("an entry of the index is out of range")
        time = header.regular_time(frame) + shift
        entries.append(IndexEntry(offset, offset + size, frame, frames, time, intra))
        frame += frames
        offset += size
    if offset + bits.ue(order) != end:
        raise Malformed("the index is of another file")
    bits.finish()
    return entries


def pack_end(frames: int, index_size: int) -> bytes:
    """The last 16 bytes of a file: the number of frames, and of bytes of the index item right before (0:
    none).
    """
    return pack_item(END, frames.to_bytes(4, "big") + index_size.to_bytes(4, "big"))


def unpack_end(head: bytes) -> tuple[int, int]:
    if len(head) != 8:
        raise Malformed("the end mark has the wrong size")
    return int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
