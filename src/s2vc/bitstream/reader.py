"""Reads a file or a pipe: header, then items in file order; finds places in files that can be searched."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from s2vc.bitstream import item
from s2vc.bitstream.chunk import Chunk, chunk_from, unpack_chunk
from s2vc.bitstream.header import read_header
from s2vc.bitstream.index import IndexEntry, unpack_end
from s2vc.bitstream.lowdelay import OpenChunk
from s2vc.bitstream.places import find_places
from s2vc.bitstream.source import Source
from s2vc.bitstream.track import TrackPacket, packets_from, unpack_group
from s2vc.bitstream.varint import Malformed
from s2vc.errors import DamagedError


@dataclass(frozen=True)
class Damage:
    """Where a reader that conceals went over something: byte, the next frame there, and what was wrong."""

    offset: int
    frame: int
    message: str


class StreamReader:
    """Header at once (FormatError if it is unusable), then an iterator of Chunk and TrackPacket.

    Damage, or the file's breaking off: what came before is given first, of a damaged chunk what is there
    (``Chunk.damaged``), then DamagedError names the frame. With ``conceal`` nothing is raised: reading goes
    on at the next item that can be found, ``damages`` tells what happened, and a chunk's ``first_frame`` how
    many frames are missing before it.

    Damage in packets of another track costs no frame and raises nothing: ``track_damages`` tells where. They
    are given flagged CORRUPT, unless bytes are missing.

    A low-delay packet comes at once, as a Chunk of one frame; only the first of its chunk ``opens``.
    """

    def __init__(self, fileobj: BinaryIO, *, conceal: bool = False) -> None:
        self._source = Source(fileobj)
        self.header = read_header(self._source.take_some)
        self.conceal = conceal
        self.damages: list[Damage] = []
        self.track_damages: list[Damage] = []
        self.track_bytes = 0  # of the groups of other tracks' packets
        self.frames: int | None = None  # in the whole file, known once its end was read
        self._begin = self._source.position
        self._entries: list[IndexEntry] | None = None
        self._open: OpenChunk | None = None
        self._pending: deque[Chunk | TrackPacket] = deque()
        self._failure: DamagedError | None = None
        self._start(0)

    @property
    def seekable(self) -> bool:
        return self._source.seekable

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._source.position

    def __iter__(self) -> Iterator[Chunk | TrackPacket]:
        return self

    def __next__(self) -> Chunk | TrackPacket:
        while not self._pending:
            if self._failure is not None:
                failure, self._failure, self._done = self._failure, None, True
                raise failure
            if self._done:
                raise StopIteration
            start = self._source.position
            try:
                self._read()
            except Malformed as problem:
                self._damage(str(problem), start)
                if self.conceal:
                    self._go_on()
        return self._pending.popleft()

    def resync(self) -> None:
        """For whoever saw a symbol checksum fail: go on at the next item that can be found.

        Matters in a low-delay chunk, where that packet's length may have been wrong too: the scan starts
        right behind the first byte of the packet given last. Elsewhere reading is in step anyway, and nothing
        is done.
        """
        if self._open is not None:
            self._go_on()

    def index(self) -> list[IndexEntry]:
        """Every chunk's place, off the index or, where there is none, off all the chunks' heads.

        Of a damaged or cut file: chunks that can be found and do not stop short. Iteration goes on where it
        was. A pipe raises io.UnsupportedOperation.
        """
        if not self.seekable:
            raise io.UnsupportedOperation("a pipe cannot be searched: give a file")
        if self._entries is None:
            here = self._source.position
            self._entries, frames = find_places(self._source, self.header, self._begin)
            self.frames = frames if self.frames is None else self.frames
            self._source.seek(here)
            self._suspect = here
        return self._entries

    def seek_chunk(self, number: int) -> None:
        """Go on reading at this entry of ``index()``."""
        entry = self.index()[number]
        self._source.seek(entry.offset)
        self._start(entry.frame)

    def _start(self, frame: int) -> None:
        self._next_frame = frame
        self._open = None
        self._pending.clear()
        self._failure = None
        self._done = False
        self._suspect = self._source.position  # where a scan starts if what is read next turns out wrong

    def _damage(self, problem: str, offset: int) -> None:
        frame = self._next_frame
        if self.conceal:
            self.damages.append(Damage(offset, frame, problem))
        else:
            message = f"{problem} at frame {frame} (byte {offset}): what comes before it can be used"
            self._failure = DamagedError(message)

    def _go_on(self) -> None:
        self._source.back_to(self._suspect)
        self._source.position += 1
        self._open = None
        self._done = not item.find_item(self._source)

    def _in_step(self, position: int) -> None:
        """What starts here is what it says; memory of what lies before can go."""
        self._source.mark(position)
        self._suspect = position

    def _read(self) -> None:
        """One item, or one packet of an open chunk, into ``_pending``."""
        if self._open is not None and not self._open.comes_item(self._source):
            self._read_packet(self._open)
            return
        start = self._source.position
        if self._open is None:
            self._in_step(start)
        kind, head = item.read_head(self._source)
        self._in_step(start)
        if item.is_foreign(kind):
            self._source.take(item.foreign_length(head))
        elif kind == item.TRACK:
            self._read_group(head)
            self.track_bytes += self._source.position - start
        elif self._open is not None:
            raise Malformed("a low-delay chunk is not closed")
        elif kind == item.CHUNK:
            self._read_chunk(head)
        elif kind == item.LOW_DELAY:
            chunk = OpenChunk.unpack(head, self.header)
            if self._comes_in_order(chunk.first_frame, chunk.intra):
                self._open = chunk
        elif kind == item.END:
            self._read_end(head)

    def _comes_in_order(self, first_frame: int, intra: bool) -> bool:
        """Whether a chunk is to be used; one from behind is not."""
        missing = first_frame - self._next_frame
        if missing < 0:
            raise Malformed(f"a chunk starts again at frame {first_frame}")
        if missing or (first_frame == 0 and not intra):
            what = f"{missing} frames are missing" if missing else "there is no I-frame"
            self._damage(what, self._source.position)
            if not self.conceal:
                return False
        self._next_frame = first_frame
        return True

    def _read_packet(self, chunk: OpenChunk) -> None:
        start = self._source.position
        packet = chunk.read(self._source)
        if packet is None:
            self._open = None
            return
        self._in_step(start)
        self._pending.append(
            Chunk(
                intra=chunk.intra and chunk.count == 1,
                times=[chunk.time],
                qualities=[chunk.quality],
                packets=[packet],
                last_duration=chunk.step(self._next_frame),
                first_frame=self._next_frame,
                opens=chunk.count == 1,
            )
        )
        self._next_frame += 1

    def _read_chunk(self, head_bytes: bytes) -> None:
        head = unpack_chunk(head_bytes, self.header)
        if not self._comes_in_order(head.first_frame, head.intra):
            return
        place = self._source.position
        body, problem = item.read_body(self._source, head.body_length)
        chunk = chunk_from(head, body, whole=problem is None)
        if chunk.packets or self.conceal:
            self._pending.append(chunk)
        if problem:
            complete = len(chunk.packets) == len(head.lengths)
            if complete and not self._source.at_end:
                problem += f" (frames {head.first_frame} to {head.first_frame + len(head.lengths) - 1})"
            else:
                self._next_frame += len(chunk.packets)
            self._damage(problem, place)
        self._next_frame = head.first_frame + len(head.lengths)

    def _read_group(self, head_bytes: bytes) -> None:
        head = unpack_group(head_bytes, len(self.header.tracks))
        place = self._source.position
        body, problem = item.read_body(self._source, head.body_length)
        if problem is not None and self._source.at_end:
            self._pending.extend(packets_from(head, body))  # the front is as it was written
            self._damage(f"{problem} in track {head.track}", place)
        elif problem is not None:
            self.track_damages.append(Damage(place, self._next_frame, f"{problem} in track {head.track}"))
            if len(body) == head.body_length:
                self._pending.extend(packets_from(head, body, damaged=True))
        else:
            self._pending.extend(packets_from(head, body))

    def _read_end(self, head: bytes) -> None:
        self.frames, _ = unpack_end(head)
        self._done = True
        if self.frames != self._next_frame:
            self._damage(
                f"the file should have {self.frames} frames: some are missing", self._source.position
            )
