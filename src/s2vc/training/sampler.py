"""Batches of running sequences: every slot of a batch is a crop of a clip that goes on from step to step.

Buffers are kept between steps, so a network sees sequences of up to ``longest`` frames at the cost of a
few frames a step (TRAINING §3b: what never saw frame 5 in training drifts there).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from s2vc.codec.motion_search import BLOCK
from s2vc.training.footage import Clip


@dataclass
class Batch:
    """T frames of B slots: pictures uint8 (B, T, 3, h, w), motion int16 (B, T, h/16, w/16, 2), flags (B, T).

    ``intra[b, t]`` opens a sequence; ``reset[b, t]`` empties the feature buffer; quality int64 (B,).
    """

    pictures: NDArray[np.uint8]
    motion: NDArray[np.int16]
    intra: NDArray[np.bool_]
    reset: NDArray[np.bool_]
    quality: NDArray[np.int64]


@dataclass
class _Sequence:
    """One slot's source: frames and fields of a crop, read T at a time."""

    frames: NDArray[np.uint8]  # (N, h, w, 3)
    motion: NDArray[np.int16]  # (N, h/16, w/16, 2)
    quality: int
    position: int = 0
    gain: NDArray[np.float32] = field(default_factory=lambda: np.ones(3, np.float32))
    offset: float = 0.0


class Sampler:
    """Endless batches, deterministic given the seed and the clips."""

    def __init__(
        self,
        clips: list[Clip],
        images: list[Path],
        *,
        batch: int,
        frames: int,
        crop: int,
        longest: int,
        still_share: float,
        reset_period: int,
        seed: int,
    ) -> None:
        self.clips, self.images = clips, images
        self.batch, self.frames, self.crop, self.longest = batch, frames, crop, longest
        self.still_share, self.reset_period = still_share, reset_period
        self.random = np.random.default_rng(seed)
        weights = np.array([len(c.frames) * np.sqrt(c.frames.shape[1] * c.frames.shape[2]) for c in clips])
        self.weights = weights / weights.sum()
        self.slots: list[_Sequence | None] = [None] * batch

    def next(self) -> Batch:
        crop, blocks = self.crop, self.crop // BLOCK
        shape = (self.batch, self.frames)
        pictures = np.empty((*shape, 3, crop, crop), np.uint8)
        motion = np.zeros((*shape, blocks, blocks, 2), np.int16)
        intra, reset = np.zeros(shape, bool), np.zeros(shape, bool)
        quality = np.zeros(self.batch, np.int64)
        for b in range(self.batch):
            slot = self.slots[b]
            if slot is None or slot.position + self.frames > len(slot.frames):
                slot = self.slots[b] = self._new_sequence()
            quality[b] = slot.quality
            for t in range(self.frames):
                n = slot.position + t
                frame = slot.frames[n]
                if slot.offset or (slot.gain != 1).any():
                    frame = np.clip(frame * slot.gain + slot.offset, 0, 255).astype(np.uint8)
                pictures[b, t] = frame.transpose(2, 0, 1)
                motion[b, t] = slot.motion[n]
                intra[b, t] = n == 0
                reset[b, t] = n > 0 and (n - 1) % self.reset_period == 0
            slot.position += self.frames
        return Batch(pictures, motion, intra, reset, quality)

    def _new_sequence(self) -> _Sequence:
        length = int(self.random.integers(2, self.longest // self.frames + 1)) * self.frames
        still = bool(self.images) and self.random.random() < self.still_share
        frames, motion = self._still(length) if still else self._clip(length)
        if self.random.random() < 0.5:
            frames = frames[:, :, ::-1]
            motion = motion[:, :, ::-1] * np.array([-1, 1], np.int16)
        motion = motion.copy()
        motion[0] = 0
        sequence = _Sequence(frames, motion, int(self.random.integers(0, 64)))
        if self.random.random() < 0.3:  # brightness and white balance
            gain = self.random.uniform(0.7, 1.15) * self.random.uniform(0.92, 1.08, 3)
            sequence.gain, sequence.offset = gain.astype(np.float32), float(self.random.uniform(-15, 25))
        return sequence

    def _clip(self, length: int) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
        while True:
            clip = self.clips[self.random.choice(len(self.clips), p=self.weights)]
            steps = [s for s in clip.motion if len(clip.frames) // abs(s) >= self.frames]
            if steps:
                break
        odds = np.array([1.0 if abs(s) == 1 else 0.35 for s in steps])
        step = steps[self.random.choice(len(steps), p=odds / odds.sum())]
        length = min(length, len(clip.frames) // abs(step) // self.frames * self.frames)
        span = (length - 1) * abs(step)
        start = int(self.random.integers(0, len(clip.frames) - span))
        indices = start + np.arange(length) * abs(step)
        if step < 0:
            indices = indices[::-1]
        height, width = clip.frames.shape[1:3]
        top = int(self.random.integers(0, (height - self.crop) // BLOCK + 1))
        left = int(self.random.integers(0, (width - self.crop) // BLOCK + 1))
        blocks = self.crop // BLOCK
        y, x = top * BLOCK, left * BLOCK
        frames = clip.frames[indices, y : y + self.crop, x : x + self.crop]
        return frames, clip.motion[step][indices, top : top + blocks, left : left + blocks]

    def _still(self, length: int) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
        """A photograph under a camera that stands still or pans evenly, in quarter pixels a frame."""
        path = self.images[self.random.integers(len(self.images))]
        picture = cv2.cvtColor(np.asarray(cv2.imread(str(path))), cv2.COLOR_BGR2RGB)
        smallest = (self.crop + 8) / min(picture.shape[:2])
        zoom = max(smallest, self.random.uniform(0.5, 1.0))
        size = (round(picture.shape[1] * zoom), round(picture.shape[0] * zoom))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        room = np.array(size) - self.crop
        velocity = np.rint(self.random.normal(0, 6, 2)).astype(np.int64)  # quarter pixels a frame
        if self.random.random() < 0.3:
            velocity[:] = 0
        limit = np.maximum(4 * room // max(1, length - 1), 0)
        velocity = np.clip(velocity, -limit, limit)
        travel = velocity * (length - 1) / 4
        start = np.array(
            [self.random.uniform(max(0, -d), r - max(0, d)) for d, r in zip(travel, room, strict=True)]
        )
        frames = np.empty((length, self.crop, self.crop, 3), np.uint8)
        for t in range(length):
            x, y = start + velocity * t / 4
            matrix = np.array([[1, 0, -x], [0, 1, -y]])
            frames[t] = cv2.warpAffine(
                picture,
                matrix,
                (self.crop, self.crop),
                flags=cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REPLICATE,
            )
        blocks = self.crop // BLOCK
        motion = np.broadcast_to(velocity.astype(np.int16), (length, blocks, blocks, 2)).copy()
        return frames, motion
