"""Batches of running sequences: every slot of a batch is a crop of a clip that goes on from step to step.

Buffers are kept between steps, so a network sees sequences of up to ``longest`` frames at the cost of a
few frames a step (TRAINING §3b: what never saw frame 5 in training drifts there).

A slot's n-th sequence is a function of the recipe's seed, the stage, the slot and n, and of nothing else: two
numbers a slot are the sampler's whole state, and slots can be shared out among processes at will.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from s2vc.codec.layers import KEY_PERIOD, Layer
from s2vc.codec.schedule import is_reset
from s2vc.errors import InputError
from s2vc.training.augment import augmented
from s2vc.training.footage import Library
from s2vc.training.semantic import FeatureCache
from s2vc.training.sequences import Footage, clip_sequence, still_sequence, usable_steps
from s2vc.training.streams import Purpose, stream

CUT_SHARE = 0.03  # of sequences: another scene without a warning
CUT_LENGTH = 8  # that a sequence needs for it
MOVE_SHARE, MOVE = 0.25, 8  # how often quality moves from step to step, and by how much at most
END_SHARE = 6  # qualities' worth of sequences that each end of the range gets besides its own


@dataclass
class Batch:
    """T frames of B slots: pictures uint8 (B, T, 3, h, w), motion int16 (B, T, h/16, w/16, 2), flags (B, T).

    ``intra[b, t]`` opens a sequence; ``reset[b, t]`` empties the feature buffer; ``age``: frames since the
    I-frame; quality int64 (B, T). ``semantic``: float32 (B, T, C, h/64, w/64), rounded up, of the teacher,
    where ``known`` (B, T); None without one. ``slots``: the slots' numbers in the whole batch.
    """

    pictures: NDArray[np.uint8]
    motion: NDArray[np.int16]
    intra: NDArray[np.bool_]
    reset: NDArray[np.bool_]
    age: NDArray[np.int64]
    quality: NDArray[np.int64]
    slots: list[int]
    semantic: NDArray[np.float32] | None
    known: NDArray[np.bool_]


@dataclass
class _Slot:
    ordinal: int = -1
    position: int = 0
    quality: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))  # of its steps
    footage: Footage | None = None


class Sampler:
    """Endless batches, deterministic given the seed, the stage's number and the library."""

    def __init__(
        self,
        library: Library,
        *,
        slots: Sequence[int],
        frames: int,
        crop: int,
        longest: int,
        short_share: float,
        still_share: float,
        reset_period: int,
        seed: int,
        stage: int,
        features: FeatureCache | None = None,
    ) -> None:
        self.clips = [
            clip
            for clip in library.clips
            if min(clip.frames.shape[1:3]) >= crop and usable_steps(clip, frames)
        ]
        self.images = [] if not still_share else library.images
        if not self.clips and not self.images:
            raise InputError(f"no clip has {frames} frames of {crop} x {crop}: give the stage a smaller crop")
        self.frames, self.crop, self.longest = frames, crop, longest
        self.short_share = short_share
        self.still_share, self.reset_period = still_share, reset_period
        self.seed, self.stage, self.features = seed, stage, features
        sizes = [len(c.frames) * np.sqrt(c.frames.shape[1] * c.frames.shape[2]) for c in self.clips]
        self.weights = np.array(sizes) / max(np.sum(sizes), 1)
        self.slots = {slot: _Slot() for slot in slots}

    def state(self) -> NDArray[np.int64]:
        """(slots, 2): which sequence of its own each slot is in, and the frame it goes on from."""
        return np.array([[s.ordinal, s.position] for s in self.slots.values()], np.int64)

    def restore(self, state: NDArray[np.int64]) -> None:
        """Go on from what ``state`` said of the same slots."""
        for (number, slot), (ordinal, position) in zip(self.slots.items(), state.tolist(), strict=True):
            if ordinal >= 0:
                self._open(number, slot, ordinal)
                slot.position = position

    def next(self) -> Batch:
        """The next T frames of every slot."""
        crop, count, frames = self.crop, len(self.slots), self.frames
        blocks = crop // 16
        pictures = np.empty((count, frames, 3, crop, crop), np.uint8)
        motion = np.zeros((count, frames, blocks, blocks, 2), np.int16)
        age = np.zeros((count, frames), np.int64)
        known = np.zeros((count, frames), bool)
        quality = np.zeros((count, frames), np.int64)
        semantic = None
        if self.features is not None:
            tokens = -(-crop // 64)
            semantic = np.zeros((count, frames, self.features.width, tokens, tokens), np.float32)
        for b, (number, slot) in enumerate(self.slots.items()):
            if slot.footage is None or slot.position + frames > len(slot.footage.frames):
                self._open(number, slot, slot.ordinal + 1)
            footage, begin = slot.footage, slot.position
            assert footage is not None
            pictures[b] = footage.frames[begin : begin + frames].transpose(0, 3, 1, 2)
            motion[b] = footage.motion[begin : begin + frames]
            age[b] = begin + np.arange(frames)
            if semantic is not None and footage.features is not None:
                for t, row in enumerate(footage.feature_of[begin : begin + frames]):
                    if row >= 0:
                        semantic[b, t], known[b, t] = footage.features[row], True
            asked = int(slot.quality[begin // frames])
            quality[b] = [Layer.of(n, KEY_PERIOD).quality(asked) for n in age[b]]
            slot.position += frames
        reset = np.vectorize(is_reset, otypes=[bool])(age, self.reset_period)
        return Batch(pictures, motion, age == 0, reset, age, quality, list(self.slots), semantic, known)

    def _open(self, number: int, slot: _Slot, ordinal: int) -> None:
        random = stream(self.seed, Purpose.SEQUENCE, self.stage, number, ordinal)
        most = self.longest // self.frames
        lengths = np.arange(1, most + 1)
        share = np.where(lengths == 1, self.short_share, (1 - self.short_share) / max(1, most - 1))
        odds = share / lengths  # a sequence of n windows is seen n times
        length = int(random.choice(lengths, p=odds / odds.sum())) * self.frames
        footage = self._footage(random, length)
        if length >= CUT_LENGTH and random.random() < CUT_SHARE:
            footage = footage.cut_to(self._footage(random, length), int(random.integers(2, length - 1)))
        whole = len(footage.frames) // self.frames * self.frames
        slot.footage = augmented(footage.first(whole), random)
        slot.ordinal, slot.position = ordinal, 0
        slot.quality = _draw_qualities(random, whole // self.frames)

    def _footage(self, random: np.random.Generator, length: int) -> Footage:
        if self.images and (not self.clips or random.random() < self.still_share):
            path = self.images[random.integers(len(self.images))]
            return still_sequence(path, random, length, self.crop, self.features)
        clip = self.clips[random.choice(len(self.clips), p=self.weights)]
        return clip_sequence(clip, random, length, self.frames, self.crop, self.features)


def _draw_qualities(random: np.random.Generator, count: int) -> NDArray[np.int64]:
    """0..63 for each of a sequence's steps: at times it moves, as rate control moves it.

    The ends come more often: they are learnt from one side only (docs/training.md).
    """
    moves = random.integers(-MOVE, MOVE + 1, count) * (random.random(count) < MOVE_SHARE)
    moves[:1] = random.integers(-END_SHARE, 64 + END_SHARE)
    return np.clip(np.cumsum(moves), 0, 63)
