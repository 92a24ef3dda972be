"""Frames' symbols <-> packets (docs/bitstream.md, docs/entropy.md)."""

from __future__ import annotations

import zlib

import numpy as np

from s2vc.bitstream import Packet
from s2vc.codec.protocol import MOTION, Integers, Part, Parts, PartSource, Symbols
from s2vc.entropy.coder import SymbolDecoder, SymbolEncoder


def checksum_bytes(exact: bool) -> int:
    """Bytes of a packet's symbol checksum; ``exact``: any machine reads the symbols that were written.

    Where the checksum alone tells that a machine departs, one in 65536 departures may pass, not one in 256.
    """
    return 1 if exact else 2


class SymbolSum:
    """CRC-32 over symbols as 16-bit little-endian numbers, part by part in coding order."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, symbols: Integers) -> None:
        self.value = zlib.crc32(np.ascontiguousarray(symbols, dtype="<i2").tobytes(), self.value)


def _first(parts: Parts) -> Part | None:
    return next(parts, None)


def _after(parts: Parts, symbols: Integers) -> Part | None:
    try:
        return parts.send(symbols)
    except StopIteration:
        return None


def write_packet(parts: Parts, source: PartSource, checksum_bytes: int = 1) -> Packet:
    """Code a frame: ``source`` gives each part's symbols once the part's tables are known."""
    encoder, checksum = SymbolEncoder(), SymbolSum()
    part = _first(parts)
    while part is not None:
        symbols = source(part)
        checksum.add(symbols)
        if part.name == MOTION:
            encoder.put_motion(symbols.astype(np.int16), part.previous)
        else:
            assert part.index is not None and part.tables is not None
            encoder.put(symbols, part.index, part.tables)
        part = _after(parts, symbols)
    return Packet(encoder.getvalue(), checksum.value & ((1 << 8 * checksum_bytes) - 1))


def read_packet(parts: Parts, packet: Packet, checksum_bytes: int = 1) -> Symbols | None:
    """A frame's symbols by part name, or None where they are not those that were written."""
    decoder, checksum = SymbolDecoder(packet.payload), SymbolSum()
    result: Symbols = {}
    part = _first(parts)
    while part is not None:
        symbols: Integers
        if part.name == MOTION:
            symbols = decoder.get_motion(*part.shape, part.previous)
        else:
            assert part.index is not None and part.tables is not None
            symbols = decoder.get(part.index, part.tables)
        checksum.add(symbols)
        result[part.name] = symbols
        part = _after(parts, symbols)
    decoder.close()
    if checksum.value & ((1 << 8 * checksum_bytes) - 1) != packet.checksum:
        return None
    return result
