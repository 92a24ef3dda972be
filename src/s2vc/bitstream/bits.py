"""Bits, highest first: plain fields, Exp-Golomb codes, and runs of equal durations."""

from __future__ import annotations

from collections.abc import Sequence

from s2vc.bitstream.varint import Malformed, unzigzag, zigzag

MAX_ZEROS = 62  # of an Exp-Golomb prefix, so that every value fits 64 bits
MAX_ORDER = 15
_WINDOW = 24  # bytes that hold the longest code, 2·62+1+16 bits, at any bit offset


class BitWriter:
    """``u``: plain; ``ue``: Exp-Golomb of order k; ``se``: the same of the zigzag.

    Zero bits fill the last byte.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._value = 0
        self._count = 0

    def u(self, value: int, count: int) -> None:
        if value < 0 or value >> count:
            raise ValueError(f"{value} does not fit {count} bits")
        self._value = self._value << count | value
        self._count += count
        whole, self._count = divmod(self._count, 8)
        if whole:
            self._bytes += (self._value >> self._count).to_bytes(whole, "big")
            self._value &= (1 << self._count) - 1

    def ue(self, value: int, order: int = 0) -> None:
        coded = value + (1 << order)
        zeros = coded.bit_length() - order - 1
        if value < 0 or zeros > MAX_ZEROS:
            raise ValueError(f"{value} does not fit an Exp-Golomb code")
        self.u(coded, 2 * zeros + order + 1)

    def se(self, value: int, order: int = 0) -> None:
        self.ue(zigzag(value), order)

    def getvalue(self) -> bytes:
        last = bytes([self._value << 8 - self._count]) if self._count else b""
        return bytes(self._bytes) + last


class BitReader:
    """Reads what BitWriter wrote; raises Malformed past the end, at an overlong code, at a wrong ending."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def u(self, count: int) -> int:
        end = self._position + count
        if end > 8 * len(self._data):
            raise Malformed("a field reaches past its end")
        chunk = int.from_bytes(self._data[self._position >> 3 : end + 7 >> 3], "big")
        self._position = end
        return chunk >> (-end & 7) & (1 << count) - 1

    def ue(self, order: int = 0, limit: int | None = None) -> int:
        start = self._position >> 3
        window = self._data[start : start + _WINDOW]
        bits = 8 * len(window) - (self._position & 7)
        ahead = int.from_bytes(window, "big") & (1 << max(bits, 0)) - 1
        zeros = bits - ahead.bit_length()
        if ahead == 0 or zeros > MAX_ZEROS:
            raise Malformed("a number is too long")
        self._position += zeros
        value = self.u(zeros + 1 + order) - (1 << order)
        if limit is not None and value > limit:
            raise Malformed(f"a number is {value}, at most {limit} is allowed")
        return value

    def se(self, order: int = 0) -> int:
        return unzigzag(self.ue(order))

    def finish(self) -> None:
        """Less than a byte is left, and it is zero: one head has one form."""
        left = 8 * len(self._data) - self._position
        if left >= 8 or (left and self.u(left)):
            raise Malformed("bits are left over")


def put_runs(out: BitWriter, values: Sequence[int], before: int, order: int) -> None:
    """Values as runs: the change against the last run's value, then how many further values are the same."""
    start = 0
    while start < len(values):
        end = start + 1
        while end < len(values) and values[end] == values[start]:
            end += 1
        out.se(values[start] - before, order)
        out.ue(end - start - 1)
        before, start = values[start], end


def get_runs(bits: BitReader, count: int, before: int, order: int) -> list[int]:
    values: list[int] = []
    while len(values) < count:
        before += bits.se(order)
        values += [before] * (1 + bits.ue(0, count - len(values) - 1))
    return values


def best_order(values: Sequence[int]) -> int:
    """The order whose codes of these values are shortest together."""
    return min(
        range(MAX_ORDER + 1),
        key=lambda k: sum(2 * ((value >> k) + 1).bit_length() - 1 + k for value in values),
    )


def put_lengths(out: BitWriter, lengths: Sequence[int]) -> None:
    """Four bits of order, then each length."""
    order = best_order(lengths)
    out.u(order, 4)
    for length in lengths:
        out.ue(length, order)


def get_lengths(bits: BitReader, count: int, each: int, together: int) -> list[int]:
    order = bits.u(4)
    lengths = [bits.ue(order, each) for _ in range(count)]
    if sum(lengths) > together:
        raise Malformed(f"{sum(lengths)} bytes in one piece, at most {together} are allowed")
    return lengths
