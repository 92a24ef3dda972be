"""Training footage decoded once into arrays, with motion fields, kept in a cache folder.

A cached clip is a folder of ``frames.npy`` (uint8 (T, H, W, 3), sides multiples of 16) and
``motion_STEP.npy`` (int16 (T, H/16, W/16, 2): frame t predicted from frame t − STEP, else zero).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from s2vc.codec.motion_search import BLOCK, MotionSearch
from s2vc.errors import InputError

SMOOTHNESS = 60.0  # of the cached fields: about what the middle of the quality range uses
SCALES = (1.0, 0.6)
PASSES = ((1.0, 1), (1.0, -1), (0.6, 1), (0.6, -1), (1.0, 2), (1.0, -2))


@dataclass(frozen=True)
class Clip:
    """A cached clip, memory-mapped."""

    name: str
    frames: NDArray[np.uint8]
    motion: dict[int, NDArray[np.int16]]


def _decode(path: Path) -> Iterator[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def _cropped(picture: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale != 1.0:
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    height, width = (side // BLOCK * BLOCK for side in picture.shape[:2])
    return np.ascontiguousarray(picture[:height, :width])


def _save(path: Path, array: NDArray[np.generic]) -> None:
    temporary = path.with_suffix(f".tmp{os.getpid()}.npy")
    np.save(temporary, array)
    os.replace(temporary, path)


def cache_clip(path: Path, cache: Path, scale: float, step: int) -> None:
    """Decode one clip at one scale and search its motion for one step, unless that is cached already."""
    folder = cache / f"{path.stem}@{scale:g}"
    folder.mkdir(parents=True, exist_ok=True)
    frames_path, motion_path = folder / "frames.npy", folder / f"motion_{step}.npy"
    if not frames_path.exists():
        _save(frames_path, np.stack([_cropped(frame, scale) for frame in _decode(path)]))
    if motion_path.exists():
        return
    frames = np.load(frames_path, mmap_mode="r")
    count, height, width, _ = frames.shape
    fields = np.zeros((count, height // BLOCK, width // BLOCK, 2), np.int16)
    search = MotionSearch()
    for t in range(count):
        if 0 <= t - step < count:
            fields[t] = search(np.asarray(frames[t]), np.asarray(frames[t - step]), SMOOTHNESS)
    _save(motion_path, fields)


def prepare(clips: Iterable[Path], cache: Path, *, share: tuple[int, int] = (0, 1)) -> None:
    """Fill the cache, most needed first. ``share`` (i, n) takes every n-th clip, to run n processes."""
    chosen = sorted(clips)[share[0] :: share[1]]
    if not chosen:
        raise InputError("no training clips found: check the data folder of the recipe")
    cv2.setNumThreads(1)
    for scale, step in PASSES:
        for path in chosen:
            cache_clip(path, cache, scale, step)


def load_clips(cache: Path, minimum_side: int) -> list[Clip]:
    """All cached clips whose sides reach ``minimum_side``, with the motion they have so far."""
    clips = []
    for folder in sorted(cache.glob("*@*")):
        steps = {int(p.stem.split("_")[1]): p for p in folder.glob("motion_*.npy") if ".tmp" not in p.name}
        if not steps:
            continue
        frames = np.load(folder / "frames.npy", mmap_mode="r")
        if min(frames.shape[1:3]) >= minimum_side:
            motion = {step: np.load(path) for step, path in sorted(steps.items())}
            clips.append(Clip(folder.name, frames, motion))
    return clips
