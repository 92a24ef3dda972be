"""Pictures for the page's player: frames as lossless WebP, some on each sheet, in files beside the page.

Why pictures and not video: the player steps three clips frame by frame in any browser, from ``file://`` and
without a server. A ``<video>`` has no frame numbers (a seek ends at a time, after an unknown number of
callbacks, and three of them drift apart), needs a codec that each browser has, and shows 4:2:0 through the
browser's own conversion. A picture on a sheet is addressed by its index, all sides are drawn in one go, and
lossless WebP shows the very samples that were measured. Sheets rather than single pictures: a clip is some
ten files, not a hundred, and what does not move is not stored again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from s2vc.bench.process import run_child
from s2vc.bench.results import make_folder, read_json, write_json
from s2vc.errors import OutputError, S2vcError

FOLDER = "media"
SHEET_PIXELS = 1_500_000
"""About how many pixels a sheet has: enough to keep files few, little enough to decode between two frames."""
MAXIMUM_SIDE = 16383
"""WebP's own limit, in pixels."""
_LAYOUT = "column of lossless WebP 1"
_FACTS = "pictures.json"


@dataclass(frozen=True)
class Pictures:
    """Sheets ``folder/0.webp``, ``folder/1.webp``, …, each a column of up to ``rows`` frames.

    ``folder`` is relative to the page; ``width`` and ``height`` are a frame's.
    """

    folder: str
    width: int
    height: int
    frames: int
    rows: int


def write_pictures(frames: Iterable[np.ndarray], page: Path, key: str) -> Pictures:
    """uint8 RGB (H, W, 3) frames -> sheets under ``page``/media; made once for each ``key``.

    ``key`` stands for everything the pictures depend on. The folder appears whole or not at all. Raises
    OutputError where it cannot be written, S2vcError for a clip of no frames or with frames of several sizes.
    """
    name = hashlib.sha256(f"{_LAYOUT} {key}".encode()).hexdigest()[:20]
    final = page / FOLDER / name
    if (found := read_json(final / _FACTS)) is not None:
        return Pictures(**found)
    part = final.with_name(f".part-{name}")
    try:
        shutil.rmtree(part, ignore_errors=True)
        make_folder(part)
        pictures = _write_sheets(frames, part, f"{FOLDER}/{name}")
        write_json(part / _FACTS, dataclasses.asdict(pictures))
        shutil.rmtree(final, ignore_errors=True)
        part.replace(final)
    except OSError as error:
        raise OutputError(f"{final} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return pictures


def _write_sheets(frames: Iterable[np.ndarray], target: Path, folder: str) -> Pictures:
    shape: tuple[int, ...] | None = None
    waiting: list[np.ndarray] = []
    count = rows = sheets = 0
    for frame in frames:
        if shape is None:
            shape = frame.shape
            height, width = shape[:2]
            if max(height, width) > MAXIMUM_SIDE:
                raise S2vcError(f"pictures of {width}x{height} are too large for the page")
            rows = max(1, min(SHEET_PIXELS // (height * width), MAXIMUM_SIDE // height))
        elif frame.shape != shape:
            raise S2vcError("pictures of the clip differ in size")
        waiting.append(frame)
        count += 1
        if len(waiting) == rows:
            (target / f"{sheets}.webp").write_bytes(_webp(waiting))
            sheets, waiting = sheets + 1, []
    if shape is None:
        raise S2vcError("the clip has no frames")
    if waiting:
        (target / f"{sheets}.webp").write_bytes(_webp(waiting))
    return Pictures(folder, shape[1], shape[0], count, rows)


def _webp(frames: Sequence[np.ndarray]) -> bytes:
    """Lossless WebP of the frames in a column."""
    import av

    sheet = np.concatenate(frames)
    encoder = av.codec.CodecContext.create("libwebp", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = sheet.shape[1], sheet.shape[0]
    encoder.pix_fmt, encoder.time_base = "bgra", Fraction(1, 25)
    # Level 0 at effort 75 finds what stands still from frame to frame, and is five times as fast as level 4.
    encoder.options = {"lossless": "1", "compression_level": "0", "quality": "75"}
    # OpenCV's writer has no such choice; swscale copies RGB to BGRA sample by sample.
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(sheet), format="rgb24").reformat(format="bgra")
    picture.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])


@contextmanager
def decoded_ours(
    coded: Path, frames: int | None = None, model: str | None = None, device: str = "cpu"
) -> Iterator[Path]:
    """What an ``.s2vc`` file decodes to, at most ``frames`` frames, in a process of its own.

    ``model`` is its model's name or path where the package has it not. The video exists as long as the
    context. Raises S2vcError with the decoder's last line of complaint.
    """
    more = [] if frames is None else ["--frames", str(frames)]
    more += [] if model is None else ["--model", model]
    with tempfile.TemporaryDirectory(prefix="s2vc-report-") as scratch:
        target = Path(scratch) / "decoded.mkv"
        command = [sys.executable, "-m", "s2vc", "decode", str(coded), str(target), "--lossless", "-q"]
        run_child([*command, "--device", device, *more])
        yield target


@contextmanager
def decoded_by_ffmpeg(coded: Path, size: tuple[int, int] | None) -> Iterator[Path]:
    """As ``decoded_ours``, with the command of the bench's ffmpeg codecs.

    ``size`` (width, height) is for what was coded at a smaller size, and shown at this one.
    """
    from s2vc.bench.codecs import ffmpeg

    larger = [] if size is None else ["-vf", f"scale={size[0]}:{size[1]}:flags=lanczos+accurate_rnd"]
    with tempfile.TemporaryDirectory(prefix="s2vc-report-") as scratch:
        target = Path(scratch) / "decoded.mkv"
        command = [ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-threads", "1"]
        run_child(
            [*command, "-i", str(coded), "-fps_mode", "passthrough", *larger, "-c:v", "ffv1", str(target)]
        )
        yield target
