"""A decoder written from docs/entropy.md alone, without constriction or numpy, against committed bytes.

A change of these bytes is a change of the format.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from s2vc.entropy.coder import SymbolDecoder, SymbolEncoder
from s2vc.entropy.motion import START
from s2vc.entropy.tables import Tables
from s2vc.errors import DamagedError

pytestmark = pytest.mark.conformance


class PlainDecoder:
    """docs/entropy.md, section by section."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.place = payload, 0
        self.low, self.range = 0, 2**64 - 1
        self.point = self.word() << 32 | self.word()

    def word(self) -> int:
        word = self.payload[self.place : self.place + 4].ljust(4, b"\0")
        self.place += 4
        return int.from_bytes(word, "big")

    def value(self, widths: list[int]) -> int:
        step = self.range >> 24
        quantile = ((self.point - self.low) % 2**64) // step
        if quantile >= 2**24:
            raise ValueError("damaged")
        starts = list(accumulate(widths, initial=0))
        v = max(v for v in range(len(widths)) if starts[v] <= quantile)
        self.low = (self.low + step * starts[v]) % 2**64
        self.range = step * widths[v]
        if self.range < 2**32:
            self.low = (self.low << 32) % 2**64
            self.range <<= 32
            self.point = (self.point << 32) % 2**64 + self.word()
        return v

    def even(self) -> int:
        return self.value([2**23, 2**23])

    def symbols(self, indices: list[int], tables: dict[int, tuple[int, list[int]]]) -> list[int]:
        symbols = [0] * len(indices)
        escapes = []
        for index in range(1, 256):
            for place, other in enumerate(indices):
                if other != index:
                    continue
                low, frequencies = tables[index]
                k = self.value([256 * f for f in frequencies])
                if k < len(frequencies) - 1:
                    symbols[place] = low + k
                else:
                    escapes.append((place, low, low + len(frequencies) - 2))
        classes = [self.value([256 * 2 ** (15 - n) for n in range(15)] + [512]) for _ in escapes]
        for n, (place, low, high) in zip(classes, escapes, strict=True):
            side = self.even()
            distance = 1
            for _ in range(n):
                distance = 2 * distance + self.even()
            symbols[place] = low - distance if side else high + distance
            if not -32768 <= symbols[place] <= 32767:
                raise ValueError("damaged")
        return symbols

    def bit(self, context: int) -> int:
        z, o = self.counts[context]
        p = min(4095, max(1, (4096 * o + (z + o) // 2) // (z + o)))
        bit = self.value([2**24 - 4096 * p, 4096 * p])
        z, o = (z, o + 16) if bit else (z + 16, o)
        if z + o > 1024:
            z, o = (z + 1) >> 1, (o + 1) >> 1
        self.counts[context] = (z, o)
        return bit

    def motion(self, rows: int, columns: int, previous: dict | None) -> dict:
        self.counts = list(COUNTS)
        field: dict = {}
        first: dict = {}
        for r in range(rows):
            for c in range(columns):
                left = field.get((r, c - 1), (0, 0))
                if r == 0:
                    top = corner = prediction = left
                else:
                    top = field[r - 1, c]
                    corner = field.get((r - 1, c + 1), field.get((r - 1, c - 1), top))
                    prediction = tuple(sorted(three)[1] for three in zip(left, top, corner, strict=True))
                before = previous[r, c] if previous else None
                k = 0 if before is None else 1 if before != prediction else 2
                a = 0 if left != top else 1 if top != corner else 2
                e = first.get((r, c - 1), 1) + first.get((r - 1, c), 1)
                first[r, c] = self.bit(9 * k + 3 * a + e)
                if first[r, c]:
                    field[r, c] = prediction
                else:
                    field[r, c] = self.other(prediction, [before, left, top])
        return field

    def other(self, prediction: tuple[int, ...], candidates: list) -> tuple[int, ...]:
        seen = [None, prediction]
        for number, candidate in enumerate(candidates):
            if candidate not in seen:
                if self.bit(27 + number):
                    return candidate
                seen.append(candidate)
        x = self.difference(30, False)
        y = self.difference(47, x == 0)
        if max(abs(prediction[0] + x), abs(prediction[1] + y)) > 255:
            raise ValueError("damaged")
        return prediction[0] + x, prediction[1] + y

    def difference(self, base: int, known: bool) -> int:
        if not known and not self.bit(base):
            return 0
        negative = self.even()
        n = 0
        while n < 8 and self.bit(base + 1 + n):
            n += 1
        magnitude = 1
        for number in range(n):
            magnitude = 2 * magnitude + (self.bit(base + 8 + n) if number == 0 else self.even())
        return -magnitude if negative else magnitude


DOCUMENT = Path(__file__).parents[2] / "docs" / "entropy.md"
COUNTS = [
    (int(zeros), int(ones))
    for row in re.findall(r"^\| [\d–]+ \| (.*) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    for zeros, ones in re.findall(r"(\d+), (\d+)", row)
]

TABLES = {
    1: (-1, [300, 65000, 200, 36]),
    2: (-2, [6000, 12000, 29536, 12000, 5999, 1]),
    7: (0, [65535, 1]),
    9: (-3, [8192] * 8),
}
HYPER_SHAPE, LATENT_SHAPE = (2, 2, 3), (4, 4, 6)


def numbers(seed: int, count: int, bound: int) -> list[int]:
    """Numbers below ``bound`` that no library's generator has a say in."""
    out, state = [], seed
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append((state >> 33) % bound)
    return out


def packet_integers() -> dict:
    """What the golden packet holds: a case of everything, in the packet's order."""
    names = [0, 1, 2, 7, 9]
    hyper_index = [names[n] for n in numbers(1, 12, 5)]
    latent_index = [names[n] for n in numbers(2, 96, 5)]
    hyper = [0 if i == 0 else n - 1 for i, n in zip(hyper_index, numbers(3, 12, 3), strict=True)]
    latent = [0 if i == 0 else n - 3 for i, n in zip(latent_index, numbers(4, 96, 7), strict=True)]
    extremes = iter([32767, -32768, 100, -100, 1234, -8, 9])
    latent = [next(extremes, s) if i and n == 0 else s
              for i, s, n in zip(latent_index, latent, numbers(5, 96, 9), strict=True)]  # fmt: skip
    choices = [(0, 0), (0, 0), (5, -3), (5, -3), (4, 0), (0, -1), (-255, 255), (255, -255), (40, 7)]
    previous = [choices[n] for n in numbers(6, 30, 5)]
    motion = [choices[n] for n in numbers(7, 30, 9)]
    return {"hyper_index": hyper_index, "latent_index": latent_index, "hyper": hyper, "latent": latent,
            "previous": previous, "motion": motion}  # fmt: skip


def tables() -> Tables:
    """``TABLES`` at their indices; others are never used."""
    filler = (0, [32768, 32768])
    chosen = [TABLES.get(i, filler) for i in range(1, 10)]
    return Tables([low for low, _ in chosen], [np.array(f) for _, f in chosen])


def array(values: list, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.array(values, dtype=dtype).reshape(shape)


def encode(integers: dict, previous: bool) -> bytes:
    encoder = SymbolEncoder()
    for part, shape in (("hyper", HYPER_SHAPE), ("latent", LATENT_SHAPE)):
        index = array(integers[part + "_index"], shape, np.uint8)
        encoder.put(array(integers[part], shape, np.int32), index, tables())
        if part == "hyper":
            before = array(integers["previous"], (5, 6, 2), np.int16) if previous else None
            encoder.put_motion(array(integers["motion"], (5, 6, 2), np.int16), before)
    return encoder.getvalue()


GOLDEN = {
    False: (
        "ff14b22ad268c41b06a7b3b388426f97267a4ff1f325578b40636737cab7ef17b918525ef47809f5ea4c93683f1a54c6"
        "24cf1944805433ffff9b9d40fd69279676c6bff4a200bfffff9efffff9d684a912631925f4cb9ffffffff84560055f76"
        "cffebffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe4b3c3899416531aeada83f7314a5c3"
        "f2ce5cdf1cfe59c897ff3dc3e807bc616bc07b1e54"
    ),
    True: (
        "ff14b22abffc0fc4c4ee5c217caf05ee12ce0edf4170d884c2ca78ee237e38ee2c1a320a77f43fb454873fd52fc107eb"
        "02dacdb7680ff7ffff717ac0afd7dc66aeeb45b6fff7ffffffdfbfeb3e0defffae86f5ea020b3bffffe5f78f3f9eb206"
        "5ff33ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffaa91f9eca817cf8da477cfe2682d0cfd3"
        "ab239180236b1cdffd735f0b9f1ccc74494bc210"
    ),
}


@pytest.mark.parametrize("previous", [False, True])
def test_golden_bytes(previous: bool) -> None:
    assert encode(packet_integers(), previous).hex() == GOLDEN[previous]


@pytest.mark.parametrize("previous", [False, True])
def test_plain_decoder_reads_golden_bytes(previous: bool) -> None:
    integers = packet_integers()
    decoder = PlainDecoder(bytes.fromhex(GOLDEN[previous]))
    assert decoder.symbols(integers["hyper_index"], TABLES) == integers["hyper"]
    places = [(r, c) for r in range(5) for c in range(6)]
    before = dict(zip(places, integers["previous"], strict=True)) if previous else None
    field = decoder.motion(5, 6, before)
    assert [field[place] for place in places] == integers["motion"]
    assert decoder.symbols(integers["latent_index"], TABLES) == integers["latent"]


@pytest.mark.parametrize("previous", [False, True])
def test_package_reads_golden_bytes(previous: bool) -> None:
    integers = packet_integers()
    decoder = SymbolDecoder(bytes.fromhex(GOLDEN[previous]))
    hyper = decoder.get(array(integers["hyper_index"], HYPER_SHAPE, np.uint8), tables())
    before = array(integers["previous"], (5, 6, 2), np.int16) if previous else None
    field = decoder.get_motion(5, 6, before)
    latent = decoder.get(array(integers["latent_index"], LATENT_SHAPE, np.uint8), tables())
    assert hyper.dtype == latent.dtype == np.int32
    assert field.dtype == np.int16
    assert hyper.ravel().tolist() == integers["hyper"]
    assert [tuple(v) for v in field.reshape(-1, 2).tolist()] == integers["motion"]
    assert latent.ravel().tolist() == integers["latent"]


def outcome(read: Callable[[], list], error: type[Exception]) -> list | str:
    try:
        return read()
    except error:
        return "damaged"


def same_outcome(payload: bytes) -> bool:
    """Reads symbols and motion from any bytes both ways; whether both called them damaged."""
    index = array([1, 2, 9, 7, 0] * 24, (120,), np.uint8)
    plain, ours = PlainDecoder(payload), SymbolDecoder(payload)
    expected = outcome(lambda: plain.symbols(index.tolist(), TABLES), ValueError)
    assert outcome(lambda: ours.get(index, tables()).tolist(), DamagedError) == expected
    if expected != "damaged":
        expected = outcome(lambda: list(plain.motion(6, 5, None).values()), ValueError)
        field = outcome(lambda: [*map(tuple, ours.get_motion(6, 5).reshape(-1, 2).tolist())], DamagedError)
        assert field == expected
    return expected == "damaged"


def test_plain_decoder_agrees_on_arbitrary_bytes() -> None:
    """Bytes that no encoder wrote lead both to the same integers, or both to damage."""
    start = {0: b"\xff" * 9}
    damaged = sum(same_outcome(start.get(n % 3, b"") + bytes(numbers(n, 3 * n, 256))) for n in range(100))
    assert 30 < damaged < 70


def test_document_has_the_counts() -> None:
    assert tuple(COUNTS) == START
