"""Which reader, which writer. FFmpeg is loaded when one is opened, not before."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

from s2vc.errors import InputError, OutputError
from s2vc.video.base import Trim, VideoReader, VideoWriter
from s2vc.video.info import VideoInfo
from s2vc.video.tracks import Extras


def open_video(
    source: str | Path,
    *,
    start: str | float | Fraction | None = None,
    duration: str | float | Fraction | None = None,
    frames: int | None = None,
    scale: str | tuple[int, int] | None = None,
    rate: Fraction | int | None = None,
    sound: str | None = None,
) -> VideoReader:
    """Open a video to read its frames as 8-bit RGB.

    Args:
        source: a video file; a folder of pictures, a pattern (``frame_%05d.png``, ``*.png``) or one picture;
            ``"-"`` for standard input (y4m, or anything FFmpeg reads without seeking).
        start: where to begin (seconds, ``"12.5s"``, ``"0:01:02"``); the first frame from there on
            gets time 0.
        duration: how much to read from there.
        frames: at most so many frames.
        scale: ``"WxH"`` or (width, height), as shown: area average downwards, Lanczos upwards. The display's
            shape is kept by the sample aspect ratio.
        rate: pictures a second, for folders and patterns; 25 if not given.
        sound: None: pictures only. "copy", "opus" (coded anew) or "none": the reader gives the other tracks'
            ``packets`` too, the sound among them as it is, as Opus, or not.

    Raises:
        InputError: the source cannot be used; while iterating too, when a later frame is not supported.
    """
    trim = Trim.of(start, duration, frames, scale)
    from s2vc.video.files import FileReader
    from s2vc.video.pictures import PicturesReader, is_pictures

    if str(source) != "-" and is_pictures(source):
        if rate is not None and rate <= 0:
            raise InputError(f"{rate} pictures a second is no rate: give a positive one")
        return PicturesReader(source, trim, None if rate is None else Fraction(rate))
    return FileReader(source, trim, sound)


def open_output(
    target: str | Path,
    info: VideoInfo,
    *,
    lossless: bool = False,
    overwrite: bool = False,
    extras: Extras | None = None,
) -> VideoWriter:
    """Open an output for frames of ``info``; its kind follows from its name.

    Args:
        target: ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``; ``.y4m`` or ``"-"`` (y4m on standard output);
            a folder, or a pattern such as ``frame_%05d.png``.
        info: size, clock, rotation and colour. ``info.average_rate`` is a y4m's rate; None: taken from the
            first two frames.
        lossless: exact RGB in ``.mkv`` (FFV1), ``.mp4`` and ``.mov`` (lossless H.264). PNG is
            exact anyway, y4m never.
        overwrite: replace an existing output.
        extras: other tracks, chapters and metadata; what the output cannot hold is warned about.

    Raises:
        OutputError: it exists, its folder does not, it cannot be written, or the format is not supported.
    """
    from s2vc.video.mux import FORMATS, MuxWriter

    if Path(target).suffix.lower() in FORMATS and not _is_special(Path(target)):
        return MuxWriter(target, info, lossless, overwrite, extras)
    writer = _open_pictures(target, info, lossless, overwrite)
    if extras is not None and extras.tracks:
        writer.warn("holds pictures only: sound, subtitles and attachments are left out")
    return writer


def _is_special(path: Path) -> bool:
    """A device or a named pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _open_pictures(target: str | Path, info: VideoInfo, lossless: bool, overwrite: bool) -> VideoWriter:
    from s2vc.video.pictures import PngWriter
    from s2vc.video.staging import picture_pattern
    from s2vc.video.y4m import Y4mWriter

    path, suffix = Path(target), Path(target).suffix.lower()
    if str(target) == "-" or suffix == ".y4m" or _is_special(path):
        if lossless:
            raise OutputError(f"{target} would be y4m, which is not lossless: use .mkv or a folder of PNG")
        return Y4mWriter(target, info, overwrite)
    if suffix == ".png" and not path.is_dir():
        try:
            picture_pattern(path.name)
        except ValueError:
            raise OutputError(
                f"{target} is one picture: name a folder or a pattern such as frame_%05d.png"
            ) from None
        return PngWriter(target, info, overwrite)
    if suffix == "" or path.is_dir() or str(target).endswith(("/", os.sep)):
        return PngWriter(target, info, overwrite)
    raise OutputError(
        f"{target}: {suffix} is not an output format: use .mp4, .mkv, .mov, .y4m or a folder of PNG"
    )
