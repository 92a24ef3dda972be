"""Metrics of change over time with a classical flow, OpenCV's DIS, that no model is trained on."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from s2vc.bench.metrics.chunk import Chunk, Measure, dense_flow, summary


class FlowDifference(Measure):
    """``tof-dis`` (Chu et al., TecoGAN, 2020): mean length of flow(decoded) − flow(source), by pair."""

    def __init__(self) -> None:
        self._values: dict[int, list[float]] = defaultdict(list)

    def add(self, chunk: Chunk) -> None:
        for number in chunk.decodings:
            difference = chunk.flow(number) - chunk.flow(None)
            self._values[number] += np.hypot(difference[..., 0], difference[..., 1]).mean((1, 2)).tolist()

    def results(self, number: int) -> dict[str, dict[str, Any]]:
        values = self._values[number]
        return {"tof-dis": summary(values, 4)} if values else {}


class WarpingError(Measure):
    """``warping-error-dis`` (Lai et al., ECCV 2018): how much a picture differs from the next, moved onto it.

    Mean over places that are not occluded, and over R, G and B in [0, 1], of the squared difference, times
    1000; one value a pair. Flow and occlusion (forward and backward flow disagree, Sundaram et al., 2010) are
    the source's. ``source`` beside the mean is the source's own: less than that is blur, not steadiness.
    """

    def __init__(self) -> None:
        self._values: dict[int | None, list[float]] = defaultdict(list)

    def add(self, chunk: Chunk) -> None:
        pictures = chunk.with_before(None)
        if len(pictures) < 2:
            return
        forward = chunk.flow(None)
        backward = dense_flow(pictures[1:], pictures[:-1])
        visible = [_visible(*pair) for pair in zip(forward, backward, strict=True)]
        for number in chunk.pictures:
            pictures = chunk.with_before(number)
            self._values[number] += [
                1000 * _error(pictures[k], pictures[k + 1], forward[k], visible[k])
                for k in range(len(forward))
            ]

    def results(self, number: int) -> dict[str, dict[str, Any]]:
        values = self._values[number]
        if not values:
            return {}
        return {"warping-error-dis": summary(values, 4, source=summary(self._values[None], 4)["mean"])}


def _look_up(values: NDArray[Any], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """``values`` (H, W, C) bilinearly read where ``flow`` points."""
    height, width = flow.shape[:2]
    x = np.arange(width, dtype=np.float32) + flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    moved = cv2.remap(values.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def _visible(forward: NDArray[np.float32], backward: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Places of the first picture that the second one has too."""
    height, width = forward.shape[:2]
    back = _look_up(backward, forward)
    disagreement = np.square(forward + back).sum(-1)
    agrees = disagreement < 0.01 * (np.square(forward).sum(-1) + np.square(back).sum(-1)) + 0.5
    x = np.arange(width) + forward[..., 0]
    y = np.arange(height)[:, None] + forward[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return agrees & inside


def _error(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    flow: NDArray[np.float32],
    visible: NDArray[np.bool_],
) -> float:
    squares = np.square((first.astype(np.float32) - _look_up(second, flow)) / 255)
    # a cut: nothing is to be seen again, and all of it counts
    return float(squares[visible].mean() if visible.any() else squares.mean())
