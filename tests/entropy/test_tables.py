"""Integer tables: sums, shape, exact costs, and what constriction makes of them."""

from __future__ import annotations

import constriction
import numpy as np
import pytest

from s2vc.entropy.tables import ESCAPE_FREQUENCIES, TOTAL, Tables, coder_model, default_scales, quantise
from s2vc.errors import ModelError


@pytest.fixture(scope="module")
def gaussian() -> Tables:
    return Tables.gaussian(default_scales())


def test_default_scales_leave_index_0_to_skip(gaussian: Tables) -> None:
    scales = default_scales()
    assert scales.shape == (63,)
    assert len(gaussian) == 64
    assert scales[0] == pytest.approx(0.14)
    assert scales[-1] == pytest.approx(24)


def test_gaussian_tables_are_symmetric_and_complete(gaussian: Tables) -> None:
    for index in range(1, len(gaussian)):
        low, frequencies = gaussian.table(index)
        assert frequencies.sum() == TOTAL
        assert frequencies.min() >= 1
        inside = frequencies[:-1]
        assert len(inside) == 1 - 2 * low
        assert (inside == inside[::-1]).all()
        assert (np.diff(inside[:-low]) >= 0).all()


def test_escapes_of_gaussian_tables_carry_little(gaussian: Tables) -> None:
    for index in range(1, len(gaussian)):
        assert gaussian.table(index)[1][-1] <= 8  # of 65536


def test_gaussian_tables_cost_what_the_gaussian_says(gaussian: Tables) -> None:
    """Expected bits of drawn symbols are within 0.2 % or 0.001 bit of the quantised Gaussian's entropy."""
    random = np.random.default_rng(5)
    for index in (1, 20, 40, 63):
        scale = default_scales()[index - 1]
        symbols = np.round(random.normal(0, scale, 200_000)).astype(np.int32)
        share = np.bincount(symbols - symbols.min()) / symbols.size
        entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
        cost = gaussian.bits(symbols, np.full(symbols.shape, index, np.uint8)).mean()
        assert cost == pytest.approx(entropy, rel=0.002, abs=0.001)


def intervals(frequencies: np.ndarray) -> list[tuple[int, int]]:
    """(start, width) of each value in constriction's model, in units of 2**-24, from its encoder's state."""
    model = coder_model(frequencies)
    step = (2**64 - 1) >> 24
    found = []
    for value in range(len(frequencies)):
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(value, model)
        written, (low, width) = encoder.pos()
        if written:  # one word is out already: put it back in front
            low = (int(encoder.get_compressed()[0]) << 64 | low) >> 32
            width >>= 32
        found.append((low // step, width // step))
        assert low % step == 0
    return found


def test_constriction_widths_are_256_times_the_frequencies(gaussian: Tables) -> None:
    """What docs/entropy.md says of the fixed-point tables, for our tables and for arbitrary ones."""
    random = np.random.default_rng(6)
    tables = [gaussian.table(index)[1] for index in (1, 2, 30, 63)]
    tables += [np.array([1, 65535]), np.array([65535, 1]), ESCAPE_FREQUENCIES]
    tables += [quantise(random.gamma(0.2, size=random.integers(2, 300))) for _ in range(20)]
    for frequencies in tables:
        starts = np.cumsum(frequencies) - frequencies
        expected = [
            (256 * int(start), 256 * int(width)) for start, width in zip(starts, frequencies, strict=True)
        ]
        assert intervals(frequencies) == expected


def test_bits_count_escapes_to_the_last_bit(gaussian: Tables) -> None:
    low, frequencies = gaussian.table(10)
    high = low + len(frequencies) - 2
    escape = 16 - np.log2(frequencies[-1])
    for distance, golomb in ((1, 1), (2, 3), (3, 3), (4, 5), (7, 5), (8, 7), (2**14, 29)):
        symbols = np.array([high + distance, low - distance])
        cost = gaussian.bits(symbols, np.full(2, 10, np.uint8))
        np.testing.assert_allclose(cost, escape + 1 + golomb)
    assert gaussian.bits(np.zeros((2, 3), int), np.zeros((2, 3), np.uint8)).tolist() == [[0.0] * 3] * 2


def test_arrays_come_back(gaussian: Tables) -> None:
    arrays = gaussian.to_arrays()
    assert {name: array.dtype.str for name, array in arrays.items()} == {
        "lows": "<i2",
        "sizes": "<u2",
        "frequencies": "<u2",
    }
    again = Tables.from_arrays(arrays)
    for index in range(1, len(gaussian)):
        assert again.table(index)[0] == gaussian.table(index)[0]
        assert (again.table(index)[1] == gaussian.table(index)[1]).all()


def test_learned_tables_need_not_be_symmetric() -> None:
    tables = Tables([0, -3], [quantise([5.0, 3.0, 1.0, 0.0]), quantise([1.0, 1.0, 1.0, 4.0, 0.1])])
    assert tables.table(1)[1][-1] == 1
    assert tables.bits(np.array([0, 0]), np.array([1, 2], np.uint8)) == pytest.approx(
        [0.8480, 0.8278], abs=1e-4
    )


@pytest.mark.parametrize(
    "lows, tables",
    [
        ([0], [[65536]]),
        ([0], [[65536, 0]]),
        ([0], [[65535, 2]]),
        ([1], [[65535, 1]]),
        ([-2], [[65535, 1]]),
        ([0, 0], [[65535, 1]]),
        ([], []),
        ([-40000], [[*[1] * 40001, 25535]]),
    ],
)
def test_what_is_no_table_is_refused(lows: list[int], tables: list[list[int]]) -> None:
    with pytest.raises(ModelError):
        Tables(lows, [np.array(table) for table in tables])


def test_damaged_arrays_are_refused(gaussian: Tables) -> None:
    arrays = gaussian.to_arrays()
    for name in arrays:
        with pytest.raises(ModelError):
            Tables.from_arrays({**arrays, name: arrays[name][:-1]})
        if name != "lows":  # other lows may be tables, only not these
            with pytest.raises(ModelError):
                Tables.from_arrays({**arrays, name: arrays[name] + arrays[name].dtype.type(1)})
        with pytest.raises(ModelError):
            Tables.from_arrays({other: array for other, array in arrays.items() if other != name})
