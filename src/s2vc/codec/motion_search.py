"""Block motion search of the encoder: quarter-pixel vectors for 16 × 16 blocks by SAD + λ · bits.

A block's vector is also what its neighbours' vectors are predicted from, so a candidate is charged with what
it does to them as well. Blocks far enough apart are searched together, with all candidates at once: a round
is a few array operations, not a loop over blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import cv2
import numpy as np
from numpy.typing import NDArray

from s2vc.entropy.motion import LIMIT, estimate_bits, predict

BLOCK = 16
SUBPIXEL = 4

Picture = NDArray[np.uint8]
Field = NDArray[np.int16]

_REACH = BLOCK * SUBPIXEL
_WINDOW = _REACH - SUBPIXEL + 1  # from a block's first sample to its last
_PREDICTED = ((1, -1), (1, 0), (0, 1))  # the blocks, down and right of it, whose vectors a block's predicts
_DIRECTIONS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.int16)

# Shares of λ, and steps in quarter pixels: vectors are first to fit, then to agree. In the other order,
# blocks that agree on a wrong vector do not leave it one by one. Where two vectors meet, neither gains by one
# block more, so at last tiles of many blocks may take a neighbouring tile's vector as a whole.
_ROUNDS = ((0.1, (8, 4)), (0.3, (2,)), (1.0, (1,)))
_TILES = (8, 4, 2)


class MotionSearch:
    """Searches fields for pictures of one size; ``smoothness`` is λ, SAD (8-bit luma levels) a bit."""

    def __call__(
        self, current: Picture, reference: Picture, smoothness: float, previous: Field | None = None
    ) -> Field:
        """current, reference: uint8 (H, W, 3) RGB, sides multiples of 16. Returns int16 (H/16, W/16, 2).

        previous: the field of the frame before, where the decoder will have it.
        """
        luma = np.asarray(cv2.cvtColor(current, cv2.COLOR_RGB2GRAY), np.uint8)
        reference_luma = np.asarray(cv2.cvtColor(reference, cv2.COLOR_RGB2GRAY), np.uint8)
        state = _Search(luma, reference_luma, previous)
        guess = _dense_flow(luma, reference_luma)
        for share, steps in _ROUNDS:
            state.improve(partial(state.known_vectors, guess), share * smoothness)
            for step in steps:
                state.improve(partial(state.moved, step), share * smoothness)
        for size in _TILES:
            state.improve(partial(state.near_tiles, size), smoothness, size)
        state.improve(partial(state.known_vectors, guess), smoothness)
        return state.field


def _dense_flow(luma: Picture, reference: Picture) -> Field:
    """The median of OpenCV's DIS flow over each block; zero where there is not picture enough for it."""
    height, width = luma.shape
    rows, columns = height // BLOCK, width // BLOCK
    if min(height, width) < 2 * BLOCK:
        return np.zeros((rows, columns, 2), np.int16)
    # A new one each time: one that has seen small pictures has other settings for good.
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = search.calc(luma, reference, None)  # type: ignore[call-overload]
    blocks = flow[::2, ::2].reshape(rows, BLOCK // 2, columns, BLOCK // 2, 2)
    median = np.median(blocks.transpose(0, 2, 1, 3, 4).reshape(rows, columns, -1, 2), axis=2)
    return np.clip(np.rint(median * SUBPIXEL), -LIMIT, LIMIT).astype(np.int16)


@dataclass(frozen=True)
class _Turn:
    """Blocks of tiles that are chosen together: none's vectors are predictions of what another tile predicts.

    rows, columns, tile: (n,), where a tile's blocks are. owner: (H/16, W/16), the tile that a block is of or
    is predicted from, else ``count``.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    tile: NDArray[np.intp]
    owner: NDArray[np.intp]
    count: int


@lru_cache(maxsize=32)
def _turns(rows: int, columns: int, size: int) -> list[_Turn]:
    """Six turns of tiles of ``size`` blocks a side; fewer where there are not so many."""
    turns = []
    row, column = np.indices((rows, columns)) // size
    for y in range(2):
        for x in range(3):
            at_row, at_column = np.nonzero((row % 2 == y) & (column % 3 == x))
            if not at_row.size:
                continue
            names = row[at_row, at_column] * columns + column[at_row, at_column]
            names, tile = np.unique(names, return_inverse=True)
            owner = np.full((rows + 1, columns + 2), len(names))
            for down, right in (*_PREDICTED, (0, 0)):
                owner[at_row + down, at_column + 1 + right] = tile
            turns.append(_Turn(at_row, at_column, tile, owner[:-1, 1:-1], len(names)))
    return turns


@lru_cache(maxsize=32)
def _middles(rows: int, columns: int, size: int) -> NDArray[np.intp]:
    """Where in a flat field the middles of the nine tiles around each tile are: (9, rows, columns)."""
    row, column = (np.arange(count) // size * size + size // 2 for count in (rows, columns))
    step = np.array([-size, 0, size])
    row, column = (step[:, None] + row).clip(0, rows - 1), (step[:, None] + column).clip(0, columns - 1)
    return (row[:, None, :, None] * columns + column[:, None]).reshape(9, rows, columns)


class _Search:
    """The best field so far, from no motion on."""

    def __init__(self, luma: Picture, reference: Picture, previous: Field | None) -> None:
        height, width = luma.shape
        self.shape = rows, columns = height // BLOCK, width // BLOCK
        scale = np.array([[SUBPIXEL, 0, 0], [0, SUBPIXEL, 0]], np.float64)
        size = (width * SUBPIXEL, height * SUBPIXEL)
        fine = cv2.warpAffine(reference, scale, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        fine = cv2.copyMakeBorder(fine, _REACH, _REACH, _REACH, _REACH, cv2.BORDER_REPLICATE)
        every = np.lib.stride_tricks.sliding_window_view(fine, (_WINDOW, _WINDOW))
        self.windows = every[..., ::SUBPIXEL, ::SUBPIXEL]
        blocks = luma.reshape(rows, BLOCK, columns, BLOCK).transpose(0, 2, 1, 3)
        self.blocks = np.ascontiguousarray(blocks)
        self.previous = previous
        self.field: Field = np.zeros((rows, columns, 2), np.int16)

    def _distortion(
        self, vectors: Field, rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> NDArray[np.int32]:
        """SAD (n,) of vectors (n, 2) of the blocks at rows and columns (n,)."""
        # A window that starts beyond lies in the repeated border alone, wherever it starts.
        top = np.clip((rows + 1) * _REACH + vectors[:, 1], 0, self.windows.shape[0] - 1)
        left = np.clip((columns + 1) * _REACH + vectors[:, 0], 0, self.windows.shape[1] - 1)
        difference = cv2.absdiff(self.windows[top, left], self.blocks[rows, columns])
        return difference.reshape(len(vectors), -1).sum(1, dtype=np.int32)

    def known_vectors(self, guess: Field) -> Field:
        """What blocks may have in common with others: (K, H/16, W/16, 2)."""
        before = [] if self.previous is None else [self.previous]
        return np.stack([*self.near_tiles(1), predict(self.field), np.zeros_like(guess), *before, guess])

    def near_tiles(self, size: int) -> Field:
        """The vectors in the middle of the nine tiles around each tile: (9, H/16, W/16, 2)."""
        return self.field.reshape(-1, 2)[_middles(*self.shape, size)]

    def moved(self, step: int) -> Field:
        """Each block's vector moved in four directions: (4, H/16, W/16, 2)."""
        return self.field + np.int16(step) * _DIRECTIONS[:, None, None]

    def improve(self, candidates: Callable[[], Field], smoothness: float, size: int = 1) -> None:
        """Each tile takes the candidate, of (K, H/16, W/16, 2), with which the whole field costs least."""
        for turn in _turns(*self.shape, size):
            rows, columns = turn.rows, turn.columns
            some = np.clip(candidates()[:, rows, columns], -LIMIT, LIMIT)
            self._choose(np.concatenate([self.field[None, rows, columns], some]), turn, smoothness)

    def _choose(self, vectors: Field, turn: _Turn, smoothness: float) -> None:
        """vectors: (K, n, 2) of the turn's blocks, the present ones first."""
        rows, columns = turn.rows, turn.columns
        vectors = vectors[[0, *np.flatnonzero((vectors != vectors[0]).any((1, 2)))]]
        if len(vectors) == 1:
            return
        first = (vectors[:, None] == vectors).all(-1).argmax(1)  # (K, n): the first with the same vector
        candidate, block = np.nonzero(first == np.arange(len(vectors))[:, None])
        distortion = np.empty(first.shape)
        distortion[candidate, block] = self._distortion(
            vectors[candidate, block], rows[block], columns[block]
        )
        distortion = np.take_along_axis(distortion, first, 0)
        fields = np.repeat(self.field[None], len(vectors), 0)
        fields[:, rows, columns] = vectors
        bits = _sums(estimate_bits(fields, self.previous), turn.owner, turn.count)
        best = np.argmin(_sums(distortion, turn.tile, turn.count) + smoothness * bits, axis=0)[turn.tile]
        chosen = np.arange(rows.size)
        self.field[rows, columns] = vectors[best, chosen]


def _sums(values: NDArray[np.float64], label: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    """Sums (K, count) of values (K, …) of each label; labels of ``count`` are left out."""
    places = np.arange(len(values))[:, None] * (count + 1) + label.reshape(1, -1)
    sums: NDArray[np.float64] = np.bincount(
        places.ravel(), values.ravel(), minlength=len(values) * (count + 1)
    ).astype(np.float64, copy=False)
    return sums.reshape(len(values), -1)[:, :count]
