"""Does a container announce more bytes than the file holds?

FFmpeg ends quietly where a Matroska or a fragmented MP4 file breaks off; the outer boxes tell.
"""

from __future__ import annotations

import os
from typing import BinaryIO


def missing_bytes(path: str) -> int:
    """How many bytes are missing at the end of an MP4, Matroska or AVI file; 0 if none, or unknown."""
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        head = file.read(12)
        file.seek(0)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp"):
            end = _boxes_end(file, size)
        elif head[:4] == b"\x1a\x45\xdf\xa3":
            end = _segment_end(file)
        elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            end = _riff_end(file, size)
        else:
            return 0
    return max(0, end - size)


def _boxes_end(file: BinaryIO, size: int) -> int:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # the last box reaches to the end of the file
            return size
        if length < 8:  # not a box: trailing bytes of something else
            return size
        position += length
    return position


def _riff_end(file: BinaryIO, size: int) -> int:
    position = end = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(8)
        if head[:4] != b"RIFF":
            return size
        length = int.from_bytes(head[4:], "little")
        if length == 0 or length >= 0xFFFFFF00:  # a writer that never came back to fill it in
            return size
        end = position + 8 + length
        position = end + length % 2
    return end


def _number(file: BinaryIO, keep_marker: bool) -> tuple[int, bool]:
    # An EBML number: its length is in the leading zeros; all ones means unknown.
    first = file.read(1)
    if not first or first[0] == 0:
        return 0, True
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big")
    if keep_marker:
        return value, False
    value &= (1 << 7 * length) - 1
    return value, value == (1 << 7 * length) - 1


def _segment_end(file: BinaryIO) -> int:
    file.read(4)
    length, unknown = _number(file, False)
    if unknown or length > 1 << 16:
        return 0
    file.seek(length, os.SEEK_CUR)
    identifier, _ = _number(file, True)
    if identifier != 0x18538067:
        return 0
    length, unknown = _number(file, False)
    return 0 if unknown else file.tell() + length
