"""Prints what entropy coding costs beside constriction's own fastest call: python tests/entropy/speed.py

Nothing is asserted. Each figure is the least of many runs, taken in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import constriction
import numpy as np

from s2vc.entropy.coder import SymbolDecoder, SymbolEncoder
from s2vc.entropy.motion import motion_bits
from s2vc.entropy.tables import Tables, default_scales

COUNT = 100_000


def least_seconds(runs: dict[str, Callable[[], object]], rounds: int = 100) -> dict[str, float]:
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            for _ in range(4):  # the first of them meets cold caches
                start = time.perf_counter()
                run()
                least[name] = min(least[name], time.perf_counter() - start)
    return least


def encode(symbols: np.ndarray, index: np.ndarray, tables: Tables) -> bytes:
    encoder = SymbolEncoder()
    encoder.put(symbols, index, tables)
    return encoder.getvalue()


def encode_motion(field: np.ndarray) -> bytes:
    encoder = SymbolEncoder()
    encoder.put_motion(field)
    return encoder.getvalue()


def main() -> None:
    np.ones(1 << 20)  # so that malloc keeps freed memory, as in a process that has handled pictures
    tables = Tables.gaussian(default_scales())
    scales = np.concatenate([[0], default_scales()])
    random = np.random.default_rng(0)
    index = random.integers(1, 61, COUNT).astype(np.uint8)
    symbols = np.round(random.normal(size=COUNT) * scales[index]).astype(np.int32)
    data = encode(symbols, index, tables)

    # The yardstick: as many symbols of one table whose cost is nearest to the mean of ours.
    means = [tables.bits(symbols[index == i], index[index == i]).mean() for i in range(1, 61)]
    nearest = 1 + int(np.argmin(np.abs(np.array(means) - np.mean(means))))
    frequencies = tables.table(nearest)[1]
    places = random.choice(len(frequencies), COUNT, p=frequencies / 65536).astype(np.int32)
    model, queue = tables.model(nearest), constriction.stream.queue
    encoder = queue.RangeEncoder()
    encoder.encode(places, model)
    words = encoder.get_compressed()

    sparse_index = np.where(random.random((128, 15, 27)) < 0.01, random.integers(1, 20, (128, 15, 27)), 0)
    sparse_index = sparse_index.astype(np.uint8)
    sparse = np.round(random.normal(size=sparse_index.shape) * scales[sparse_index]).astype(np.int32)
    sparse_data = encode(sparse, sparse_index, tables)
    still = np.zeros((15, 27, 2), np.int16)
    busy = np.cumsum(random.integers(-2, 3, (15, 27, 2)), axis=1).astype(np.int16)
    still_data, busy_data = encode_motion(still), encode_motion(busy)

    least = least_seconds(
        {
            "one model, encode": lambda: queue.RangeEncoder().encode(places, model),
            "one model, decode": lambda: queue.RangeDecoder(words).decode(model, COUNT),
            "60 tables, encode": lambda: encode(symbols, index, tables),
            "60 tables, decode": lambda: SymbolDecoder(data).get(index, tables),
            "sparse frame, encode": lambda: encode(sparse, sparse_index, tables),
            "sparse frame, decode": lambda: SymbolDecoder(sparse_data).get(sparse_index, tables),
            "still motion, encode": lambda: encode_motion(still),
            "still motion, decode": lambda: SymbolDecoder(still_data).get_motion(15, 27),
            "busy motion, encode": lambda: encode_motion(busy),
            "busy motion, decode": lambda: SymbolDecoder(busy_data).get_motion(15, 27),
        }
    )
    for name, seconds in least.items():
        if "model" in name or "tables" in name:
            print(f"{name:22s} {seconds / COUNT * 1e9:7.1f} ns a symbol")
        else:
            print(f"{name:22s} {seconds * 1e3:7.2f} ms")
    for way in ("encode", "decode"):
        ratio = least[f"60 tables, {way}"] / least[f"one model, {way}"]
        print(f"60 tables over one model, {way}: {ratio:.2f}")
    both = [
        sum(least[f"{kind}, {way}"] for way in ("encode", "decode")) for kind in ("60 tables", "one model")
    ]
    print(f"60 tables over one model, both: {both[0] / both[1]:.2f}")
    print(f"busy field: {motion_bits(busy).mean():.2f} bits a block, still: {motion_bits(still).mean():.4f}")
    print(
        f"bytes over the tables' cost: {len(data) - tables.bits(symbols, index).sum() / 8:.1f} of {len(data)}"
    )


if __name__ == "__main__":
    main()
