"""Packets of symbols: round trips, size, and what damaged bytes may do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.entropy.coder import SymbolDecoder, SymbolEncoder
from s2vc.entropy.motion import motion_bits
from s2vc.entropy.tables import Tables, default_scales
from s2vc.errors import DamagedError

TABLES = Tables.gaussian(default_scales())
SCALES = np.concatenate([[0.0], default_scales()])


def draw(random: np.random.Generator, shape: tuple[int, ...], highest: int, skipped: float) -> tuple:
    """Symbols and table indices as a model that is right about its scales has them."""
    index = random.integers(1, highest + 1, shape).astype(np.uint8)
    index[random.random(shape) < skipped] = 0
    symbols = np.round(random.normal(size=shape) * SCALES[index]).astype(np.int32)
    return symbols, index


def encode(*parts: tuple[np.ndarray, np.ndarray]) -> bytes:
    encoder = SymbolEncoder()
    for symbols, index in parts:
        encoder.put(symbols, index, TABLES)
    return encoder.getvalue()


@st.composite
def symbol_parts(draw_: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw_(st.tuples(*[st.integers(0, 5)] * 3))
    size = int(np.prod(shape))
    index = draw_(st.lists(st.sampled_from([0, 0, 1, 2, 17, 40, 63]), min_size=size, max_size=size))
    values = st.one_of(st.integers(-3, 3), st.integers(-200, 200), st.integers(-32768, 32767))
    symbols = draw_(st.lists(values, min_size=size, max_size=size))
    index_array = np.array(index, np.uint8).reshape(shape)
    return np.where(index_array, np.array(symbols, np.int32).reshape(shape), 0), index_array


@settings(max_examples=80, deadline=None)
@given(st.lists(symbol_parts(), max_size=3))
def test_symbols_come_back_and_cost_what_the_tables_say(parts: list) -> None:
    data = encode(*parts)
    decoder = SymbolDecoder(data)
    for symbols, index in parts:
        got = decoder.get(index, TABLES)
        assert got.dtype == np.int32
        assert got.shape == index.shape
        assert (got == symbols).all()
    decoder.close()
    bits = sum(TABLES.bits(symbols, index).sum() for symbols, index in parts)
    assert len(data) <= 1.01 * bits / 8 + 4
    assert len(data) >= bits / 8 - 8  # the last word may be all zeros, cut by luck
    assert not data.endswith(b"\0")


@pytest.mark.parametrize("highest, skipped", [(1, 0.0), (5, 0.0), (63, 0.0), (30, 0.95), (63, 0.5)])
def test_size_of_a_frame(highest: int, skipped: float) -> None:
    random = np.random.default_rng(highest)
    symbols, index = draw(random, (96, 15, 27), highest, skipped)
    bits = TABLES.bits(symbols, index).sum()
    assert len(encode((symbols, index))) <= 1.01 * bits / 8 + 4


def test_nothing_and_all_likeliest_symbols_cost_no_bytes() -> None:
    assert SymbolEncoder().getvalue() == b""
    zeros = np.zeros((8, 4, 4), np.int32)
    assert encode((zeros, np.zeros((8, 4, 4), np.uint8))) == b""
    assert SymbolDecoder(b"").get(np.zeros((2, 0, 3), np.uint8), TABLES).shape == (2, 0, 3)


def test_getvalue_may_come_in_between() -> None:
    random = np.random.default_rng(3)
    symbols, index = draw(random, (4, 8, 8), 50, 0.3)
    encoder = SymbolEncoder()
    for _ in range(3):
        encoder.put(symbols, index, TABLES)
        encoder.getvalue()
    assert encoder.getvalue() == encode(*[(symbols, index)] * 3)


def test_order_is_by_table_then_by_place() -> None:
    """A part of two tables is what two parts of one table each are, the lower table's first."""
    index = np.array([[3, 1, 3, 1]], np.uint8)
    grouped = encode(
        (np.array([[1, -1]]), np.array([[1, 1]], np.uint8)), (np.array([2, 0]), np.array([3, 3], np.uint8))
    )
    assert encode((np.array([[2, 1, 0, -1]]), index)) == grouped


@pytest.mark.parametrize("index", [2, 30, 60])
def test_carries_go_through_any_number_of_words(index: int) -> None:
    """Symbols that numbers next to 0.1000… lead to keep the coder's interval across the ends of its words."""
    random = np.random.default_rng(index)
    places = np.full(40, index, np.uint8)
    reached = 0
    for fill in range(1, 16):
        for start in (b"\x80" + bytes(fill), b"\x7f" + b"\xff" * fill):
            try:
                symbols = SymbolDecoder(start + random.bytes(40)).get(places, TABLES)
            except DamagedError:  # in the sliver that no symbol has
                continue
            for count in range(1, len(places) + 1):
                data = encode((symbols[:count], places[:count]))
                assert (SymbolDecoder(data).get(places[:count], TABLES) == symbols[:count]).all()
            reached += 1
    assert reached > 20


@pytest.mark.parametrize(
    "symbols, index",
    [
        (np.zeros(3, int), np.zeros(4, np.uint8)),
        (np.zeros(3, int), np.zeros(3, np.int64)),
        (np.ones(3, int), np.zeros(3, np.uint8)),
        (np.full(3, 40000), np.ones(3, np.uint8)),
        (np.zeros(3, int), np.full(3, 64, np.uint8)),
    ],
)
def test_what_does_not_fit_is_refused(symbols: np.ndarray, index: np.ndarray) -> None:
    with pytest.raises(ValueError):
        encode((symbols, index))


def read_all(data: bytes, index: np.ndarray) -> None:
    decoder = SymbolDecoder(data)
    symbols = decoder.get(index, TABLES)
    assert np.abs(symbols).max(initial=0) <= 32768
    field = decoder.get_motion(4, 5)
    assert np.abs(field).max() <= 255
    decoder.get(index, TABLES)
    decoder.close()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80), st.integers(1, 63))
def test_any_bytes_are_symbols_or_damage(data: bytes, index: int) -> None:
    try:
        read_all(data, np.arange(index, index + 60).reshape(3, 4, 5).astype(np.uint8) % 64)
    except DamagedError:
        pass


def test_flipped_and_cut_bytes_are_symbols_or_damage() -> None:
    random = np.random.default_rng(9)
    symbols, index = draw(random, (8, 6, 6), 63, 0.2)
    encoder = SymbolEncoder()
    encoder.put(symbols, index, TABLES)
    encoder.put_motion(random.integers(-20, 20, (4, 5, 2)).astype(np.int16))
    encoder.put(symbols, index, TABLES)
    data = encoder.getvalue()
    for trial in range(300):
        broken = bytearray(data[: random.integers(0, len(data))] if trial % 3 == 0 else data)
        if broken:
            broken[random.integers(0, len(broken))] ^= 1 << random.integers(0, 8)
        try:
            read_all(bytes(broken), index)
        except DamagedError:
            pass


def test_bytes_that_only_hold_escapes_end() -> None:
    """The dearest symbols there are: every one an escape of the longest class."""
    index = np.full(50_000, 63, np.uint8)
    symbols = np.where(np.arange(50_000) % 2, 32767, -32768)
    data = encode((symbols, index))
    assert (SymbolDecoder(data).get(index, TABLES) == symbols).all()
    try:
        SymbolDecoder(data[100:]).get(index, TABLES)
    except DamagedError:
        pass


def test_a_whole_packet_keeps_to_its_cost() -> None:
    random = np.random.default_rng(11)
    encoder, bits = SymbolEncoder(), 0.0
    for _ in range(2):
        symbols, index = draw(random, (96, 4, 6), 63, 0.9)
        encoder.put(symbols, index, TABLES)
        field = random.integers(-2, 3, (8, 12, 2)).astype(np.int16)
        encoder.put_motion(field)
        bits += TABLES.bits(symbols, index).sum() + motion_bits(field).sum()
    assert len(encoder.getvalue()) <= 1.01 * bits / 8 + 4
