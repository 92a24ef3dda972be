"""Bytes off a file or a pipe: exactly as many as asked for, with a way back to the last mark."""

from __future__ import annotations

import io
from typing import BinaryIO

from s2vc.bitstream.varint import Malformed

_PIECE = 1 << 20  # memory grows with the bytes that really arrive, not with what a length field claims


class Cut(Malformed):
    """The data ends inside something."""


class Source:
    """Reads ``fileobj`` from where it stands; ``position`` counts bytes from there.

    Never asks a pipe for more than is needed, so that a live stream is not held up. Bytes since the last
    ``mark()`` stay in memory and can be read again after ``back_to``.
    """

    def __init__(self, fileobj: BinaryIO) -> None:
        self._file = fileobj
        self._buffer = bytearray()
        self._base = 0  # position of the buffer's first byte
        self.position = 0
        self.at_end = False  # a read has met the end of the data
        try:
            self.seekable = fileobj.seekable()
        except AttributeError:
            self.seekable = False
        self._origin = fileobj.tell() if self.seekable else 0

    def mark(self, position: int | None = None) -> None:
        """Forget what lies before ``position``, by default where reading stands."""
        position = self.position if position is None else position
        del self._buffer[: position - self._base]
        self._base = position

    def back_to(self, position: int) -> None:
        if not self._base <= position <= self._base + len(self._buffer):
            raise ValueError("these bytes are forgotten")
        self.position = position

    def _fill(self, count: int) -> bool:
        """Have ``count`` bytes ready beyond ``position``; False at the end of the data."""
        missing = self.position - self._base + count - len(self._buffer)
        while missing > 0:
            data = self._file.read(min(missing, _PIECE))
            if not data:
                self.at_end = True
                return False
            self._buffer += data
            missing -= len(data)
        return True

    def peek(self, count: int) -> bytes:
        """Up to ``count`` bytes, fewer only at the end."""
        self._fill(count)
        start = self.position - self._base
        return bytes(self._buffer[start : start + count])

    def take_some(self, count: int) -> bytes:
        data = self.peek(count)
        self.position += len(data)
        return data

    def take(self, count: int) -> bytes:
        data = self.take_some(count)
        if len(data) < count:
            raise Cut("the file breaks off")
        return data

    def varint(self, limit: int, what: str) -> int:
        """As ByteReader.varint, byte by byte off the stream."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift >= 63:
                raise Malformed(f"{what} is too long")
        if shift and byte == 0:
            raise Malformed(f"{what} is padded")
        if value > limit:
            raise Malformed(f"{what} is {value}, at most {limit} is allowed")
        return value

    def find(self, pattern: bytes, end: int | None) -> bool:
        """Move on to the next ``pattern`` before ``end``; False, at the end, if there is none.

        With ``end`` None: before the end of the data, and what was passed over is forgotten.
        """
        read = getattr(self._file, "read1", self._file.read)
        while True:
            hit = self._buffer.find(pattern, self.position - self._base)
            if hit >= 0 and (end is None or self._base + hit < end):
                self.position = self._base + hit
                return True
            known = self._base + len(self._buffer)
            self.position = max(self.position, known - len(pattern) + 1)
            if end is not None and self.position >= end:
                self.position = end
                return False
            if end is None and self.position <= known:
                self.mark()
            data = read(4096)
            if not data:
                self.at_end = True
                self.position = known
                return False
            self._buffer += data

    def size(self) -> int:
        """Bytes of a seekable source in all."""
        here = self._file.tell()
        size = self._file.seek(0, io.SEEK_END) - self._origin
        self._file.seek(here)
        return size

    def seek(self, position: int) -> None:
        self._file.seek(self._origin + position)
        self._buffer.clear()
        self._base = self.position = position
        self.at_end = False
