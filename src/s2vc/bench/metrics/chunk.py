"""A few frames of a source and of its decodings, and what several metrics need of them, computed once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from s2vc.video.colour import limited_yuv

Pictures = NDArray[np.uint8]


class Chunk:
    """Consecutive frames of a source (number None) and of each decoding, uint8 RGB (F, H, W, 3).

    The frame before the chunk, where there is one, is kept with it, so that no pair of neighbours is lost.
    """

    def __init__(self, start: int, pictures: dict[int | None, Pictures], before: Chunk | None) -> None:
        """``start``: index of the first frame. ``before``: the chunk that ended just before it."""
        self.start = start
        self.pictures = pictures
        self.decodings = [number for number in pictures if number is not None]
        self.before = None if before is None else {n: before.pictures[n][-1:] for n in pictures}
        self._yuv: dict[int | None, Pictures] = {}
        self._flow: dict[int | None, NDArray[np.float32]] = {}

    @property
    def first_pair(self) -> int:
        """Index of the first frame of the first pair of neighbours."""
        return self.start if self.before is None else self.start - 1

    def with_before(self, number: int | None) -> Pictures:
        """The frames behind the one before them: each and the next are a pair."""
        if self.before is None:
            return self.pictures[number]
        return np.concatenate([self.before[number], self.pictures[number]])

    def yuv(self, number: int | None) -> Pictures:
        """uint8 (F, 3, H, W): 4:4:4, limited range, BT.709 from 1280 wide or 720 high on, else BT.601."""
        if number not in self._yuv:
            self._yuv[number] = np.stack([limited_yuv(picture) for picture in self.pictures[number]])
        return self._yuv[number]

    def flow(self, number: int | None) -> NDArray[np.float32]:
        """float32 (pairs, H, W, 2), pixels, x then y: where the first picture's places lie in the second."""
        if number not in self._flow:
            pictures = self.with_before(number)
            self._flow[number] = dense_flow(pictures[:-1], pictures[1:])
        return self._flow[number]


def dense_flow(first: Pictures, second: Pictures) -> NDArray[np.float32]:
    """OpenCV's DIS flow ("medium") of uint8 RGB (pairs, H, W, 3), twice -> float32 (pairs, H, W, 2)."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    fields = np.zeros((*first.shape[:3], 2), np.float32)
    for field, *pair in zip(fields, first, second, strict=True):
        grey = [np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8) for picture in pair]
        field[:] = search.calc(*grey, None)  # type: ignore[call-overload]
    return fields


class Measure(ABC):
    """One pass of one or more metrics over a clip."""

    @abstractmethod
    def add(self, chunk: Chunk) -> None:
        """Take the next frames. A decoding that is missing from now on has failed and is not asked for."""

    @abstractmethod
    def results(self, number: int) -> dict[str, dict[str, Any]]:
        """Name of metric -> its result for a decoding; a metric that had too few frames is left out.

        Raises S2vcError when the measuring itself failed.
        """

    def close(self) -> None:  # noqa: B027 (most have nothing to let go)
        """Let go of processes and files, finished or not."""


def summary(values: Sequence[float], digits: int, **more: Any) -> dict[str, Any]:
    """``{"mean": ..., **more, "frames": [...]}`` with the list rounded to ``digits``, the mean one finer."""
    return {
        "mean": round(float(np.mean(values)), digits + 1),
        **more,
        "frames": [round(float(value), digits) for value in values],
    }
