"""Where the chunks of a searchable file are: off its index, else by going from head to head."""

from __future__ import annotations

from s2vc.bitstream import item
from s2vc.bitstream.chunk import unpack_chunk
from s2vc.bitstream.header import Header
from s2vc.bitstream.index import END_SIZE, IndexEntry, unpack_end, unpack_index
from s2vc.bitstream.lowdelay import OpenChunk
from s2vc.bitstream.source import Cut, Source
from s2vc.bitstream.track import unpack_group
from s2vc.bitstream.varint import Malformed


def find_places(source: Source, header: Header, begin: int) -> tuple[list[IndexEntry], int | None]:
    """(entries of the chunks that are all there, frames in the whole file if its end says so).

    ``begin``: where the header ends. Leaves ``source`` anywhere.
    """
    try:
        return _read_index(source, header, begin)
    except Malformed:
        return _Scan(source, header, begin).run()


def _read_index(source: Source, header: Header, begin: int) -> tuple[list[IndexEntry], int]:
    end = source.size() - END_SIZE
    if end < begin:
        raise Malformed("there is no end mark")
    source.seek(end)
    kind, head = item.read_head(source)
    if kind != item.END:
        raise Malformed("there is no end mark")
    frames, size = unpack_end(head)
    if not 0 < size <= end - begin:
        raise Malformed("there is no index")
    source.seek(end - size)
    kind, head = item.read_head(source)
    if kind != item.INDEX or source.position != end:
        raise Malformed("there is no index")
    entries = unpack_index(head, header, begin, end - size)
    if sum(entry.frames for entry in entries) != frames:
        raise Malformed("the index is of another file")
    return entries, frames


class _Scan:
    """Goes from head to head, over damage too, and reads no payloads but those of low-delay packets."""

    def __init__(self, source: Source, header: Header, begin: int) -> None:
        self.source = source
        self.header = header
        self.size = source.size()
        self.begin = begin
        self.entries: list[IndexEntry] = []
        self.frames: int | None = None
        self.next_frame = 0
        self.start = begin  # of what is being read: a scan over damage starts behind its first byte

    def run(self) -> tuple[list[IndexEntry], int | None]:
        self.source.seek(self.begin)
        offset = self.begin  # where the bytes that belong to the next chunk start
        while self.frames is None:
            known = len(self.entries)
            self.start = self.source.position
            self.source.mark()
            try:
                self._item(offset)
            except Malformed:
                self.source.seek(self.start + 1)
                if not item.find_item(self.source):
                    break
                offset = self.source.position
            if len(self.entries) > known:
                offset = self.source.position
        return self.entries, self.frames

    def _item(self, offset: int) -> None:
        kind, head = item.read_head(self.source)
        if kind == item.CHUNK:
            chunk = unpack_chunk(head, self.header)
            self._in_order(chunk.first_frame)
            self._skip(chunk.body_length + 4)
            self._enter(offset, chunk.first_frame, len(chunk.lengths), chunk.times[0], chunk.intra)
        elif kind == item.LOW_DELAY:
            self._low_delay(OpenChunk.unpack(head, self.header), offset)
        elif kind == item.END:
            self.frames, _ = unpack_end(head)
        else:
            self._pass_over(kind, head)

    def _pass_over(self, kind: bytes, head: bytes) -> None:
        if kind == item.TRACK:
            self._skip(unpack_group(head, len(self.header.tracks)).body_length + 4)
        elif item.is_foreign(kind):
            self._skip(item.foreign_length(head))

    def _low_delay(self, chunk: OpenChunk, offset: int) -> None:
        self._in_order(chunk.first_frame)
        while True:
            self.start = self.source.position
            self.source.mark()
            if chunk.comes_item(self.source):
                kind, head = item.read_head(self.source)
                if kind != item.TRACK and not item.is_foreign(kind):
                    raise Malformed("a low-delay chunk is not closed")
                self._pass_over(kind, head)
            elif chunk.read(self.source) is None:
                break
        self._enter(offset, chunk.first_frame, chunk.count, chunk.first_time, chunk.intra)

    def _in_order(self, frame: int) -> None:
        if frame < self.next_frame:
            raise Malformed("a chunk comes again")

    def _enter(self, offset: int, frame: int, frames: int, time: int, intra: bool) -> None:
        self.entries.append(IndexEntry(offset, self.source.position, frame, frames, time, intra))
        self.next_frame = frame + frames

    def _skip(self, count: int) -> None:
        if self.source.position + count > self.size:
            raise Cut("the file breaks off")
        self.source.seek(self.source.position + count)
