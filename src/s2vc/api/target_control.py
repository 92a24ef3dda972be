"""A quality target while it is coded: measured on the way, so that the mean over all frames meets it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from s2vc.codec.layers import KEY_PERIOD
from s2vc.codec.rate_control import smooth
from s2vc.codec.schedule import LOOK_BACK
from s2vc.errors import TargetError

from .measures import Measure, QualityTarget

Picture = NDArray[np.uint8]

_TOLERANCE = 0.03  # share of a target that the mean may lie away from it without a word
_SHORTEST_REST = 8  # frames: fewer do not pay back all at once
_SOON = 12  # frames up to the first measurement; the next ones follow in 2, 3, … times as many
_DECAY = 4  # steps of quality that pictures are worth less soon behind an I-frame, about
_FEWEST = 2  # measurements that what is left is judged by


class TargetControl:
    """Chooses each frame's quality so that the metric's mean over all frames comes out at the target.

    Every ``interval`` frames (None: never) the encoder's last pictures are rendered and measured. ``curve``:
    expected goodness at each quality, float64 (64,), rising; measurements shift it. What is left is taken to
    be like as many of the frames behind: a short rest by what was measured last, a long one by all of it.

    frames: in all, about. intra_only: quality changes at I-frames alone (``base``).
    """

    def __init__(
        self,
        target: QualityTarget,
        measure: Measure,
        curve: NDArray[np.float64],
        frames: int,
        interval: int | None,
        intra_only: bool = False,
    ) -> None:
        self.target, self.frames, self.interval = target, frames, interval
        self._measure, self._curve, self._intra_only = measure, curve, intra_only
        self._sources: deque[Picture] = deque(maxlen=LOOK_BACK + 1)
        self._shifts: list[tuple[int, float]] = []  # frame, goodness beyond the curve's
        self._qualities: list[int] = []
        self._sum = 0.0  # of the metric over the frames up to the last measurement
        self._summed = 0
        self._next = _SOON

    def choose(self, intra: bool, time: int) -> int:
        if self._qualities and self._intra_only and not intra:
            quality = self._qualities[-1]
        else:
            quality = smooth(self._wanted(), self._qualities[-1] if self._qualities else None, intra)
        self._qualities.append(quality)
        return quality

    def coded(self, payload_bits: int) -> None:
        """Bits do not matter."""

    def known(self, quality: int, payload_bits: int) -> None:
        self._qualities[-1] = quality

    def container(self, bits: int) -> None:
        """Bits do not matter."""

    def saw(self, source: Picture, look: Callable[[], Sequence[Picture]]) -> None:
        """A frame was coded. look: the pictures that a decoder shows of the last frames."""
        if self.interval is None:
            return
        self._sources.append(source)
        done = len(self._qualities)
        if done <= self._next or self.frames - done < _SHORTEST_REST:
            return
        self._next = done + min(self.interval, _SOON * (len(self._shifts) + 2))
        # Pictures fade from key frame to key frame. In turn the four up to the first frame behind one, and
        # the four behind those; a network sees the last of them.
        half = KEY_PERIOD // 2
        self._next += (half * (len(self._shifts) % 2) + 1 - self._next) % KEY_PERIOD
        shown = look()
        value = self._measure(list(self._sources)[-len(shown) :], shown)
        self._shift(self.target.goodness(value) - float(self._curve[self._qualities[-1]]))

    def _shift(self, shift: float) -> None:
        """Frames between two measurements lie on a line between them."""
        last = self._shifts[-1][1] if self._shifts else shift
        passed = self._qualities[self._summed :]
        for number, quality in enumerate(passed, 1):
            between = last + (shift - last) * number / len(passed)
            self._sum += self.target.value_of(float(self._curve[quality]) + between)
        self._summed = len(self._qualities)
        self._shifts.append((self._summed, shift))

    @property
    def mean(self) -> float:
        """The metric's mean over the frames coded so far, as far as it was measured."""
        return self._done / max(1, len(self._qualities))

    @property
    def _done(self) -> float:
        last = self._shifts[-1][1] if self._shifts else 0.0
        return self._sum + sum(
            self.target.value_of(float(self._curve[quality]) + last)
            for quality in self._qualities[self._summed :]
        )

    def _wanted(self) -> float:
        """The quality that would bring the mean to the target if all that is left had it."""
        done = len(self._qualities)
        left = max(_SHORTEST_REST, self.frames - done)
        value = (self.target.value * (done + left) - self._done) / left
        recent = [shift for place, shift in self._shifts if place > done - left]
        recent = recent if len(recent) >= _FEWEST else [shift for _, shift in self._shifts[-_FEWEST:]]
        shift = float(np.mean(recent)) if recent else -_DECAY * self.target.rise
        return float(np.interp(self.target.goodness(value) - shift, self._curve, np.arange(64)))

    def judge(self, strict: bool) -> str | None:
        """One line where the mean is worse than the target; with ``strict`` it is a TargetError."""
        wanted = self.target.goodness(self.target.value) - self.target.slack(_TOLERANCE)
        if self.target.goodness(self.mean) >= wanted:
            return None
        message = (
            f"{self.target.metric} {self.target.value:g} cannot be met: quality {self._qualities[-1]} gives "
            f"about {self.mean:.4g}: choose a value nearer to it"
        )
        if strict:
            raise TargetError(message)
        return message
