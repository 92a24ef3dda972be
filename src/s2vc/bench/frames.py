"""Pictures to compare: source and decoded take the same way to 8-bit RGB (docs/video.md).

Frames are taken by their index, never by their times.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from s2vc.bench.codecs import ffmpeg
from s2vc.errors import InputError

CONVERSION = "ffmpeg rgb24, accurate_rnd+full_chroma_int+full_chroma_inp+bicubic"


def read_rgb(path: Path, limit: int | None = None) -> Iterator[np.ndarray]:
    """uint8 RGB (H, W, 3) frames of a video file or a folder of PNG pictures, in order, at most ``limit``."""
    if not path.exists():
        raise InputError(f"no {path}: set S2VC_DATA_DIR to the folder of footage, or correct the spec")
    source = ["-framerate", "25", "-i", str(path / "%05d.png")] if path.is_dir() else ["-i", str(path)]
    command = [
        *[ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-threads", "1", *source],
        *["-map", "0:v:0", "-fps_mode", "passthrough"],
        *([] if limit is None else ["-frames:v", str(limit)]),
        *["-sws_flags", "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp", "-pix_fmt", "rgb24"],
        *["-f", "image2pipe", "-c:v", "ppm", "-"],
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while process.stdout.readline() == b"P6\n":
            width, height = map(int, process.stdout.readline().split())
            process.stdout.readline()
            data = process.stdout.read(width * height * 3)
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
        process.stdout.close()
