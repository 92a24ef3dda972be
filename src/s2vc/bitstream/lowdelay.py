"""An open chunk: each packet leaves at once, an end mark closes it. docs/bitstream.md, "Low-delay chunk".

The first two bits behind the head, and behind each packet, say what comes: 00 a packet, regular in time and
of the quality before, its length in the next 14 bits; 01 a packet in the long form; 10 the end; 11 an item
(its sync mark).
"""

from __future__ import annotations

import zlib

from s2vc.bitstream import limits
from s2vc.bitstream.bits import BitReader, BitWriter
from s2vc.bitstream.chunk import FRAME_ORDER, Packet
from s2vc.bitstream.header import Header
from s2vc.bitstream.source import Source
from s2vc.bitstream.varint import Malformed, signed, unzigzag, varint

_LONG, _END, _ITEM = 0x40, 0x80, 0xC0
_QUALITY, _TIME = 1, 2
_SHORT_LENGTH = 1 << 14


class OpenChunk:
    """What both sides remember of an open chunk: its next frame, the last time and quality, the running
    CRC-32.
    """

    def __init__(self, header: Header, intra: bool, first_frame: int, time: int, quality: int) -> None:
        self.header = header
        self.intra = intra
        self.first_frame = first_frame
        self.first_time = self.time = time
        self.quality = quality
        self.last_step = 0
        self.count = 0
        self.crc = 0

    @classmethod
    def unpack(cls, head: bytes, header: Header) -> OpenChunk:
        bits = BitReader(head)
        intra = bool(bits.u(1))
        first_frame = bits.ue(FRAME_ORDER, limits.MAX_FRAMES - limits.CHUNK_FRAMES)
        time = header.regular_time(first_frame) + bits.se()
        quality = bits.u(6)
        bits.finish()
        if abs(time) > limits.MAX_TIME:
            raise Malformed("a time is out of range")
        return cls(header, intra, first_frame, time, quality)

    def pack_head(self) -> bytes:
        out = BitWriter()
        out.u(self.intra, 1)
        out.ue(self.first_frame, FRAME_ORDER)
        out.se(self.first_time - self.header.regular_time(self.first_frame))
        out.u(self.quality, 6)
        return out.getvalue()

    @property
    def next_time(self) -> int:
        """When the next packet comes if it is regular: at the header's rate, else after the step before."""
        if self.count == 0:
            return self.time
        usual = self.step(self.first_frame + self.count - 1)
        return self.time + (usual if self.header.frame_duration else self.last_step)

    def step(self, frame: int) -> int:
        """Regular duration of this frame, in ticks."""
        return self.header.regular_time(frame + 1) - self.header.regular_time(frame)

    def pack(self, packet: Packet, time: int, quality: int) -> bytes:
        """The packet's bytes; moves on to the next frame."""
        length = len(packet.payload)
        flags = (quality != self.quality) * _QUALITY | (time != self.next_time) * _TIME
        if flags == 0 and length < _SHORT_LENGTH:
            front = length.to_bytes(2, "big")
        else:
            front = bytes([_LONG | flags])
            front += bytes([quality]) if flags & _QUALITY else b""
            front += signed(time - self.next_time) if flags & _TIME else b""
            front += varint(length)
        data = front + packet.checksum.to_bytes(self.header.checksum_bytes, "big") + packet.payload
        self._advance(data, time, quality)
        return data

    def pack_end(self) -> bytes:
        return bytes([_END]) + self.crc.to_bytes(4, "big")

    def _advance(self, data: bytes, time: int, quality: int) -> None:
        self.crc = zlib.crc32(data, self.crc)
        self.last_step = time - self.time
        self.time, self.quality = time, quality
        self.count += 1

    def comes_item(self, source: Source) -> bool:
        return source.peek(1) >= bytes([_ITEM])

    def read(self, source: Source) -> Packet | None:
        """The next packet, its time and quality then being ``self.time`` and ``self.quality``; None at the
        end.
        """
        start = source.position
        first = source.take(1)[0]
        if first == _END:
            if self.count == 0:
                raise Malformed("a low-delay chunk is empty")
            if source.take(4) != self.crc.to_bytes(4, "big"):
                raise Malformed("the checksum of a low-delay chunk is wrong")
            return None
        if first >= _END or (first & _LONG and first & ~(_LONG | _QUALITY | _TIME)):
            raise Malformed("a low-delay packet has an unknown form")
        if self.count == limits.CHUNK_FRAMES:
            raise Malformed(f"a low-delay chunk has more than {limits.CHUNK_FRAMES} frames")
        quality, time = self.quality, self.next_time
        if first & _LONG:
            quality = source.take(1)[0] if first & _QUALITY else quality
            time += unzigzag(source.varint(4 * limits.MAX_TIME, "a time")) if first & _TIME else 0
            length = source.varint(self.header.max_packet, "the length of a packet")
        else:
            length = first << 8 | source.take(1)[0]
        if quality > limits.MAX_QUALITY:
            raise Malformed("a quality is out of range")
        if abs(time) > limits.MAX_TIME or (self.count and time <= self.time):
            raise Malformed("a time is out of order")
        if length > self.header.max_packet:
            raise Malformed(f"a packet of {length} bytes")
        checksum = source.take(self.header.checksum_bytes)
        payload = source.take(length)
        size = source.position - start
        source.back_to(start)
        self._advance(source.take(size), time, quality)
        return Packet(payload, int.from_bytes(checksum, "big"))
