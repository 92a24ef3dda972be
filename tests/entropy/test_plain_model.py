"""A reader of `tiny`'s symbols written from docs/entropy-model.md alone, in plain Python, against ours.

The committed payloads pin the way from a model's arrays and symbols to bytes: a change of them is a change of
the format.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from s2vc.bitstream import Packet
from s2vc.codec.packets import read_packet, write_packet
from s2vc.codec.protocol import FrameKind, Part
from s2vc.codec.tiny_symbols import TinySymbols
from s2vc.entropy.integer import IntegerEntropyModel, IntegerLayer
from s2vc.entropy.tables import Tables
from s2vc.errors import DamagedError, ModelError
from s2vc.models.files import ModelFile, write_model

_SPEC = importlib.util.spec_from_file_location(
    "plain_decoder", Path(__file__).with_name("test_plain_decoder.py")
)
assert _SPEC is not None and _SPEC.loader is not None
_PLAIN = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_PLAIN)
PlainDecoder, numbers = _PLAIN.PlainDecoder, _PLAIN.numbers

pytestmark = pytest.mark.conformance

# ---- The reader: docs/entropy-model.md, section by section. No numpy, nothing of s2vc.

DTYPES = {"I8": ("int8", "b"), "U8": ("uint8", "B"), "I16": ("int16", "h"), "U16": ("uint16", "H"),
          "I32": ("int32", "i"), "F16": ("float16", "e")}  # fmt: skip


def clamp(a: int, low: int, high: int) -> int:
    return max(low, min(high, a))


def nested(values: list, shape: list[int]) -> list:
    if len(shape) < 2:
        return values
    size = prod(shape[1:])
    return [nested(values[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


class PlainFile:
    """A model file's tensors as nested lists, and its digest."""

    def __init__(self, data: bytes) -> None:
        (size,) = struct.unpack_from("<Q", data)
        head = json.loads(data[8 : 8 + size])
        self.metadata = head.pop("__metadata__", {})
        self.arrays, summed = {}, b""
        for name in sorted(head, key=str.encode):
            begin, end = (8 + size + offset for offset in head[name]["data_offsets"])
            dtype, letter = DTYPES[head[name]["dtype"]]
            shape = head[name]["shape"]
            values = list(struct.unpack(f"<{prod(shape)}{letter}", data[begin:end]))
            self.arrays[name] = nested(values, shape)
            summed += b"\0".join([name.encode(), dtype.encode(), ",".join(map(str, shape)).encode(), b""])
            summed += data[begin:end]
        self.digest = hashlib.sha256(summed).digest()[:8]


def run_layer(weight: list, bias: list, shift: int, planes: list) -> list:
    rows, columns, k = len(planes[0]), len(planes[0][0]), len(weight[0][0])
    out = []
    for kernels, b in zip(weight, bias, strict=True):
        assert len(kernels) == len(planes)
        plane = [[b + 2 ** (shift - 1)] * columns for _ in range(rows)]
        for r in range(rows):
            for c in range(columns):
                for j in range(k):
                    for m in range(k):
                        y, x = r + j - k // 2, c + m - k // 2
                        if 0 <= y < rows and 0 <= x < columns:
                            plane[r][c] += sum(
                                w[j][m] * p[y][x] for w, p in zip(kernels, planes, strict=True)
                            )
        out.append([[v >> shift for v in row] for row in plane])
    return out


def activated(planes: list) -> list:
    return [[[clamp(v if v >= 0 else v >> 3, -127, 127) for v in row] for row in plane] for plane in planes]


class PlainReader:
    """Reads the packets of one size of picture, in order."""

    def __init__(self, file: PlainFile, width: int, height: int) -> None:
        self.arrays = file.arrays
        self.rows, self.columns = (height + 15) // 16, (width + 15) // 16
        self.latents = len(self.arrays["entropy.head0.weight"])
        lows, sizes = self.arrays["tables.lows"], self.arrays["tables.sizes"]
        frequencies = iter(self.arrays["tables.frequencies"])
        self.tables = {
            i: (low, [next(frequencies) for _ in range(size + 1)])
            for i, (low, size) in enumerate(zip(lows, sizes, strict=True), 1)
        }
        self.start_chunk()

    def start_chunk(self) -> None:
        self.memory = [[[0] * self.columns for _ in range(self.rows)] for _ in range(self.latents)]
        self.previous: dict | None = None

    def layer(self, name: str, *groups: list) -> list:
        weight, bias, shift = (self.arrays[f"entropy.{name}.{part}"] for part in ("weight", "bias", "shift"))
        return run_layer(weight, bias, shift[0], [plane for group in groups for plane in group])

    def read(self, payload: bytes, intra: bool, quality: int) -> tuple[list[int], int]:
        """All symbols in checksum order, and their whole CRC-32."""
        rows, columns, latents = self.rows, self.columns, self.latents
        if intra:
            self.start_chunk()
        decoder = PlainDecoder(payload)
        tables = self.arrays["entropy.hyper.index"][int(intra)][quality // 8]
        hyper_rows, hyper_columns = (rows + 3) // 4, (columns + 3) // 4
        index = [table for table in tables for _ in range(hyper_rows * hyper_columns)]
        z_flat = decoder.symbols(index, self.tables)
        z = nested(z_flat, [len(tables), hyper_rows, hyper_columns])
        field = {(r, c): (0, 0) for r in range(rows) for c in range(columns)}
        v_flat: list[int] = []
        if not intra:
            field = decoder.motion(rows, columns, self.previous)
            v_flat = [a for r in range(rows) for c in range(columns) for a in field[r, c]]

        hyper = [
            [[8 * clamp(plane[r // 4][c // 4], -15, 15) for c in range(columns)] for r in range(rows)]
            for plane in z
        ]
        kind = [[64 if intra else 0] * columns for _ in range(rows)]
        constant = [[2 * quality] * columns for _ in range(rows)]
        planes = (self.memory, hyper, self.motion_planes(field), [kind], [constant])
        trunk = activated(self.layer("trunk1", activated(self.layer("trunk0", *planes))))

        places = [(o, r, c) for o in range(latents) for r in range(rows) for c in range(columns)]
        head = self.layer("head0", trunk, self.memory)
        index = [clamp(head[o][r][c], 0, 63) if (o + r + c) % 2 == 0 else 0 for o, r, c in places]
        y0 = decoder.symbols(index, self.tables)
        read = nested([8 * min(abs(s), 15) for s in y0], [latents, rows, columns])
        first = activated(self.layer("first", read))
        head = self.layer("head1", trunk, self.memory, first)
        index = [clamp(head[o][r][c], 0, 63) if (o + r + c) % 2 else 0 for o, r, c in places]
        y1 = decoder.symbols(index, self.tables)

        if not intra:
            self.previous = field
            for (o, r, c), a, b in zip(places, y0, y1, strict=True):
                self.memory[o][r][c] = self.memory[o][r][c] // 2 + 4 * min(abs(a + b), 15)
        codes: list[int] = []
        if intra and "entropy.codes.groups" in self.arrays:
            codes = decoder.symbols([1], self.tables)
            if codes[0] != 0:
                groups = self.arrays["entropy.codes.groups"]
                codes += decoder.symbols([34] * len(groups), self.tables)
                index = [clamp(6 * g - 5, 0, 55) for g in codes[1:]]
                codes += decoder.symbols(
                    [t for t, n in zip(index, groups, strict=True) for _ in range(n)], self.tables
                )
        symbols = z_flat + v_flat + y0 + y1 + codes
        return symbols, zlib.crc32(struct.pack(f"<{len(symbols)}h", *symbols))

    def motion_planes(self, field: dict) -> list:
        planes = [[[0] * self.columns for _ in range(self.rows)] for _ in range(2)]
        for (r, c), (x, y) in field.items():
            planes[0][r][c] = min(127, abs(x) + abs(y))
            neighbours = [field[n] for n in ((r, c - 1), (r - 1, c)) if n in field]
            planes[1][r][c] = min(127, 4 * sum(abs(x - a) + abs(y - b) for a, b in neighbours))
        return planes


# ---- What it reads: made by ours.

LATENTS, HYPERS, TRUNK0, TRUNK1, FIRST = 5, 3, 4, 6, 2
GROUPS, ADAPTED = (2, 1, 3), (3000, 5000)  # models of these seeds can be adapted
LAYERS = {
    "trunk0": (TRUNK0, LATENTS + HYPERS + 4, 3, 3),
    "trunk1": (TRUNK1, TRUNK0, 3, 3),
    "head0": (LATENTS, TRUNK1 + LATENTS, 1, 1),
    "first": (FIRST, LATENTS, 3, 3),
    "head1": (LATENTS, TRUNK1 + LATENTS + FIRST, 1, 1),
}


def integers(seed: int, shape: tuple[int, ...], low: int, high: int, dtype: type) -> np.ndarray:
    return (np.array(numbers(seed, prod(shape), high - low + 1)) + low).astype(dtype).reshape(shape)


def model_arrays(seed: int) -> dict[str, np.ndarray]:
    """A small network whose numbers are drawn: all 8-bit weights, outputs from clamp to clamp."""
    arrays = {"hyper.index": integers(seed, (2, 8, HYPERS), 0, 63, np.uint8)}
    if seed in ADAPTED:
        arrays["codes.groups"] = np.array(GROUPS, np.uint16)
    for place, (name, shape) in enumerate(LAYERS.items(), 1):
        shift = 9 if name.startswith("head") else 7
        middle = 20 << shift if name.startswith("head") else 0
        arrays |= {
            f"{name}.weight": integers(seed + 10 * place, shape, -128, 127, np.int8),
            f"{name}.bias": integers(
                seed + 10 * place + 1, shape[:1], middle - 1000, middle + 1000, np.int32
            ),
            f"{name}.shift": np.array([shift], np.int32),
        }
    return arrays


@cache
def tables() -> Tables:
    """63 tables made of integers alone, unlike each other in range and not symmetric."""
    lows, frequencies = [], []
    for i in range(1, 64):
        low, high = -1 - i // 9, i // 11
        table = np.array([1 + 300 * i // (1 + k * k) for k in range(low, high + 1)] + [1 + i])
        table[-low] += 2**16 - table.sum()
        lows.append(low)
        frequencies.append(table)
    return Tables(lows, frequencies)


def file_tensors(seed: int) -> dict[str, np.ndarray]:
    tensors = {f"entropy.{name}": array for name, array in model_arrays(seed).items()}
    tensors |= {f"tables.{name}": array for name, array in tables().to_arrays().items()}
    return tensors | {"codec.a.weight": np.array([[0.5, -2.0]], np.float16), "codec.a": np.float16([1.5])}


@cache
def both(seed: int) -> tuple[PlainFile, TinySymbols]:
    return PlainFile(save(file_tensors(seed))), TinySymbols(IntegerEntropyModel(model_arrays(seed)), tables())


class Source:
    """Symbols for any part: small ones, and now and then one that no table holds."""

    VECTORS = ((0, 0), (0, 0), (0, 0), (3, -2), (3, -2), (-255, 255), (17, 0), (0, -1))
    RARE = (32767, -32768, 200, -95, 15, -16, 16, 40)

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.index: list[int] = []
        self.symbols: list[int] = []

    def __call__(self, part: Part) -> np.ndarray:
        self.seed += 1
        if part.index is None:
            drawn = numbers(self.seed, prod(part.shape), len(self.VECTORS))
            symbols = np.array([self.VECTORS[n] for n in drawn], np.int16).reshape(*part.shape, 2)
        else:
            self.index += part.index.ravel().tolist()
            drawn = numbers(self.seed, part.index.size, 71)
            values = [n % 7 - 3 if n < 63 else self.RARE[n - 63] for n in drawn]
            symbols = np.array(values, np.int32).reshape(part.index.shape) * (part.index > 0)
        self.symbols += symbols.ravel().tolist()
        return symbols


# Whether a chunk starts, whether the frame is an I-frame, its quality. So many that memories get odd numbers.
FRAMES = [
    (True, True, 32),
    *((False, False, quality) for quality in (32, 0, 63, 20, 20, 41)),
    (True, False, 8),  # a chunk without an I-frame: no memory all the same
    (False, False, 7),
    (False, True, 63),  # in a file it would open a chunk; it leaves no memory by itself
    (False, False, 40),
]


def packets(model: TinySymbols, rows: int, columns: int, source: Source) -> Iterator[Packet]:
    memory: Any = None
    for opens, intra, quality in FRAMES:
        memory = model.new_memory(16 * rows, 16 * columns) if opens else memory
        yield write_packet(model.parts(FrameKind(intra, False, quality), memory), source, 4)


@pytest.mark.parametrize(("rows", "columns"), [(3, 2), (5, 7), (1, 1), (1, 9), (4, 1)])
@pytest.mark.parametrize("seed", [1000, 2000, 5000])
def test_plain_reader_reads_our_packets(seed: int, rows: int, columns: int) -> None:
    file, model = both(seed)
    # Any size that is padded to the same: a multiple of 16 less up to 15.
    reader = PlainReader(file, 16 * columns - seed % 16, 16 * rows - 15)
    source = Source(seed)
    memory: Any = None
    for (opens, intra, quality), packet in zip(FRAMES, packets(model, rows, columns, source), strict=True):
        if opens:
            reader.start_chunk()
            memory = model.new_memory(16 * rows, 16 * columns)
        expected, source.symbols = source.symbols, []
        assert reader.read(packet.payload, intra, quality) == (expected, packet.checksum)
        ours = read_packet(model.parts(FrameKind(intra, True, quality), memory), packet, 4)
        assert ours is not None
        assert [s for part in ours.values() for s in part.ravel().tolist()] == expected
        if rows * columns > 9:  # the drawn network uses its whole range
            assert {0, 63} <= set(source.index) and len(set(source.index)) > 32


@pytest.mark.parametrize("seed", [1000, 3000])
def test_both_readers_agree_on_arbitrary_payloads(seed: int) -> None:
    """Bytes that no encoder wrote lead both to the same symbols and memory, or both to damage."""
    file, model = both(seed)
    reader, memory = PlainReader(file, 48, 33), model.new_memory(48, 48)
    damaged = 0
    for n in range(60):
        start = b"\xff" * 9 if n % 7 == 3 else b""
        payload = start + bytes(numbers(n, 2 * n, 256))
        intra, quality = n % 9 == 0, n % 64
        parts = model.parts(FrameKind(intra, False, quality), memory)
        try:
            expected, checksum = reader.read(payload, intra, quality)
        except ValueError:
            with pytest.raises(DamagedError):
                read_packet(parts, Packet(payload, 0))
            reader.start_chunk()
            memory = model.new_memory(48, 48)
            damaged += 1
            continue
        ours = read_packet(parts, Packet(payload, checksum & 255))
        assert ours is not None, n
        assert [s for part in ours.values() for s in part.ravel().tolist()] == expected
    assert 5 < damaged < 40


# Each frame's symbol checksum and payload.
GOLDEN = [
    "a13f0f37 18f5ce282723137cc3fafb0f4cba385fdd9155f7f9aabfa551e7dde7553f4e7b80",
    "ea05fd01 f833a577945d691de1b0cbc47daa6edb9ecb59fbc580bd52e436b2ffffffffffff4f560d97089dc7f049befbf8",
    "81853232 dbc91113893d81c85375f6d31b2cd38514a0de291effea1aa9c733eca84f24c9fcb17fffffffffc385c870fc40",
    "bfe60fca fff93d81f474774c75ae9f22b98c7a1aa294889084513a1356ebd3b2fd4af4b0",
    "d1d6a6f7 08356e8574c01882b6a2ad428312cf90787d8559b6fc180bed1e6fffffffffe1ff9d2b09c332",
    "5b5c9de7 fff66d0e8960cdb0ac1b53b446037ffff839a895aecfa5fffed840a47e5f680b5c765606383bb0",
    "a9099ccc 025733ef8e20866c8333b7fffe4d9be14983fede9b6127ffff29d5dfefcf974e8367bc26b8bfe228",
    "5aa9efba 1b82ef1a2771f19701cbedc86c560a1cac024999c9d662d912e90cbed321",
    "fc2cf173 fffd3c6c58941a1ff224c9defd36d5fc1d85576c41e1b64e2efffffffaf8a710",
    "fde73fbf fffd3a5c1c1ed2fffe9af5de271efb7fff77ef21c9f6",
    "1a40c827 ffffffb0e6f8cc91c4ccdb08ee8b0141da0aca5a8fad5b95990786c510fcdb73c52a5639ea6f7c536e4006c69a",
]


def test_golden_payloads() -> None:
    _, model = both(4000)
    made = [f"{p.checksum:08x} {p.payload.hex()}" for p in packets(model, 2, 3, Source(4000))]
    assert made == GOLDEN


def test_model_file_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    write_model(path, "tiny", "plain-1", {"latent": LATENTS}, file_tensors(1000))
    file, ours = PlainFile(path.read_bytes()), ModelFile.open(path)
    assert file.digest == ours.digest
    del file.metadata["config"]
    assert file.metadata == {"format": "s2vc-model", "version": "1", "preset": "tiny", "id": "plain-1"}
    assert file.arrays == both(1000)[0].arrays


@pytest.mark.parametrize("excess", [0, 1, 2**31 - 1 - 2**24])
@pytest.mark.parametrize("shift", [1, 16])
def test_layer_is_exact_up_to_its_bound(excess: int, shift: int) -> None:
    """Planes that reach the largest sum a layer can have, where float32 just suffices and where not."""
    weight = integers(7, (2, 40, 3, 3), -128, 127, np.int8)
    bias = [2**24 + excess - 127 * int(np.abs(w.astype(int)).sum()) - 2 ** (shift - 1) for w in weight]
    layer = IntegerLayer(weight, np.array(bias, np.int32), shift)
    assert layer.dtype == (np.float64 if excess else np.float32)
    signs = np.sign(weight[0].astype(int))
    planes = np.concatenate([127 * signs, -127 * signs, integers(8, (40, 3, 4), -127, 127, int)], axis=2)
    expected = run_layer(weight.tolist(), bias, shift, planes.tolist())
    assert layer(planes.astype(np.float32)).tolist() == expected
    assert max(v for row in expected[0] for v in row) == (2**24 + excess) >> shift


def test_models_that_are_none_are_refused() -> None:
    arrays = model_arrays(1000)
    wrong = {
        "head0.bias": np.full(LATENTS, 2**31 - 2**12, np.int32),  # sums beyond 2**31
        "trunk0.weight": arrays["trunk0.weight"][:, 1:],
        "first.weight": arrays["first.weight"][..., 1:],
        "trunk1.shift": np.array([0], np.int32),
        "hyper.index": np.full_like(arrays["hyper.index"], 64),
    }
    for name, array in wrong.items():
        with pytest.raises(ModelError):
            IntegerEntropyModel(arrays | {name: array})
