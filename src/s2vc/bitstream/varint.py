"""Whole bytes: variable-length integers, strings and fractions, as the file's header holds them."""

from __future__ import annotations

import math
from fractions import Fraction

MAX_VARINT = (1 << 63) - 1
MAX_RATIO = (1 << 31) - 1  # of a numerator or denominator


class Malformed(Exception):
    """Bytes do not follow the format; ``str()`` says how. Surfaces as FormatError or DamagedError."""


def fitted(value: Fraction) -> Fraction:
    """The nearest fraction that the format has room for; 0 for one that is too large."""
    if value > MAX_RATIO:
        return Fraction(0)
    return value.limit_denominator(MAX_RATIO // max(1, math.ceil(value)))


def varint(value: int) -> bytes:
    """LEB128: seven bits a byte, lowest first, the high bit set on all but the last. 0 <= value < 2**63."""
    if not 0 <= value <= MAX_VARINT:
        raise ValueError(f"{value} does not fit a varint")
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> bytes:
    """A varint of the zigzag of ``value``: 0, -1, 1, -2, … become 0, 1, 2, 3, …"""
    return varint(zigzag(value))


def zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    return -(value + 1 >> 1) if value & 1 else value >> 1


def blob(data: bytes) -> bytes:
    """Length as a varint, then the bytes."""
    return varint(len(data)) + data


def string(text: str) -> bytes:
    return blob(text.encode("utf-8", "replace"))


def ratio(value: Fraction) -> bytes:
    return varint(value.numerator) + varint(value.denominator)


class ByteReader:
    """Reads the above from bytes in memory; every method raises Malformed at what it cannot take."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise Malformed("a field reaches past its end")
        self.position += count
        return self.data[self.position - count : self.position]

    def integer(self, size: int) -> int:
        """Big-endian, unsigned, of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big")

    def varint(self, limit: int = MAX_VARINT, what: str = "a number") -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift >= 63:
                raise Malformed(f"{what} is too long")
        if shift > 7 and byte == 0:
            raise Malformed(f"{what} is padded")
        if value > limit:
            raise Malformed(f"{what} is {value}, at most {limit} is allowed")
        return value

    def signed(self) -> int:
        return unzigzag(self.varint())

    def blob(self, limit: int, what: str) -> bytes:
        return self.take(self.varint(limit, f"the length of {what}"))

    def string(self, limit: int, what: str) -> str:
        try:
            return self.blob(limit, what).decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed(f"{what} is not UTF-8") from None

    def ratio(self, what: str) -> Fraction:
        numerator = self.varint(MAX_RATIO, what)
        denominator = self.varint(MAX_RATIO, what)
        if denominator == 0:
            raise Malformed(f"{what} has the denominator 0")
        return Fraction(numerator, denominator)
