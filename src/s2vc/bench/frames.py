"""Pictures to compare: source and decoded take the same way to 8-bit RGB, the codec's own (docs/video.md).

Frames are taken by their index, never by their times.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np


@cache
def conversion() -> str:
    """What a result says of its way to RGB; another one makes it stale."""
    return f"s2vc.video, PyAV {importlib.metadata.version('av')}"


def read_rgb(path: Path, limit: int | None = None) -> Iterator[np.ndarray]:
    """uint8 RGB (H, W, 3) frames of a video or of a folder of pictures, in order, at most ``limit``.

    Raises InputError where it cannot be read.
    """
    from s2vc.video import open_video

    with open_video(path, frames=limit) as reader:
        for frame in reader:
            yield frame.rgb


def frame_rate(path: Path) -> Fraction | None:
    """Frames a second of a video, None where it does not say. Raises InputError where it cannot be read."""
    from s2vc.video import open_video

    with open_video(path, frames=1) as reader:
        return reader.info.average_rate


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a video's pictures. Raises InputError where it cannot be read."""
    from s2vc.video import open_video

    with open_video(path, frames=1) as reader:
        return reader.info.width, reader.info.height
