"""Packets' integers to bytes and back, by constriction's range coder (docs/entropy.md, "Range coder").

Both classes take a packet's parts in coding order: every ``put`` has its ``get``, every ``put_motion`` its
``get_motion``. Within a part symbols are grouped by table, so that the coder is called once a table.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

from s2vc.entropy.motion import PROBABILITY_BITS, AdaptiveBits, code_field
from s2vc.entropy.tables import (
    ESCAPE_FREQUENCIES,
    FREQUENCY_BITS,
    IntArray,
    Tables,
    coder_model,
    join_escapes,
    split_escapes,
)
from s2vc.errors import DamagedError

_INT16 = np.iinfo(np.int16)


class SymbolEncoder:
    """Gathers one packet's integers; ``getvalue`` gives its bytes."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def put(
        self, symbols: npt.NDArray[np.integer[Any]], table_index: npt.NDArray[np.uint8], tables: Tables
    ) -> None:
        """Append symbols (16-bit values, any shape) coded by the tables of ``table_index`` (same shape).

        Raises ``ValueError`` where the two do not fit each other: another shape, a table that is not there, a
        skipped symbol that is not 0, a symbol of more than 16 bits.
        """
        symbols, table_index = np.asarray(symbols), np.asarray(table_index)
        if symbols.shape != table_index.shape:
            raise ValueError(f"symbols {symbols.shape} and table indices {table_index.shape} differ in shape")
        groups = _Groups(table_index, tables)
        values = symbols.reshape(-1).take(groups.order)
        if len(values) < symbols.size and np.count_nonzero(symbols) != np.count_nonzero(values):
            raise ValueError("a symbol that its table index skips is not 0")
        values = values.astype(np.int32, copy=False)
        places = values - groups.low
        # One comparison for both ends: seen as unsigned, a negative place is a large one.
        escaped = np.flatnonzero(places.view(np.uint32) >= groups.size.view(np.uint32))
        places[escaped] = groups.size[escaped]
        for model, start, stop in groups.runs:
            self._coder.encode(places[start:stop], model)
        if len(escaped):
            values = values[escaped]
            if values.min() < _INT16.min or values.max() > _INT16.max:
                raise ValueError("a symbol does not fit 16 bits")
            self._put_escapes(*split_escapes(values, groups.low[escaped], groups.size[escaped]))

    def _put_escapes(self, classes: IntArray, below: IntArray, offsets: IntArray) -> None:
        self._coder.encode(classes, _escape_model())
        # Each escape's sign, then its offset from the highest bit down, all of them in one call.
        lengths = classes + 1
        codes = np.repeat((below << classes) | offsets, lengths)
        self._coder.encode(((codes >> _bit_places(lengths)) & 1).astype(np.int32), _bit_model(2048))

    def put_motion(self, field: npt.NDArray[np.int16], previous: npt.NDArray[np.int16] | None = None) -> None:
        """Append a motion field, int16 [hb, wb, 2] in quarter pixels (x, y), each within -255..255.

        ``previous``: the previous frame's field, if the decoder will have it (``get_motion`` wants the same).
        """
        code_field(_BitWriter(self._coder), field.shape[:2], field, previous)

    def getvalue(self) -> bytes:
        """The packet's bytes; empty where nothing was coded. More may be put afterwards."""
        words = self._coder.get_compressed()
        if not len(words):
            return b""
        written, (low, width) = self._coder.pos()
        # constriction picks a number of the final interval that holds whatever words follow. Ours are
        # followed by zeros, so a shorter one will do: go back to the interval's low end and start there.
        # A carry or borrow ends in the last word that is neither all zeros nor all ones.
        stoppers = np.flatnonzero(words[:written] + np.uint32(1) > 1)
        first = int(stoppers[-1]) if len(stoppers) else 0
        digits = int.from_bytes(words[first : written + 1].astype(">u4").tobytes(), "big") << 32
        digits -= ((digits & (2**64 - 1)) - low) % 2**64
        tail = _roundest(digits, width, 4 * (written + 2 - first))
        return (words[:first].astype(">u4").tobytes() + tail).rstrip(b"\0")


class SymbolDecoder:
    """Reads one packet's integers in the order they were put.

    Damaged bytes give wrong symbols or ``DamagedError``; no other error, and no more work than sound ones.
    """

    def __init__(self, data: bytes) -> None:
        padded = data + bytes(-len(data) % 4)
        words = np.frombuffer(padded, dtype=">u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def get(self, table_index: npt.NDArray[np.uint8], tables: Tables) -> npt.NDArray[np.int32]:
        """The symbols that ``put`` got with these table indices; same shape, int32, within 16 bits."""
        table_index = np.asarray(table_index)
        groups = _Groups(table_index, tables)
        places = np.empty(len(groups.order), dtype=np.int32)
        for model, start, stop in groups.runs:
            places[start:stop] = _read(self._coder, model, stop - start)
        values = places + groups.low
        escaped = np.flatnonzero(places == groups.size)
        if len(escaped):
            values[escaped] = self._get_escapes(groups.low[escaped], groups.size[escaped])
        symbols = np.zeros(table_index.size, dtype=np.int32)
        symbols[groups.order] = values
        return symbols.reshape(table_index.shape)

    def _get_escapes(self, low: IntArray, size: IntArray) -> IntArray:
        classes = _read(self._coder, _escape_model(), len(low))
        lengths = classes + 1
        bits = _read(self._coder, _bit_model(2048), int(lengths.sum()))
        codes = np.add.reduceat(bits << _bit_places(lengths), np.cumsum(lengths) - lengths)
        below = codes >> classes
        values = join_escapes(classes, below, codes - (below << classes), low, size)
        if values.min() < _INT16.min or values.max() > _INT16.max:
            raise DamagedError("a symbol is out of range: the packet is damaged")
        return values

    def get_motion(
        self, height: int, width: int, previous: npt.NDArray[np.int16] | None = None
    ) -> npt.NDArray[np.int16]:
        """The motion field that ``put_motion`` got: int16 [height, width, 2], counted in blocks."""
        return code_field(_BitReader(self._coder), (height, width), None, previous)

    def close(self) -> None:
        """Declare the packet read. Bytes left over are not looked for: the symbols' checksum decides."""
        del self._coder


class _Groups:
    """Symbols that are coded, in coding order: by table, then by place in the array (C order)."""

    def __init__(self, table_index: npt.NDArray[np.uint8], tables: Tables) -> None:
        if table_index.dtype != np.uint8:
            raise ValueError(f"table indices must be uint8, not {table_index.dtype}")
        flat = table_index.reshape(-1)
        total = int(np.count_nonzero(flat))
        # Where most is skipped, leaving that out first is cheaper than sorting all.
        coded = np.flatnonzero(flat) if 2 * total < flat.size else None
        keys = flat if coded is None else flat.take(coded)
        order = np.argsort(keys, kind="stable")
        skipped = len(keys) - total
        indices = np.arange(len(tables), dtype=np.uint8)
        stops = np.searchsorted(keys, indices, side="right", sorter=order) - skipped
        order = order[skipped:]
        self.order = order if coded is None else coded.take(order)
        if stops[-1] != total:
            raise ValueError(f"table {flat.max()} of {len(tables)} does not exist")
        counts = np.diff(stops, prepend=0)
        low, size = tables.bounds(np.arange(len(tables)))
        self.low, self.size = np.repeat(low, counts), np.repeat(size, counts)
        self.runs = [
            (tables.model(index), stop - count, stop)
            for index, (count, stop) in enumerate(zip(counts.tolist(), stops.tolist(), strict=True))
            if count
        ]


class _BitWriter(AdaptiveBits):
    def __init__(self, coder: Any) -> None:
        super().__init__()
        self._encode = coder.encode

    def code(self, probability: int, wanted: int) -> int:
        self._encode(int(wanted), _bit_model(probability))
        return wanted


class _BitReader(AdaptiveBits):
    def __init__(self, coder: Any) -> None:
        super().__init__()
        self._decode = coder.decode

    def code(self, probability: int, wanted: int) -> int:
        try:
            return self._decode(_bit_model(probability))
        except AssertionError:
            raise DamagedError("the packet's bytes are not this codec's: the packet is damaged") from None


def _read(coder: Any, model: Any, count: int) -> npt.NDArray[np.int32]:
    try:
        return coder.decode(model, count)
    except AssertionError:  # what constriction raises where no encoder can have written such a word
        raise DamagedError("the packet's bytes are not this codec's: the packet is damaged") from None


@cache
def _bit_model(probability: int) -> Any:
    """Model of one bit that is 1 with ``probability`` / 4096."""
    one = probability << (FREQUENCY_BITS - PROBABILITY_BITS)
    return coder_model([(1 << FREQUENCY_BITS) - one, one])


@cache
def _escape_model() -> Any:
    return coder_model(ESCAPE_FREQUENCIES)


def _bit_places(lengths: IntArray) -> IntArray:
    """For codes of these lengths, one after another, the place of each bit in its code: 2, 1, 0, 1, 0, ..."""
    return np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(int(lengths.sum()))


def _roundest(low: int, width: int, size: int) -> bytes:
    """Of the numbers low..low + width - 1 the one with the most zero bits at its end, in ``size`` bytes."""
    if low == 0:
        return bytes(size)
    high = low + width - 1
    zeros = ((low - 1) ^ high).bit_length() - 1  # the most zero bits that a number in the range can end in
    return (high >> zeros << zeros).to_bytes(size, "big")
