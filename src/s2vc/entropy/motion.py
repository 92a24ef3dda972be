"""Motion fields: median prediction and adaptive binary contexts (docs/entropy.md, "Motion field").

A field holds one vector a 16 x 16 block, int16 ``[hb, wb, 2]`` in quarter pixels (x, y), each component in
-255..255. Blocks are coded in raster order. A bit says whether a block's vector equals the median of its
neighbours'; if not, bits say whether it equals one of a few candidates (this block in the previous field,
left, above); if not, its difference from the median follows. Every bit has an adaptive probability, so a
still scene costs some thousandths of a bit a block.

One walk over the field (``code_field``) serves encoder, decoder and cost: they differ in their bit coder,
whose ``bit(context, wanted)`` returns the bit that was coded; a decoder does not look at ``wanted``.
"""

from __future__ import annotations

from functools import cache
from math import log2

import numpy as np
import numpy.typing as npt

from s2vc.errors import DamagedError

LIMIT = 255
"""Largest magnitude of a vector's component, in quarter pixels."""

PROBABILITY_BITS = 12
"""A bit's probability is a multiple of 2**-12."""

# Contexts. Equal to the prediction or not: 9 * previous + 3 * agreement + neighbours equal to theirs.
_EQUAL = 0
# Equal to a candidate or not: + 0 previous field, + 1 left, + 2 above.
_CANDIDATE = 27
# Components x and y of a difference: + 0 not zero, + 1 + n magnitude of 2**(n + 1) or more, + 9 + n bit n of
# a magnitude whose leading bit is n + 1.
_COMPONENTS = (30, 47)
_LONGEST = 8  # position of the leading bit of the largest magnitude, 510

_OBSERVATION = 16  # what one bit adds to its count
_FULL = 1024  # beyond this sum a context's counts are halved

# Counts of zeros and of ones of every context at the start of a packet, fitted to fields of real footage.
# fmt: off
START: tuple[tuple[int, int], ...] = (
    (96, 96), (102, 154), (44, 212), (16, 80), (33, 159), (65, 319), (12, 84), (12, 84), (13, 243),
    (154, 102), (154, 230), (44, 148), (118, 394), (44, 148), (44, 148), (6, 42), (15, 49), (22, 106),
    (59, 197), (33, 159), (15, 177), (26, 486), (41, 471), (26, 486), (15, 497), (15, 177), (8, 376),
    (40, 8), (80, 16), (56, 8),
    (59, 197),
    (26, 38), (24, 24), (24, 24), (19, 13), (22, 10), (27, 5), (42, 6), (42, 6),
    (154, 102), (230, 154), (230, 154), (67, 29), (49, 15), (74, 22), (14, 2), (14, 2),
    (38, 90),
    (24, 24), (24, 24), (29, 19), (22, 10), (25, 7), (28, 4), (56, 8), (14, 2),
    (230, 154), (307, 205), (90, 38), (134, 58), (37, 11), (80, 16), (14, 2), (14, 2),
)
# fmt: on

Vector = tuple[int, int]
_ZERO: Vector = (0, 0)


class AdaptiveBits:
    """Adaptive binary probabilities of one packet; a subclass says what coding a bit means."""

    def __init__(self) -> None:
        self._zeros = [zeros for zeros, _ in START]
        self._ones = [ones for _, ones in START]

    def bit(self, context: int, wanted: int) -> int:
        """Code one bit with its context's probability and adapt to it; the bit that was coded."""
        zeros, ones = self._zeros[context], self._ones[context]
        total = zeros + ones
        probability = ((ones << PROBABILITY_BITS) + (total >> 1)) // total
        bit = self.code(min(4095, max(1, probability)), wanted)
        if bit:
            ones += _OBSERVATION
        else:
            zeros += _OBSERVATION
        if zeros + ones > _FULL:
            zeros, ones = (zeros + 1) >> 1, (ones + 1) >> 1
        self._zeros[context], self._ones[context] = zeros, ones
        return bit

    def code(self, probability: int, wanted: int) -> int:
        """Code one bit that is 1 with ``probability`` / 4096 (1..4095); 2048 for bits without a context."""
        raise NotImplementedError

    def end_block(self) -> None:
        """Called when all bits of a block are coded."""


def code_field(
    bits: AdaptiveBits,
    shape: tuple[int, int],
    field: npt.NDArray[np.int16] | None,
    previous: npt.NDArray[np.int16] | None,
) -> npt.NDArray[np.int16]:
    """Code a motion field of ``shape`` (hb, wb) and return it.

    ``field`` is None in a decoder, else int16 [hb, wb, 2] within ``LIMIT``. ``previous`` is the previous
    frame's field of the same shape, or None where there is none that both sides hold.
    Raises ``ValueError`` where the fields do not fit, ``DamagedError`` where a decoder meets a vector out of
    range.
    """
    height, width = shape
    for given in (field, previous):
        if given is not None and given.shape != (height, width, 2):
            raise ValueError(f"a motion field is {given.shape}, not {(height, width, 2)}")
    if field is not None and field.size and not -LIMIT <= field.min() <= field.max() <= LIMIT:
        raise ValueError(f"a motion vector is longer than {LIMIT} quarter pixels")
    past = None if previous is None else _vectors(previous)
    wanted = [[_ZERO] * width] * height if field is None else _vectors(field)
    rows: list[list[Vector]] = []
    equal_above = [1] * width
    for row in range(height):
        above = rows[-1] if rows else None
        current: list[Vector] = []
        equal: list[int] = []
        left, equal_left = _ZERO, 1
        for column in range(width):
            if above is None:
                top = corner = prediction = left
            else:
                top = above[column]
                corner = above[column + 1] if column + 1 < width else above[max(0, column - 1)]
                prediction = _median(left, top, corner)
            before = None if past is None else past[row][column]
            agreement = 0 if left != top else 1 if top != corner else 2
            known = 0 if before is None else 1 if before != prediction else 2
            context = _EQUAL + 9 * known + 3 * agreement + equal_left + equal_above[column]
            vector = wanted[row][column]
            equal_left = bits.bit(context, vector == prediction)
            if equal_left:
                left = prediction
            else:
                left = _other_vector(bits, vector, prediction, (before, left, top))
            bits.end_block()
            equal.append(equal_left)
            current.append(left)
        rows.append(current)
        equal_above = equal
    return np.array(rows, dtype=np.int16).reshape(height, width, 2)


def _other_vector(
    bits: AdaptiveBits, wanted: Vector, prediction: Vector, candidates: tuple[Vector | None, Vector, Vector]
) -> Vector:
    """A vector that is not the prediction: one of the distinct candidates, or a difference."""
    ruled_out: list[Vector | None] = [None, prediction]
    for place, candidate in enumerate(candidates):
        if candidate in ruled_out:
            continue
        assert candidate is not None
        if bits.bit(_CANDIDATE + place, wanted == candidate):
            return candidate
        ruled_out.append(candidate)
    x = _difference(bits, _COMPONENTS[0], wanted[0] - prediction[0], False)
    y = _difference(bits, _COMPONENTS[1], wanted[1] - prediction[1], x == 0)
    vector = (prediction[0] + x, prediction[1] + y)
    if max(abs(vector[0]), abs(vector[1])) > LIMIT:
        raise DamagedError("a motion vector is out of range: the packet is damaged")
    return vector


def _difference(bits: AdaptiveBits, base: int, wanted: int, nonzero: bool) -> int:
    """A component's difference: zero (unless known not to be), sign, place of the leading bit, bits below."""
    if not nonzero and not bits.bit(base, wanted != 0):
        return 0
    negative = bits.code(2048, wanted < 0)
    magnitude = abs(wanted)
    length = 0
    while length < _LONGEST and bits.bit(base + 1 + length, magnitude >> (length + 1) != 0):
        length += 1
    value = 1
    if length:
        value = 2 | bits.bit(base + 8 + length, magnitude >> (length - 1) & 1)
    for place in range(length - 2, -1, -1):
        value = value << 1 | bits.code(2048, magnitude >> place & 1)
    return -value if negative else value


def _median(a: Vector, b: Vector, c: Vector) -> Vector:
    if a in (b, c):
        return a
    return (
        a[0] + b[0] + c[0] - min(a[0], b[0], c[0]) - max(a[0], b[0], c[0]),
        a[1] + b[1] + c[1] - min(a[1], b[1], c[1]) - max(a[1], b[1], c[1]),
    )


def _vectors(field: npt.NDArray[np.int16]) -> list[list[Vector]]:
    return [[(x, y) for x, y in row] for row in field.tolist()]


class _BitCost(AdaptiveBits):
    """Codes nothing: notes what the bits of each block cost."""

    def __init__(self) -> None:
        super().__init__()
        self._sum = 0.0
        self.blocks: list[float] = []

    def code(self, probability: int, wanted: int) -> int:
        self._sum -= log2(probability if wanted else 4096 - probability) - PROBABILITY_BITS
        return wanted

    def end_block(self) -> None:
        self.blocks.append(self._sum)
        self._sum = 0.0


def motion_bits(
    field: npt.NDArray[np.int16], previous: npt.NDArray[np.int16] | None = None
) -> npt.NDArray[np.float64]:
    """Exact cost of a field, in bits a block [hb, wb], found by running the adaptive model over it."""
    cost = _BitCost()
    code_field(cost, field.shape[:2], field, previous)
    return np.array(cost.blocks).reshape(field.shape[:2])


def predict(field: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """The prediction of every block of fields [..., hb, wb, 2] from its neighbours in the same field."""
    return _medians(*_neighbours(field))


def estimate_bits(
    fields: npt.NDArray[np.int16], previous: npt.NDArray[np.int16] | None = None
) -> npt.NDArray[np.float64]:
    """About what vectors of fields [..., hb, wb, 2] cost an encoder, in bits a block [..., hb, wb].

    Probabilities are those of a packet's start, so that no block waits for another. ``motion_bits`` is exact,
    and slow. Vectors and ``previous`` [hb, wb, 2] are within ``LIMIT``.
    """
    no, yes = _start_bits()
    neighbours = _neighbours(fields)
    prediction = _medians(*neighbours)
    vectors, predicted = _packed(fields), _packed(prediction)
    left, above, corner = (_packed(some) for some in neighbours)
    rows, columns = vectors.shape[-2:]
    equal = np.ones((*vectors.shape[:-2], rows + 1, columns + 1), np.int64)
    equal[..., 1:, 1:] = vectors == predicted
    context = equal[..., 1:, :-1] + equal[..., :-1, 1:] + 3 * (left == above) * (1 + (above == corner))
    before = None if previous is None else _packed(previous)
    if before is not None:
        context = context + 9 * (1 + (before == predicted))
    other = no[context]
    cheap = [(predicted, yes[context])]
    for place, candidate in enumerate((before, left, above)):
        if candidate is None:
            continue
        asked = np.ones(vectors.shape, dtype=bool)
        for earlier, _ in cheap:
            asked &= candidate != earlier
        cheap.append((candidate, other + yes[_CANDIDATE + place]))
        other = other + np.where(asked, no[_CANDIDATE + place], 0)
    difference = difference_bits()[np.abs(fields - prediction)]
    bits = other + difference[..., 0] + difference[..., 1]
    for candidate, cost in reversed(cheap):  # where candidates are the same, the first one counts
        bits = np.where(vectors == candidate, cost, bits)
    return bits


@cache
def difference_bits() -> npt.NDArray[np.float32]:
    """About what a component's difference from the prediction costs, float32 [511], by its magnitude."""
    no, yes = (bits.tolist() for bits in _start_bits())
    table = np.zeros(511)
    for base in _COMPONENTS:
        table[0] += no[base]
        for magnitude in range(1, 511):
            length = magnitude.bit_length() - 1
            table[magnitude] += yes[base] + 1 + sum(yes[base + 1 : base + 1 + length])
            if length < _LONGEST:
                table[magnitude] += no[base + 1 + length]
            if length:
                first = yes if magnitude >> (length - 1) & 1 else no
                table[magnitude] += first[base + 8 + length] + length - 1
    return (table / 2).astype(np.float32)


@cache
def _start_bits() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What a zero and a one cost in every context at a packet's start."""
    share = np.array([ones / (zeros + ones) for zeros, ones in START])
    return -np.log2(1 - share), -np.log2(share)


def _neighbours(
    field: npt.NDArray[np.int16],
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Left, above and above right of every block, with the format's rules for the edges."""
    left = np.zeros_like(field)
    left[..., 1:, :] = field[..., :-1, :]
    above, corner = left.copy(), left.copy()
    above[..., 1:, :, :] = field[..., :-1, :, :]
    corner[..., 1:, :-1, :] = field[..., :-1, 1:, :]
    if field.shape[-2]:
        corner[..., 1:, -1, :] = field[..., :-1, max(0, field.shape[-2] - 2), :]
    return left, above, corner


def _medians(
    left: npt.NDArray[np.int16], above: npt.NDArray[np.int16], corner: npt.NDArray[np.int16]
) -> npt.NDArray[np.int16]:
    return np.maximum(np.minimum(left, above), np.minimum(np.maximum(left, above), corner))


def _packed(field: npt.NDArray[np.int16]) -> npt.NDArray[np.int32]:
    """Each vector as one number, to compare both components at once."""
    return np.ascontiguousarray(field, dtype=np.int16).view(np.int32)[..., 0]
