"""One sequence of training: a crop of a clip, or a photograph under a camera that moves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from s2vc.codec.motion_search import BLOCK
from s2vc.training.footage import Clip
from s2vc.training.semantic import FeatureCache

Affine = NDArray[np.float64]  # (2, 3): a frame's pixel -> the photograph's

SKIP_ODDS = {1: 1.0, 2: 0.35, 3: 0.2}  # of a clip read with so many frames' step
STATIC_SHARE = 0.3  # of stills: the camera stands
TURNING_SHARE = 0.4  # of stills: it zooms and turns too


@dataclass
class Footage:
    """frames uint8 (N, h, w, 3); motion int16 (N, h/16, w/16, 2), the first field zero.

    ``features`` float32 (M, C, h/64, w/64), rounded up, of a teacher, or None; ``feature_of`` (N,): the row
    of a frame's, or −1.
    """

    frames: NDArray[np.uint8]
    motion: NDArray[np.int16]
    features: NDArray[np.float32] | None
    feature_of: NDArray[np.int64]

    def first(self, count: int) -> Footage:
        return Footage(self.frames[:count], self.motion[:count], self.features, self.feature_of[:count])

    def cut_to(self, other: Footage, at: int) -> Footage:
        """This footage up to frame ``at``, then ``other`` without a warning; as long as this one."""
        at = min(at, len(self.frames) - 1)
        rest = min(len(self.frames) - at, len(other.frames))
        features, later = self.features, other.feature_of[:rest].copy()
        if self.features is not None and other.features is not None:
            features = np.concatenate([self.features, other.features])
            later[later >= 0] += len(self.features)
        return Footage(
            np.concatenate([self.frames[:at], other.frames[:rest]]),
            np.concatenate([self.motion[:at], other.motion[:rest]]),
            features,
            np.concatenate([self.feature_of[:at], later]),
        )


def usable_steps(clip: Clip, frames: int) -> list[int]:
    """Steps at which a clip gives at least ``frames`` frames."""
    return [step for step in clip.motion if len(clip.frames) // abs(step) >= frames]


def clip_sequence(
    clip: Clip,
    random: np.random.Generator,
    length: int,
    multiple: int,
    crop: int,
    features: FeatureCache | None,
) -> Footage:
    """A random crop of a clip: up to ``length`` frames, a multiple of ``multiple``, forward or backward."""
    steps = usable_steps(clip, multiple)
    odds = np.array([SKIP_ODDS[abs(step)] for step in steps])
    step = steps[random.choice(len(steps), p=odds / odds.sum())]
    length = min(length, len(clip.frames) // abs(step) // multiple * multiple)
    span = (length - 1) * abs(step)
    start = int(random.integers(0, len(clip.frames) - span))
    indices = start + np.arange(length) * abs(step)
    if step < 0:
        indices = indices[::-1]
    height, width = clip.frames.shape[1:3]
    blocks = crop // BLOCK
    top = int(random.integers(0, height // BLOCK - blocks + 1))
    left = int(random.integers(0, width // BLOCK - blocks + 1))
    y, x = top * BLOCK, left * BLOCK
    motion = clip.motion[step][indices, top : top + blocks, left : left + blocks].copy()
    motion[0] = 0
    found, feature_of = None, np.full(length, -1)
    if features is not None:
        transform = np.array([[1, 0, x], [0, 1, y]], np.float64)
        found, feature_of = features.of_clip(clip, indices, [transform] * length, crop)
    return Footage(clip.frames[indices, y : y + crop, x : x + crop], motion, found, feature_of)


def still_sequence(
    path: Path, random: np.random.Generator, length: int, crop: int, features: FeatureCache | None
) -> Footage:
    """A photograph under a camera that stands, pans by quarter pixels a frame, or zooms and turns."""
    whole = cv2.cvtColor(np.asarray(cv2.imread(str(path))), cv2.COLOR_BGR2RGB)
    smallest = (crop + 8) / min(whole.shape[:2])
    zoom = max(smallest, random.uniform(0.5, 1.0))
    size = (round(whole.shape[1] * zoom), round(whole.shape[0] * zoom))
    picture = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    transforms = _camera(np.array(size), random, length, crop)
    frames = np.empty((length, crop, crop, 3), np.uint8)
    for t, transform in enumerate(transforms):
        frames[t] = cv2.warpAffine(
            picture,
            transform,
            (crop, crop),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    motion = np.zeros((length, crop // BLOCK, crop // BLOCK, 2), np.int16)
    for t in range(1, length):
        motion[t] = _field(transforms[t - 1], transforms[t], crop)
    found, feature_of = None, np.full(length, -1)
    if features is not None:
        found, feature_of = features.of_image(path, [t / zoom for t in transforms], crop)
    return Footage(frames, motion, found, feature_of)


def _camera(size: NDArray[np.int64], random: np.random.Generator, length: int, crop: int) -> list[Affine]:
    """Where each frame's pixels lie in a picture of ``size`` (width, height)."""
    velocity = np.rint(random.normal(0, 6, 2)).astype(np.int64)  # quarter pixels a frame
    if random.random() < STATIC_SHARE:
        velocity[:] = 0
    room = size - crop
    velocity = np.clip(velocity, *(sign * np.maximum(4 * room // max(1, length - 1), 0) for sign in (-1, 1)))
    travel = velocity * (length - 1) / 4
    start = np.array([random.uniform(max(0, -d), r - max(0, d)) for d, r in zip(travel, room, strict=True)])
    turn, growth = random.normal(0, np.radians(0.4)), random.normal(0, 0.006)
    if random.random() >= TURNING_SHARE:
        turn = growth = 0.0
    middle = (crop - 1) / 2
    transforms = []
    for t in range(length):
        scale, angle = np.exp(growth * t), turn * t
        matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shift = start + velocity * t / 4 + middle - matrix @ np.full(2, middle)
        transforms.append(np.column_stack([matrix, shift]))
    return transforms


def _field(before: Affine, now: Affine, crop: int) -> NDArray[np.int16]:
    """Quarter-pixel vectors (crop/16, crop/16, 2) from block centres to their spots in the frame before."""
    centres = np.arange(crop // BLOCK) * BLOCK + (BLOCK - 1) / 2
    x, y = np.meshgrid(centres, centres)
    here = np.stack([x, y], -1)
    spot = here @ now[:, :2].T + now[:, 2]
    there = (spot - before[:, 2]) @ np.linalg.inv(before[:, :2]).T
    return np.clip(np.rint((there - here) * 4), -1023, 1023).astype(np.int16)
