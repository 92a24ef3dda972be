"""Training footage decoded once into arrays, with motion fields, kept in a cache folder.

A cached clip is a folder of ``frames.npy`` (uint8 (T, H, W, 3), sides multiples of 16),
``motion_STEP.npy`` (int16 (T, H/16, W/16, 2): frame t predicted from frame t − STEP, else zero) and, where a
recipe has a teacher, ``features_TEACHER.npy`` (:mod:`s2vc.training.semantic`).
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from s2vc.codec.motion_search import BLOCK, MotionSearch
from s2vc.errors import InputError, S2vcError
from s2vc.training.recipe import Data
from s2vc.training.shards import open_shard
from s2vc.video import open_video

SMOOTHNESS = 60.0  # of the cached fields: about what the middle of the quality range uses
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".y4m")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Clip:
    """Frames uint8 (T, H, W, 3), memory-mapped; fields by step; ``folder``: where they are cached, if so."""

    name: str
    frames: NDArray[np.uint8]
    motion: dict[int, NDArray[np.int16]]
    folder: Path | None = None


@dataclass(frozen=True)
class Source:
    """A clip before it is decoded: a video file, or a folder of pictures."""

    name: str
    path: Path


@dataclass
class Library:
    """What a run trains on. ``skipped``: how many sources could not be read."""

    clips: list[Clip]
    images: list[Path] = field(default_factory=list)
    skipped: int = 0

    def fingerprint(self) -> str:
        """Changes when other clips, fields or photographs are drawn from."""
        parts = [f"{clip.name} {clip.frames.shape} {sorted(clip.motion)}" for clip in self.clips]
        return hashlib.sha256("\n".join([*parts, *(path.name for path in self.images)]).encode()).hexdigest()[
            :16
        ]


def find_sources(root: Path, data: Data) -> list[Source]:
    """Clips and picture sequences of a recipe, sorted by name; a missing folder is an InputError."""
    found: dict[str, Source] = {}
    for place in data.clips:
        folder = _folder(root / place)
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEOS):
            _add(found, path.relative_to(folder).with_suffix(""), path)
    for place in data.sequences:
        folder = _folder(root / place)
        holding = {p.parent for p in folder.rglob("*") if p.suffix.lower() in PICTURES}
        for path in sorted(holding):
            _add(found, path.relative_to(folder), path)
    return [found[name] for name in sorted(found)]


def find_images(root: Path, data: Data) -> list[Path]:
    """All photographs of a recipe's image folders, sorted."""
    return [
        path
        for place in data.images
        for path in sorted(_folder(root / place).rglob("*"))
        if path.suffix.lower() in PICTURES
    ]


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise InputError(f"there is no folder {path}: check the recipe's data and --data")
    return path


def _add(found: dict[str, Source], relative: Path, path: Path) -> None:
    name = "_".join(relative.parts) or path.name
    if name in found:
        raise InputError(f"{path} and {found[name].path} would share the name {name}: rename one")
    found[name] = Source(name, path)


def passes(data: Data, moving: bool = True) -> list[tuple[float, int]]:
    """(scale, step) of every field to search, most needed first: ±1 at all scales, others at the largest.

    Without ``moving`` frames alone are wanted: step 0.
    """
    scales = sorted(data.scales, reverse=True)
    if not moving:
        return [(scale, 0) for scale in scales]
    skips = [step for step in data.steps if step > 1]
    near = [(scale, step) for scale in scales for step in (1, -1)]
    return near + [(scales[0], sign * step) for step in skips for sign in (1, -1)]


def shrunk(picture: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale != 1.0:
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    height, width = (side // BLOCK * BLOCK for side in picture.shape[:2])
    return np.ascontiguousarray(picture[:height, :width])


def decode(path: Path, scale: float) -> NDArray[np.uint8]:
    """All frames of a clip at one scale, uint8 (T, H, W, 3), sides cut to multiples of 16.

    Raises InputError or DamagedError where it cannot be read, or has fewer than two frames.
    """
    with open_video(path) as reader:
        frames = [shrunk(frame.rgb, scale) for frame in reader]
    if len(frames) < 2 or min(frames[0].shape[:2]) < BLOCK:
        raise InputError(f"{path} is too short or too small: at least two frames of 16 x 16 are needed")
    return np.stack(frames)


def search_fields(frames: NDArray[np.uint8], step: int) -> NDArray[np.int16]:
    """int16 (T, H/16, W/16, 2): frame t predicted from frame t − step; zero where there is none."""
    count, height, width, _ = frames.shape
    fields = np.zeros((count, height // BLOCK, width // BLOCK, 2), np.int16)
    search = MotionSearch()
    for t in range(count):
        if 0 <= t - step < count:
            fields[t] = search(np.asarray(frames[t]), np.asarray(frames[t - step]), SMOOTHNESS)
    return fields


def save_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write an array under its name once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".tmp{os.getpid()}.npy")
    np.save(temporary, array)
    os.replace(temporary, path)


def cache_folder(cache: Path, name: str, scale: float) -> Path:
    return cache / f"{name}@{scale:g}"


def _cache_clip(source: Source, cache: Path, scale: float, step: int) -> None:
    folder = cache_folder(cache, source.name, scale)
    frames_path, motion_path = folder / "frames.npy", folder / f"motion_{step}.npy"
    if not frames_path.exists():
        save_array(frames_path, decode(source.path, scale))
    if step and not motion_path.exists():
        save_array(motion_path, search_fields(np.load(frames_path, mmap_mode="r"), step))


def prepare(
    sources: Sequence[Source],
    cache: Path,
    wanted: Iterable[tuple[float, int]],
    *,
    warn: Warn,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Fill the cache. ``share`` (i, n) takes every n-th clip, to run n processes.

    A clip that cannot be read is skipped with a warning: ``load_library`` counts it.
    """
    cv2.setNumThreads(1)
    unreadable: set[str] = set()
    for scale, step in wanted:
        for source in sources[share[0] :: share[1]]:
            if source.name in unreadable:
                continue
            try:
                _cache_clip(source, cache, scale, step)
            except (S2vcError, ValueError, EOFError) as error:
                unreadable.add(source.name)
                warn(f"skipped {source.path}: {error}")


def load_library(root: Path, data: Data, cache: Path, sources: Sequence[Source], warn: Warn) -> Library:
    """Everything the recipe names, of what the cache and shards hold. InputError where no clip is left."""
    library = Library([])
    for path in find_images(root, data):
        if cv2.haveImageReader(str(path)):
            library.images.append(path)
        else:
            library.skipped += 1
            warn(f"skipped {path}: it is no picture")
    for source in sources:
        loaded = [_load(cache_folder(cache, source.name, scale), data) for scale in data.scales]
        library.clips += [clip for clip in loaded if clip is not None]
        library.skipped += all(clip is None for clip in loaded)
    for pattern in data.shards:
        paths = sorted(root.glob(pattern))
        if not paths:
            raise InputError(f"no shard fits {root / pattern}: make some with s2vc pack")
        for path in paths:
            for name, frames, motion in open_shard(path):
                clip = Clip(name, frames, motion)
                library.clips.append(_in_memory(clip) if data.in_memory else clip)
    names = Counter(clip.name for clip in library.clips)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"two clips are named {', '.join(sorted(twice))}: give each a name of its own")
    if not library.clips:
        raise InputError(f"none of the recipe's {len(sources)} clips can be read: check its data and --data")
    return library


def _load(folder: Path, data: Data) -> Clip | None:
    if not (folder / "frames.npy").exists():
        return None
    steps = {int(p.stem.split("_")[1]): p for p in folder.glob("motion_*.npy") if ".tmp" not in p.name}
    motion = {step: np.load(path) for step, path in sorted(steps.items()) if abs(step) in {1, *data.steps}}
    clip = Clip(folder.name, np.load(folder / "frames.npy", mmap_mode="r"), motion, folder)
    return _in_memory(clip) if data.in_memory else clip


def _in_memory(clip: Clip) -> Clip:
    return Clip(clip.name, np.array(clip.frames), clip.motion, clip.folder)
