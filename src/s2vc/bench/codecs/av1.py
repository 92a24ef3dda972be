"""Bytes of an AV1 file that are charged: all but what a container would not carry."""

from __future__ import annotations

from pathlib import Path

from s2vc.errors import S2vcError

CHARGE = "open bitstream units without temporal delimiters, metadata and padding"
_FREE = {2, 5, 15}  # OBU_TEMPORAL_DELIMITER, OBU_METADATA, OBU_PADDING (AV1 specification, 6.2.2)


def charged_bytes(coded: Path) -> int:
    """Size of a file of low-overhead OBUs (``ffmpeg -f obu``) without the units of CHARGE.

    Two bytes of delimiter a picture are six percent of a small clip's file. Raises S2vcError where the file
    is not made of units with sizes.
    """
    data = coded.read_bytes()
    total = position = 0
    while position < len(data):
        began = position
        header = data[position]
        if header & 0x80 or not header & 0x02:  # forbidden bit; no size field
            raise S2vcError(f"{coded.name} is not a file of AV1 units: another ffmpeg may write one")
        position += 2 if header & 0x04 else 1  # with an extension byte
        size = shift = 0
        while position < len(data):
            byte = data[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        position += size
        if (header >> 3) & 0x0F not in _FREE:
            total += position - began
    if position != len(data):
        raise S2vcError(f"{coded.name} ends in the middle of an AV1 unit")
    return total
