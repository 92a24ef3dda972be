"""Motion fields: round trips, exact cost, cheap still scenes, the search's estimates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.entropy.coder import SymbolDecoder, SymbolEncoder
from s2vc.entropy.motion import LIMIT, difference_bits, estimate_bits, motion_bits, predict


def encode(field: np.ndarray, previous: np.ndarray | None = None) -> bytes:
    encoder = SymbolEncoder()
    encoder.put_motion(field, previous)
    return encoder.getvalue()


components = st.one_of(st.integers(-1, 1), st.integers(-8, 8), st.integers(-LIMIT, LIMIT))


@st.composite
def fields(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray | None]:
    """A field of few different vectors, as real ones are, and perhaps one before it."""
    height, width = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    vectors = draw(st.lists(st.tuples(components, components), min_size=1, max_size=4))
    count = height * width
    both = [draw(st.lists(st.sampled_from(vectors), min_size=count, max_size=count)) for _ in range(2)]
    field, previous = (np.array(some, np.int16).reshape(height, width, 2) for some in both)
    return field, previous if draw(st.booleans()) else None


@settings(max_examples=80, deadline=None)
@given(fields())
def test_fields_come_back_and_cost_what_the_model_says(given_fields: tuple) -> None:
    field, previous = given_fields
    data = encode(field, previous)
    got = SymbolDecoder(data).get_motion(*field.shape[:2], previous)
    assert got.dtype == np.int16
    assert got.shape == field.shape
    assert (got == field).all()
    bits = motion_bits(field, previous)
    assert bits.shape == field.shape[:2]
    assert len(data) <= 1.01 * bits.sum() / 8 + 4


def test_largest_vectors_come_back() -> None:
    field = np.array([[[255, -255], [-255, 255]], [[-255, -255], [255, 255]]], np.int16)
    assert (SymbolDecoder(encode(field)).get_motion(2, 2) == field).all()


@pytest.mark.parametrize("vector", [(0, 0), (12, -3)])
def test_a_still_or_evenly_moving_scene_costs_next_to_nothing(vector: tuple[int, int]) -> None:
    field = np.full((15, 27, 2), vector, np.int16)
    assert motion_bits(field).sum() < 30
    assert motion_bits(field, field).sum() < 30
    assert len(encode(field)) <= 4


def test_a_field_like_the_one_before_is_cheap() -> None:
    random = np.random.default_rng(2)
    field = np.cumsum(random.integers(-2, 3, (15, 27, 2)), axis=1).astype(np.int16)
    assert motion_bits(field, field).sum() < 0.4 * motion_bits(field).sum()


def test_cost_of_a_busy_field_adapts() -> None:
    field = np.random.default_rng(3).integers(-8, 9, (20, 40, 2)).astype(np.int16)
    assert motion_bits(field).mean() < 2 * np.log2(17) + 2.5
    assert len(encode(field)) <= 1.01 * motion_bits(field).sum() / 8 + 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (5, 7)])
def test_predict_is_the_median_of_the_neighbours(shape: tuple[int, int]) -> None:
    field = np.random.default_rng(4).integers(-9, 9, (*shape, 2)).astype(np.int16)
    prediction = predict(field)
    for row in range(shape[0]):
        for column in range(shape[1]):
            left = field[row, column - 1] if column else np.zeros(2)
            if row == 0:
                expected = left
            else:
                corner = column + 1 if column + 1 < shape[1] else max(0, column - 1)
                expected = np.median([left, field[row - 1, column], field[row - 1, corner]], axis=0)
            assert (prediction[row, column] == expected).all()


@settings(max_examples=50, deadline=None)
@given(fields())
def test_estimate_of_a_first_block_is_its_cost(given_fields: tuple) -> None:
    field, previous = given_fields
    estimate = estimate_bits(field, previous)
    assert estimate.shape == field.shape[:2]
    exact = motion_bits(field[:1, :1], None if previous is None else previous[:1, :1])
    # The estimate has one table for x and y, and lets y be zero where x is.
    np.testing.assert_allclose(estimate[:1, :1], exact, atol=4.0)
    cheap = ~np.any(field[:1, :1], axis=-1)
    np.testing.assert_allclose(estimate[:1, :1][cheap], exact[cheap], atol=1e-3)


def test_estimates_know_the_cheap_vectors() -> None:
    random = np.random.default_rng(5)
    previous = random.integers(-20, 21, (6, 8, 2)).astype(np.int16)
    even = np.full_like(previous, 7)
    means = [estimate_bits(field, previous).mean() for field in (even, previous, previous + np.int16(40))]
    assert means[0] < means[1] < means[2]
    alone = estimate_bits(previous)
    assert (alone.mean() > means[1]) and (alone > 0).all()


@settings(max_examples=30, deadline=None)
@given(fields(), st.integers(1, 3))
def test_estimates_of_many_fields_are_those_of_each(given_fields: tuple, count: int) -> None:
    field, previous = given_fields
    many = np.stack([field + np.int16(k) for k in range(count)]).clip(-LIMIT, LIMIT)
    each = [estimate_bits(some, previous) for some in many]
    np.testing.assert_array_equal(estimate_bits(many, previous), np.stack(each))


def test_difference_bits_grow_with_the_magnitude() -> None:
    table = difference_bits()
    assert table.shape == (511,)
    assert table.dtype == np.float32
    classes = [table[0], table[1], *(table[2**n : 2 ** (n + 1)].mean() for n in range(1, 8))]
    assert (np.diff(classes) > 0).all()


@pytest.mark.parametrize("field", [np.full((2, 2, 2), 256), np.full((2, 2, 2), -32768), np.zeros((2, 2, 3))])
def test_what_is_no_field_is_refused(field: np.ndarray) -> None:
    with pytest.raises(ValueError):
        encode(field.astype(np.int16))
    with pytest.raises(ValueError):
        encode(np.zeros((2, 2, 2), np.int16), np.zeros((2, 3, 2), np.int16))
