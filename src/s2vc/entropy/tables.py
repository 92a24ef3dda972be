"""Frequency tables of the symbols (docs/entropy.md, "Tables").

A table gives integer frequencies, of 2**16 in total, to the symbols low..low + size - 1 and to one escape
entry for all others, whose distance from the range follows in an Exp-Golomb code. Table 0 is *skip*: it has
no entries, costs nothing and means the symbol 0.
"""

from __future__ import annotations

from math import erfc, sqrt
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

from s2vc.errors import ModelError

IntArray = npt.NDArray[np.integer[Any]]

FREQUENCY_BITS = 16
TOTAL = 1 << FREQUENCY_BITS
ESCAPE_CLASSES = 16
"""Class n holds the escapes 2**n .. 2**(n + 1) - 1 places outside their table; 16-bit symbols need 0..15."""
ESCAPE_FREQUENCIES = np.array([2**15 >> n for n in range(15)] + [2], dtype=np.int64)
"""Frequencies of the classes: the prefix of an Exp-Golomb code of order 0, its last word cut short."""


def default_scales() -> npt.NDArray[np.float64]:
    """63 standard deviations, log-spaced from 0.14 to 24: tables 1..63 of ``Tables.gaussian``."""
    return np.geomspace(0.14, 24.0, 63)


def coder_model(frequencies: npt.ArrayLike) -> Any:
    """constriction's model of integer frequencies with sum 2**16 (at least two, each at least 1).

    Its fixed-point table is exactly ``frequencies * 2**8`` of 2**24. The package gives each of n entries 1
    and shares out the other 2**24 - n in proportion to the weights given, rounding cumulated weights down;
    weights of 256 k - 1 sum to just that, so its factor is 1.0 and nothing is rounded, as it would be with
    k / 2**16.
    """
    weights = np.asarray(frequencies, dtype=np.float64) * 256.0 - 1.0
    return constriction.stream.model.Categorical(weights, perfect=False)


def quantise(weights: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Integer frequencies of at least 1, with sum 2**16, in proportion to ``weights`` (>= 0, n of 2..4096).

    Each is the rounded share; what is then missing or too much goes to or comes from the largest.
    """
    weights = np.asarray(weights, dtype=np.float64)
    frequencies = np.maximum(1, np.floor(weights * (TOTAL / weights.sum()) + 0.5)).astype(np.int64)
    frequencies[np.argmax(frequencies)] += TOTAL - frequencies.sum()
    return frequencies


class Tables:
    """Up to 256 frequency tables, addressed by a uint8 table index; table 0 is skip."""

    def __init__(self, lows: npt.ArrayLike, frequencies: list[npt.NDArray[np.int64]]) -> None:
        """``lows[i]`` and ``frequencies[i]`` (escape last) describe table i + 1.

        Raises ``ModelError`` where they are no tables: low..low + size - 1 must hold 0 and lie in 16 bits,
        frequencies must be at least 1 and sum to 2**16.
        """
        low = np.asarray(lows, dtype=np.int64).reshape(-1)
        size = np.array([len(table) - 1 for table in frequencies], dtype=np.int64)
        if (
            not 1 <= len(frequencies) <= 255
            or low.shape != size.shape
            or any(len(table) < 2 or table.min() < 1 or table.sum() != TOTAL for table in frequencies)
            or low.min() < -32768
            or low.max() > 0
            or (low + size - 1).min() < 0
            or (low + size - 1).max() > 32767
        ):
            raise ModelError("the model's symbol tables are damaged: fetch the model again")
        self._lows = np.concatenate([[0], low]).astype(np.int32)
        self._sizes = np.concatenate([[0], size]).astype(np.int32)
        # All frequencies one after another, behind one entry that stands for skip.
        self._frequencies = np.concatenate([[0], *frequencies]).astype(np.int64)
        self._starts = np.concatenate([[0, 1], 1 + np.cumsum(size[:-1] + 1)])
        with np.errstate(divide="ignore"):
            self._bits = FREQUENCY_BITS - np.log2(self._frequencies)
        self._bits[0] = 0.0
        self._models: list[Any] = [None] * len(self._sizes)

    @classmethod
    def gaussian(cls, scales: npt.ArrayLike) -> Tables:
        """Tables of zero-mean Gaussians with these standard deviations: ``scales[i]`` is table i + 1.

        A table spans the symbols of frequency one half or more, at least -2..2; what lies outside goes to the
        escape entry.
        """
        lows, tables = [], []
        for scale in np.asarray(scales, dtype=np.float64).reshape(-1):
            step = 1.0 / (scale * sqrt(2.0))
            reach = 2
            while _tail(reach + 0.5, step) - _tail(reach + 1.5, step) > 0.5 / TOTAL:
                reach += 1
            inside = [_tail(k - 0.5, step) - _tail(k + 0.5, step) for k in range(reach + 1)]
            lows.append(-reach)
            tables.append(quantise([*inside[:0:-1], *inside, 2.0 * _tail(reach + 0.5, step)]))
        return cls(lows, tables)

    def __len__(self) -> int:
        """Number of tables, skip among them: table indices are below it."""
        return len(self._sizes)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for a model file: ``lows`` int16 [n], ``sizes`` uint16 [n], ``frequencies`` uint16 [sum]."""
        return {
            "lows": self._lows[1:].astype(np.int16),
            "sizes": self._sizes[1:].astype(np.uint16),
            "frequencies": self._frequencies[1:].astype(np.uint16),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]]) -> Tables:
        """Inverse of ``to_arrays``; raises ``ModelError`` where the arrays are no tables."""
        try:
            sizes = np.asarray(arrays["sizes"]).astype(np.int64)
            frequencies = np.asarray(arrays["frequencies"]).astype(np.int64)
            lows = np.asarray(arrays["lows"]).astype(np.int64)
        except (KeyError, TypeError, ValueError):
            raise ModelError("the model has no symbol tables: fetch the model again") from None
        if sizes.ndim != 1 or frequencies.ndim != 1 or (sizes + 1).sum() != len(frequencies):
            raise ModelError("the model's symbol tables are damaged: fetch the model again")
        return cls(lows, np.split(frequencies, np.cumsum(sizes + 1)[:-1]))

    def table(self, index: int) -> tuple[int, npt.NDArray[np.int64]]:
        """Lowest symbol and frequencies (escape last) of table ``index`` >= 1."""
        start = self._starts[index]
        return int(self._lows[index]), self._frequencies[start : start + self._sizes[index] + 1].copy()

    def model(self, index: int) -> Any:
        """constriction's model of table ``index`` >= 1, made once."""
        model = self._models[index]
        if model is None:
            model = self._models[index] = coder_model(self.table(index)[1])
        return model

    def bounds(self, table_index: npt.NDArray[np.integer[Any]]) -> tuple[IntArray, IntArray]:
        """Lowest symbol and number of symbols (= the escape's place) for every table index, int32."""
        return self._lows[table_index], self._sizes[table_index]

    def bits(
        self, symbols: npt.NDArray[np.integer[Any]], table_index: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float64]:
        """Exact cost of every symbol, in bits: -log2 of its share, an escape's Exp-Golomb bits included.

        Shapes of ``symbols`` (16-bit values) and ``table_index`` are the same, any shape; so is the result's.
        """
        symbols = np.asarray(symbols).astype(np.int64)
        low, size = self.bounds(table_index)
        place = np.where((symbols >= low) & (symbols < low + size), symbols - low, size)
        cost = self._bits[self._starts[table_index] + place]
        escaped = np.nonzero((place == size) & (table_index != 0))
        if len(escaped[0]):
            classes, _, _ = split_escapes(symbols[escaped], low[escaped], size[escaped])
            cost[escaped] += FREQUENCY_BITS - np.log2(ESCAPE_FREQUENCIES[classes]) + 1 + classes
        return cost


def split_escapes(symbols: IntArray, low: IntArray, size: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Symbols outside their tables as (class n, below the range 0/1, offset within the class < 2**n)."""
    below = symbols < low
    distance = np.where(below, low - symbols, symbols - (low + size - 1))  # 1..32768
    classes = np.frexp(distance.astype(np.float64))[1] - 1
    return classes, below.astype(np.int32), distance - (1 << classes)


def join_escapes(
    classes: IntArray, below: IntArray, offsets: IntArray, low: IntArray, size: IntArray
) -> IntArray:
    """Inverse of ``split_escapes``; damaged data may give values outside 16 bits."""
    distance = (1 << classes) + offsets
    return np.where(below != 0, low - distance, low + size - 1 + distance)


def _tail(distance: float, step: float) -> float:
    """Probability that a zero-mean Gaussian exceeds ``distance``; ``step`` = 1 / (sqrt(2) * scale)."""
    return 0.5 * erfc(distance * step)
