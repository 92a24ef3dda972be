"""Block motion search of the encoder: quarter-pixel vectors for 16 × 16 blocks by SAD + λ · bits.

Candidates come from a dense flow (OpenCV's DIS), from zero and from neighbouring blocks, and are refined in
ever smaller steps. Blocks are searched all at once, so a pass is a few array operations, not a loop.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from s2vc.entropy.motion import LIMIT, VectorCost, predict

BLOCK = 16
SUBPIXEL = 4

Picture = NDArray[np.uint8]
Field = NDArray[np.int16]


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
        state = _Search(luma, reference_luma, smoothness, previous)
        if previous is not None:
            state.offer(previous)
        state.offer(self._first_guess(luma, reference_luma))
        for _ in range(2):
            state.offer_neighbours()
            state.refine((4, 2))
        state.refine((1,))
        state.offer_neighbours()
        return state.field

    def _first_guess(self, luma: Picture, reference: Picture) -> Field:
        height, width = luma.shape
        rows, columns = height // BLOCK, width // BLOCK
        if min(height, width) < 2 * BLOCK:  # DIS wants some picture to work with
            return np.zeros((rows, columns, 2), np.int16)
        # A new one each time: one that has seen small pictures has other settings for good.
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        flow = search.calc(luma, reference, None)  # type: ignore[call-overload]
        blocks = flow[::2, ::2].reshape(rows, BLOCK // 2, columns, BLOCK // 2, 2)
        median = np.median(blocks.transpose(0, 2, 1, 3, 4).reshape(rows, columns, -1, 2), axis=2)
        return np.clip(np.rint(median * SUBPIXEL), -LIMIT, LIMIT).astype(np.int16)


class _Search:
    """The best field so far, with each block's cost."""

    def __init__(self, luma: Picture, reference: Picture, smoothness: float, previous: Field | None) -> None:
        height, width = luma.shape
        self.rows, self.columns = height // BLOCK, width // BLOCK
        scale = np.array([[SUBPIXEL, 0, 0], [0, SUBPIXEL, 0]], np.float64)
        size = (width * SUBPIXEL, height * SUBPIXEL)
        self.fine = cv2.warpAffine(
            reference, scale, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        blocks = luma.reshape(self.rows, BLOCK, self.columns, BLOCK).transpose(0, 2, 1, 3)
        self.blocks = np.ascontiguousarray(blocks).astype(np.int16)
        self.smoothness = np.float32(smoothness)
        inside = np.arange(BLOCK) * SUBPIXEL
        self.y = (np.arange(self.rows) * BLOCK * SUBPIXEL)[:, None, None] + inside
        self.x = (np.arange(self.columns) * BLOCK * SUBPIXEL)[None, :, None] + inside
        self.field: Field = np.zeros((self.rows, self.columns, 2), np.int16)
        self.distortion = self._distortion(self.field)
        self.previous = previous
        self.cost = VectorCost(self.field, previous)

    def _distortion(self, field: Field) -> NDArray[np.float32]:
        y = np.clip(self.y + field[..., 1, None], 0, self.fine.shape[0] - 1)
        x = np.clip(self.x + field[..., 0, None], 0, self.fine.shape[1] - 1)
        index = y[..., :, None] * self.fine.shape[1] + x[..., None, :]
        predicted = self.fine.reshape(-1).take(index).astype(np.int16)
        return np.abs(predicted - self.blocks).sum((-1, -2), dtype=np.int32).astype(np.float32)

    def offer(self, candidate: Field) -> None:
        """Take the candidate wherever it costs less, given the predictions of the present field."""
        candidate = np.clip(candidate, -LIMIT, LIMIT)
        if np.array_equal(candidate, self.field):
            return
        distortion = self._distortion(candidate)
        new = distortion + self.smoothness * self.cost(candidate)
        old = self.distortion + self.smoothness * self.cost(self.field)
        better = new < old
        self.field = np.where(better[..., None], candidate, self.field)
        self.distortion = np.where(better, distortion, self.distortion)

    def settle(self) -> None:
        """Count costs from now on next to the present field's vectors."""
        self.cost = VectorCost(self.field, self.previous)

    def offer_neighbours(self) -> None:
        """Each block tries its prediction and the vectors of its four neighbours."""
        self.settle()
        self.offer(predict(self.field))
        for axis in (0, 1):
            for step in (1, -1):
                self.offer(np.roll(self.field, step, axis))

    def refine(self, steps: Iterable[int]) -> None:
        """Each block tries its vector moved by each step (quarter pixels) in four directions."""
        for step in steps:
            for x, y in ((step, 0), (-step, 0), (0, step), (0, -step)):
                self.offer(self.field + np.array([x, y], np.int16))
