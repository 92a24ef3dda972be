"""Where I-frames go: at scene cuts, and at least every so often. An encoder's choice; no decoder knows of it.

A picture begins a scene when the pictures before it hardly help to predict it, which is when an I-frame costs
no more than a P-frame. That is asked of small pictures, in blocks: is the best prediction from an earlier
picture (moved a little, its brightness and contrast fitted) better than the block's own mean? Fitted contrast
takes fades for what they are, and the memory of half a second takes the end of a flash for the return that it
is. There is no look-ahead, so that live encoding decides alike.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Luma = NDArray[np.float32]

_SIDE = 64  # pixels of the longer side of the small pictures, about
_BLOCK = 8
_REACH = 4  # small pixels that a block may have moved
_MEMORY = 12  # pictures
_MAX_GAIN = 4.0
# What of the blocks' own detail must stay unpredicted at a cut, and how large (8-bit levels) that must be for
# anything to be seen. Chosen on 170 training clips one after another (docs/decisions.md).
_UNPREDICTED = 0.85
_VISIBLE = 2.0


def _small(picture: Picture) -> Luma:
    """float32 luma with sides that are multiples of the block, the longer one near ``_SIDE``."""
    height, width = picture.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    rows, columns = (max(1, round(side * scale / _BLOCK)) * _BLOCK for side in (height, width))
    small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)


def _block_sums(values: Luma) -> NDArray[np.float32]:
    rows, columns = (side // _BLOCK for side in values.shape)
    return values.reshape(rows, _BLOCK, columns, _BLOCK).sum((1, 3))


def _own_detail(luma: Luma) -> NDArray[np.float32]:
    """Sum of absolute differences to each block's mean."""
    mean = _block_sums(luma) / _BLOCK**2
    return _block_sums(np.abs(luma - np.repeat(np.repeat(mean, _BLOCK, 0), _BLOCK, 1)))


def _fitted(reference: Luma, luma: Luma) -> Luma:
    """The reference with the brightness and contrast at which it predicts ``luma`` best."""
    centre, mean = reference.mean(), luma.mean()
    apart = reference - centre
    variance = float((apart * apart).mean())
    gain = float((apart * (luma - mean)).mean()) / variance if variance > 0 else 0.0
    return np.asarray(np.clip(gain, 0.0, _MAX_GAIN) * apart + mean, np.float32)


def _difference(luma: Luma, reference: Luma) -> NDArray[np.float32]:
    """Sum of absolute differences of each block to where the reference fits it best."""
    rows, columns = luma.shape
    padded = np.pad(reference, _REACH, mode="edge")
    best = None
    for down in range(2 * _REACH + 1):
        for across in range(2 * _REACH + 1):
            sums = _block_sums(np.abs(luma - padded[down : down + rows, across : across + columns]))
            best = sums if best is None else np.minimum(best, sums)
    assert best is not None
    return best


class SceneCuts:
    """Told every picture in order, says of each how it relates to those before it."""

    def __init__(self) -> None:
        self._past: deque[Luma] = deque(maxlen=_MEMORY)
        self.returned = False  # the last picture was like an earlier one, not like the one right before it

    def __call__(self, picture: Picture) -> bool:
        """Whether this picture, uint8 RGB (H, W, 3), begins a scene. The first one does."""
        luma = _small(picture)
        detail = _own_detail(luma)
        news = [True]
        for reference in reversed(self._past):
            news.append(self._is_new(luma, reference, detail))
            if not news[-1]:
                break
        self.returned = not news[-1] and len(news) > 2
        self._past.append(luma)
        return news[-1]

    def score(self, luma: Luma, reference: Luma, detail: NDArray[np.float32]) -> float:
        """Share of the blocks' own detail that stays unpredicted: 0 for a still picture, 1 at a cut."""
        floor = _VISIBLE * _BLOCK**2
        if np.abs(luma - reference).mean() < _VISIBLE:  # as almost always: nothing to search for
            return 0.0
        left = np.maximum(np.minimum(_difference(luma, _fitted(reference, luma)), detail), 0)
        own = np.maximum(detail, floor)
        return float(left.sum() / own.sum())

    def _is_new(self, luma: Luma, reference: Luma, detail: NDArray[np.float32]) -> bool:
        return self.score(luma, reference, detail) > _UNPREDICTED


class IntraPlacement:
    """Which frames are I-frames.

    min_keyint: frames from one to the next at least, for cuts: a cut that comes earlier waits, and is
    forgotten if it was a flash. scene_cuts: whether cuts get I-frames at all.
    """

    def __init__(self, min_keyint: int, scene_cuts: bool) -> None:
        self.min_keyint = min_keyint
        self._cuts = SceneCuts() if scene_cuts else None
        self._waiting = False

    def __call__(self, picture: Picture, since_intra: int, due: bool) -> bool:
        """since_intra: frames that the last I-frame lies behind this picture; 0 for the first picture.
        due: it has been long enough.
        """
        if self._cuts is not None:
            cut = self._cuts(picture)
            self._waiting = cut or (self._waiting and not self._cuts.returned)
        ready = since_intra >= self.min_keyint and self._waiting
        intra = since_intra == 0 or due or ready
        self._waiting = self._waiting and not intra
        return intra
