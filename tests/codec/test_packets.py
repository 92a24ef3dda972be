"""Packets: their size is what the tables say, their symbols come back, damage is noticed."""

from __future__ import annotations

import numpy as np
import pytest

from s2vc.bitstream import Packet
from s2vc.codec.packets import SymbolSum, read_packet, write_packet
from s2vc.codec.protocol import MOTION, FrameKind
from s2vc.entropy.motion import LIMIT


@pytest.mark.parametrize("quality", [0, 32, 63])
def test_coded_size_is_what_the_tables_say(model, scene, counted, quality):
    """Within 1 % of -log2 of the tables over a file, plus at most 4 bytes a packet."""
    coded = counted(model, scene(40, 200, 120), quality)
    size = sum(len(packet.payload) for packet in coded.packets)
    ideal = sum(sum(bits.values()) for bits in coded.bits) / 8
    assert len(coded.packets) == 40 and ideal > 1000
    assert 0.99 * ideal <= size <= 1.01 * ideal + 4 * len(coded.packets)
    for name in ("z", MOTION, "y0", "y1"):  # every part is there
        assert sum(bits.get(name, 0.0) for bits in coded.bits) > 0


def random_source(draw, largest):
    """Symbols drawn part by part, as an encoder would send them."""

    def source(part):
        if part.name == MOTION:
            return draw.integers(-LIMIT, LIMIT + 1, (*part.shape, 2)).astype(np.int16)
        return draw.integers(-largest, largest + 1, part.index.shape) * (part.index > 0)

    return source


@pytest.mark.parametrize("largest", [0, 2, 300, 32767])
@pytest.mark.parametrize("size", [(16, 16), (64, 176), (144, 80)])
def test_any_symbols_come_back(model, size, largest):
    """Three frames of a chunk, each with the memory of those before it."""
    symbols = model.networks.symbols
    draw = np.random.default_rng(largest)
    writer, reader = symbols.new_memory(*size), symbols.new_memory(*size)
    for number in range(3):
        kind = FrameKind(number == 0, number == 1, int(draw.integers(64)))
        sent = {}
        source = random_source(draw, largest)

        def note(part, source=source, sent=sent):
            sent[part.name] = source(part)
            return sent[part.name]

        packet = write_packet(symbols.parts(kind, writer), note)
        got = read_packet(symbols.parts(kind, reader), packet)
        assert got is not None and list(got) == list(sent)
        for name, values in got.items():
            np.testing.assert_array_equal(values, sent[name])


def test_parts_come_in_their_order(model):
    symbols = model.networks.symbols
    for intra, names in ((True, ["z", "y0", "y1"]), (False, ["z", "motion", "y0", "y1"])):
        seen = []

        def zeros(part, seen=seen):
            seen.append(part.name)
            return np.zeros((*part.shape, 2) if part.name == MOTION else part.index.shape, np.int32)

        write_packet(symbols.parts(FrameKind(intra, False, 5), symbols.new_memory(32, 32)), zeros)
        assert seen == names


def test_checksums_tell_symbols_apart(model):
    """One, two and four bytes of the sum; a symbol moved, or a part's border moved, is another sum."""
    symbols = model.networks.symbols
    kind = FrameKind(True, False, 40)
    source = random_source(np.random.default_rng(1), 20)
    for size in (1, 2, 4):
        packet = write_packet(symbols.parts(kind, symbols.new_memory(48, 64)), source, size)
        assert 0 <= packet.checksum < 1 << 8 * size
        wrong = Packet(packet.payload, packet.checksum ^ 1)
        for given, right in ((packet, True), (wrong, False)):
            got = read_packet(symbols.parts(kind, symbols.new_memory(48, 64)), given, size)
            assert (got is not None) == right
    a, b = SymbolSum(), SymbolSum()
    a.add(np.array([1, -1, 32767]))
    b.add(np.array([1, -1]))
    assert a.value != b.value
    b.add(np.array([32767], np.int16))
    assert a.value == b.value  # bytes of 16 bits, whatever type held them
    b.add(np.array([0]))
    assert a.value != b.value


def test_damaged_payloads_are_noticed(model):
    """Nothing but None or the right symbols: two bytes of checksum miss one in 65536."""
    from s2vc.errors import DamagedError

    symbols = model.networks.symbols
    kind = FrameKind(False, False, 40)
    packet = write_packet(
        symbols.parts(kind, symbols.new_memory(48, 64)), random_source(np.random.default_rng(2), 9), 2
    )
    draw = np.random.default_rng(3)
    missed = 0
    for _ in range(60):
        payload = bytearray(packet.payload)
        payload[draw.integers(len(payload))] ^= 1 << draw.integers(8)
        try:
            got = read_packet(
                symbols.parts(kind, symbols.new_memory(48, 64)), Packet(bytes(payload), packet.checksum), 2
            )
            missed += got is not None
        except DamagedError:
            pass
    assert missed == 0
