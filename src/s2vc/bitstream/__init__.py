"""Bytes <-> packets: the .s2vc file, as docs/bitstream.md specifies it. Imports neither torch nor numpy."""

from s2vc.bitstream.chunk import Chunk, Packet
from s2vc.bitstream.header import Chapter, Colour, Header, Track, TrackKind
from s2vc.bitstream.index import IndexEntry
from s2vc.bitstream.limits import CHUNK_FRAMES, FORMAT_VERSION
from s2vc.bitstream.reader import Damage, StreamReader
from s2vc.bitstream.track import CORRUPT, DISCARD, KEY, TrackPacket
from s2vc.bitstream.varint import fitted
from s2vc.bitstream.writer import StreamWriter

__all__ = [
    "CHUNK_FRAMES",
    "CORRUPT",
    "DISCARD",
    "FORMAT_VERSION",
    "KEY",
    "Chapter",
    "Chunk",
    "Colour",
    "Damage",
    "Header",
    "IndexEntry",
    "Packet",
    "StreamReader",
    "StreamWriter",
    "Track",
    "TrackKind",
    "TrackPacket",
    "fitted",
]
