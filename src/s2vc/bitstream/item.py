"""What follows the header: items, each with a sync mark, a checked head and, mostly, a checked body.

sync F5 53 | kind | length of head (varint) | head | CRC-32 of kind..head | body | CRC-32 of body
"""

from __future__ import annotations

import zlib

from s2vc.bitstream import limits
from s2vc.bitstream.source import Source
from s2vc.bitstream.varint import Malformed, varint

SYNC = b"\xf5S"
CHUNK, LOW_DELAY, TRACK, INDEX, END = b"C", b"L", b"T", b"X", b"E"


def crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


def pack_item(kind: bytes, head: bytes, body: bytes | None = None) -> bytes:
    front = kind + varint(len(head)) + head
    item = SYNC + front + crc(front)
    return item if body is None else item + body + crc(body)


def is_foreign(kind: bytes) -> bool:
    """Small letters are kinds that later writers may add: a reader skips them."""
    return b"a" <= kind <= b"z"


def read_head(source: Source) -> tuple[bytes, bytes]:
    """(kind, head) of the item that starts here; Malformed, or Cut, where there is none."""
    if source.take(len(SYNC)) != SYNC:
        raise Malformed("there is no item where one should start")
    kind = source.take(1)
    limit = limits.MAX_FOREIGN_HEAD if is_foreign(kind) else limits.MAX_HEADS.get(kind)
    if limit is None:
        raise Malformed(f"an item is of the unknown kind {kind!r}")
    length = source.varint(limit, "the length of a head")
    head = source.take(length)
    if source.take(4) != crc(kind + varint(length) + head):
        raise Malformed("the checksum of a head is wrong")
    return kind, head


def read_body(source: Source, length: int) -> tuple[bytes, str | None]:
    """(body as far as it is there, what is wrong with it or None).

    Where bytes are missing in the middle of a file, the next item starts before the body should end; then the
    body reaches up to it, and reading goes on there.
    """
    place = source.position
    body = source.take_some(length)
    checksum = source.take_some(4)
    if len(checksum) == 4 and checksum == crc(body):
        return body, None
    end = source.position
    source.back_to(place)
    if find_item(source, end):
        return body[: source.position - place], "bytes are missing"
    source.position = end
    return body, "the file breaks off" if len(checksum) < 4 else "a checksum is wrong"


def foreign_length(head: bytes) -> int:
    """Bytes behind the head of an item of foreign kind, its body's checksum included."""
    if len(head) < 4:
        raise Malformed("an item of a later version has no length")
    length = int.from_bytes(head[:4], "big")
    if length > limits.MAX_FOREIGN:
        raise Malformed(f"an item claims {length} bytes")
    return length + 4


def find_item(source: Source, end: int | None = None) -> bool:
    """Go to the next item, before ``end`` if given, whose head stands its checksum; False if there is none.

    An index is passed over: its head may be long, and whoever scans has no use for it.
    """
    while source.find(SYNC, end):
        start = source.position
        if source.peek(3)[2:] != INDEX:
            try:
                read_head(source)
                return True
            except Malformed:
                pass
            finally:
                source.back_to(start)
        source.position = start + 1
        if end is None:
            source.mark()
    return False
