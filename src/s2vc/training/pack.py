"""``s2vc pack``: footage into shards, split at scene cuts, without what teaches nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from s2vc.codec.scene_cuts import SceneCuts
from s2vc.errors import InputError, OutputError, S2vcError
from s2vc.training.footage import PICTURES, VIDEOS, Source, search_fields, shrunk
from s2vc.training.shards import ShardWriter
from s2vc.video import open_video

Frames = NDArray[np.uint8]

FLAT = 6.0  # standard deviation of luma, in levels, below which a scene shows nothing
BLURRED = 12.0  # variance of the Laplacian, below which it shows nothing sharp
BLOCKY = (
    1.5  # steps across the edges of 8 × 8 blocks over steps elsewhere, above which it shows another codec
)


@dataclass
class Packed:
    """What came of it. ``dropped``: scenes left out, by reason; ``skipped``: clips that could not be read."""

    scenes: int = 0
    frames: int = 0
    shards: int = 0
    skipped: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def find_footage(places: Sequence[Path]) -> list[Source]:
    """Video files and folders of pictures: those named, and those in the folders named."""
    found = []
    for place in places:
        if place.is_file():
            found.append(Source(place.stem, place))
        elif place.is_dir():
            videos = [p for p in place.rglob("*") if p.suffix.lower() in VIDEOS]
            sequences = {p.parent for p in place.rglob("*") if p.suffix.lower() in PICTURES}
            for path in sorted([*videos, *sequences]):
                parts = path.relative_to(place).with_suffix("").parts or (path.name,)
                found.append(Source("_".join(parts), path))
        else:
            raise InputError(f"there is no {place}: name video files or folders")
    if not found:
        raise InputError("nothing to pack: name video files, or folders that hold some")
    return found


def scenes(pictures: Iterator[Frames], longest: int) -> Iterator[Frames]:
    """Frames between cuts, uint8 (T, H, W, 3), in pieces of at most ``longest``."""
    cuts, kept = SceneCuts(), list[Frames]()
    for picture in pictures:
        if kept and (cuts(picture) or len(kept) == longest):
            yield np.stack(kept)
            kept = []
        elif not kept:
            cuts(picture)
        kept.append(picture)
    if kept:
        yield np.stack(kept)


def fault(frames: Frames) -> str | None:
    """Why a scene is not worth training on: "flat", "blurred", "blocky"; None if it is."""
    middle = [frames[i] for i in (0, len(frames) // 2, len(frames) - 1)]
    lumas = [np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32) for picture in middle]
    if max(float(luma.std()) for luma in lumas) < FLAT:
        return "flat"
    if max(float(cv2.Laplacian(luma, cv2.CV_32F).var()) for luma in lumas) < BLURRED:
        return "blurred"
    if min(_blockiness(luma) for luma in lumas) > BLOCKY:
        return "blocky"
    return None


def _blockiness(luma: NDArray[np.float32]) -> float:
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(luma, axis=axis)).mean(1 - axis)
        edges = np.arange(len(steps)) % 8 == 7
        ratios.append(float(steps[edges].mean() / max(steps[~edges].mean(), 0.1)))
    return min(ratios)


def pack(
    places: Sequence[Path],
    out: Path,
    *,
    scales: Sequence[float] = (1.0,),
    steps: Sequence[int] = (1,),
    shortest: int = 8,
    longest: int = 96,
    shard_bytes: int = 1 << 30,
    keep_all: bool = False,
    warn: Callable[[str], None],
) -> Packed:
    """Write shards of all scenes into the folder ``out``, which must not hold any yet.

    ``steps``: motion is searched from t − step and t + step. ``keep_all``: no scene is left out for its
    looks. A clip that cannot be read is skipped with a warning and counted; of one that breaks off, whole
    scenes stay. Raises InputError, OutputError.
    """
    if out.exists() and any(out.glob("*.tar")):
        raise OutputError(f"{out} holds shards already: name another folder")
    sources = find_footage(places)
    names = Counter(source.name for source in sources)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"two clips are named {twice[0]}: pack them into different folders, or rename one")
    cv2.setNumThreads(1)
    packed, writer = Packed(), ShardWriter(out, shard_bytes)
    for source in sources:
        try:
            with open_video(source.path) as reader:
                found = scenes((frame.rgb for frame in reader), longest)
                for number, frames in enumerate(found):
                    reason = "short" if len(frames) < shortest else None if keep_all else fault(frames)
                    if reason is not None:
                        packed.dropped[reason] += 1
                        continue
                    _write(writer, f"{source.name.replace('.', '_')}-{number:04d}", frames, scales, steps)
                    packed.scenes += 1
                    packed.frames += len(frames)
        except S2vcError as error:
            packed.skipped += 1
            warn(f"skipped {source.path}: {error}")
    writer.close()
    packed.shards = writer.count
    if not packed.scenes:
        raise InputError(f"no scene was worth packing (dropped: {dict(packed.dropped)}): try --keep-all")
    return packed


def _write(
    writer: ShardWriter, name: str, frames: Frames, scales: Sequence[float], steps: Sequence[int]
) -> None:
    for scale in scales:
        small = np.stack([shrunk(frame, scale) for frame in frames])
        arrays: dict[str, NDArray[np.generic]] = {"frames": small}
        for step in steps:
            for signed in (step, -step):
                arrays[f"motion_{signed}"] = search_fields(small, signed)
        description = {"scale": scale, "frames": len(frames), "size": list(small.shape[1:3])}
        writer.write(f"{name}-s{round(100 * scale):03d}", arrays, description)
