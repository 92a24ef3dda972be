"""Folders and patterns of numbered pictures, in and out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from s2vc.errors import InputError, OutputError
from s2vc.video.base import SMALLEST_SIDE, Picture, Trim, VideoReader, VideoWriter, reason
from s2vc.video.colour import RgbConverter, colour_of
from s2vc.video.info import Frame, VideoInfo
from s2vc.video.rotate import turned
from s2vc.video.staging import StagedPictures, picture_pattern

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
DEFAULT_RATE = Fraction(25)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts ``frame2`` before ``frame10``."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part.lower()) for part in parts]


def is_pictures(source: str | Path) -> bool:
    """Is this a folder, a pattern (``%05d``, ``*``) of pictures, or one picture?"""
    path = Path(source)
    if path.is_dir():
        return True
    return path.suffix.lower() in SUFFIXES


def find_pictures(source: str | Path) -> tuple[list[Path], str | None]:
    """The pictures of a folder or a pattern in order, and a warning or None. Raises InputError."""
    path = Path(source)
    if "%" in path.name and not path.exists():
        return _numbered(path)
    if path.is_dir():
        found = [entry for entry in path.iterdir() if _is_picture(entry)]
        # Beside PNG frames, other pictures are thumbnails and contact sheets.
        found = [entry for entry in found if entry.suffix.lower() == ".png"] or found
        problem = f"folder {path} holds no pictures"
    elif path.is_file():
        found, problem = [path], ""
    elif re.search(r"[*?]", path.name):
        found = list(path.parent.glob(path.name))
        problem = f"no picture fits {source}"
    else:
        found = []
        problem = f"cannot read {source} (no such file)"
    if not found:
        raise InputError(f"{problem}: check the path")
    return sorted(found, key=lambda entry: natural_key(entry.name)), None


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _numbered(path: Path) -> tuple[list[Path], str | None]:
    try:
        fits = picture_pattern(path.name)
    except ValueError:
        raise InputError(f"{path} is not a pattern: write one number, as frame_%05d.png") from None
    entries = path.parent.iterdir() if path.parent.is_dir() else iter(())
    found = {int(match[1]): entry for entry in entries if (match := fits.fullmatch(entry.name))}
    if not found:
        raise InputError(f"no picture fits {path}: check the path")
    numbers = sorted(found)
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    warning = f"{path}: {missing} numbers are missing: the pictures follow each other without gaps"
    return [found[number] for number in numbers], warning if missing else None


class PicturesReader(VideoReader):
    """Pictures of one size as the frames of a video, ``rate`` a second."""

    def __init__(self, source: str | Path, trim: Trim, rate: Fraction | None = None) -> None:
        super().__init__(str(source), trim)
        self._paths, warning = find_pictures(source)
        self.warnings += [warning] if warning else []
        rate = DEFAULT_RATE if rate is None else rate
        first = self._load(self._paths[0])
        self._size = (first.width, first.height)
        width, height = trim.scale or self._size
        if min(width, height) < SMALLEST_SIDE:
            raise InputError(
                f"{self._paths[0]} is {width}x{height}: both sides must be at least {SMALLEST_SIDE}"
            )
        self._to_rgb = RgbConverter(width, height, self.name)
        self.info = VideoInfo(
            width=width,
            height=height,
            time_base=1 / rate,
            rotation=-int(first.rotation) % 360 // 90 * 90,
            colour=colour_of(first, *self._size, self.name),
            average_rate=rate,
            frame_count=trim.count(len(self._paths), rate),
        )

    def _load(self, path: Path) -> av.VideoFrame:
        try:
            with av.open(str(path), metadata_errors="ignore") as container:
                frame = next(container.decode(video=0), None)
        except (av.error.FFmpegError, OSError, IndexError, ValueError) as error:
            raise InputError(f"cannot read {path} ({reason(error)}): is it a whole picture?") from None
        if frame is None or frame.is_corrupt:
            raise InputError(f"cannot read {path}: is it a whole picture?")
        return frame

    def _pictures(self) -> Iterator[Picture]:
        for index, path in enumerate(self._paths):
            yield Picture(index, 1, path)

    def _convert(self, picture: Picture) -> NDArray[np.uint8]:
        path: Path = picture.content
        frame = self._load(path)
        if (frame.width, frame.height) != self._size:
            width, height = self._size
            raise InputError(
                f"{path} is {frame.width}x{frame.height}, the first picture {width}x{height}: sort them out"
            )
        if max(part.bits for part in frame.format.components) > 8:
            self.warn("has more than 8 bits a sample: rounded to 8")
        return self._to_rgb(frame, colour_of(frame, frame.width, frame.height, str(path)))


class PngWriter(VideoWriter):
    """PNG pictures, exact RGB, upright; numbered from 1."""

    def __init__(self, target: str | Path, info: VideoInfo, overwrite: bool) -> None:
        super().__init__(str(target), info)
        self._staged = StagedPictures(target, overwrite)
        self._encoder = av.CodecContext.create("png", "w")
        self._encoder.width, self._encoder.height = info.display_size
        self._encoder.pix_fmt = "rgb24"
        self._encoder.time_base = Fraction(1, 25)
        # Stronger compression costs four times the time for three per cent.
        self._encoder.options = {"compression_level": "1"}

    def _write(self, frame: Frame) -> None:
        picture = av.VideoFrame.from_ndarray(
            turned(np.ascontiguousarray(frame.rgb), self.info.rotation), format="rgb24"
        )
        picture.pts = self.frames
        data = b"".join(bytes(packet) for packet in self._encoder.encode(picture))
        self._staged.add(self.frames + 1, data)

    def _finish(self) -> None:
        if self.frames == 0:
            raise OutputError(f"{self.name}: there are no frames to write")
        self._staged.commit()

    def _discard(self) -> None:
        self._staged.discard()
