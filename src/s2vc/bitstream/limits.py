"""Every bound of the format in one place: checked before memory is taken (docs/bitstream.md, "Limits")."""

from __future__ import annotations

FORMAT_VERSION = 1

MIN_SIDE, MAX_SIDE = 16, 16384
MAX_PIXELS = 1 << 26
MAX_QUALITY = 63
MAX_RESET_PERIOD = 65535
MAX_FRAMES = (1 << 32) - 1
MAX_TIME = 1 << 60  # of any |pts|, |dts|, duration

MAX_HEADER = 4 << 20
MAX_NAME = 255  # bytes of an id, codec name, key
MAX_TEXT = 65535  # bytes of a metadata value, of the profile
MAX_EXTRADATA = 1 << 20
MAX_TRACKS = 64
MAX_METADATA = 1024  # entries of one dictionary
MAX_CHAPTERS = 4096

CHUNK_FRAMES = 32
MAX_PACKET = 64 << 20
MAX_CHUNK = 256 << 20  # bytes of a chunk's packets together
TRACK_GROUP = 128
MAX_TRACK_PACKET = 16 << 20
MAX_TRACK_GROUP = 32 << 20
MAX_INDEX = 4 << 20
MIN_CHUNK = 16  # bytes that the smallest chunk takes, so that an index is no longer than the file allows
MAX_FOREIGN = 64 << 20  # body of an item that a later version may add

MAX_HEADS = {b"C": 1024, b"L": 64, b"T": 8192, b"X": MAX_INDEX, b"E": 8}
MAX_FOREIGN_HEAD = 8192


def max_packet(width: int, height: int) -> int:
    """Bytes that a packet of a picture of this size may have: far above what any coder would spend."""
    return min(MAX_PACKET, 65536 + 8 * width * height)
