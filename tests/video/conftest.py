"""Videos made by code: nothing binary is committed."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

# Luma weights (red, blue) of BT.601 and BT.709, written down anew so that the tests do not trust the package.
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def scene(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Smooth coloured pictures with a moving disc: uint8 (height, width, 3) each, no two alike."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    pictures = []
    for t in range(count):
        red = 60 + 130 * x / width
        green = 60 + 120 * y / height
        blue = 128 + 60 * np.sin(2 * np.pi * (x + 2 * t) / width)
        disc = np.clip(6 - np.hypot(x - width * (0.3 + 0.02 * t), y - height / 2) + height / 6, 0, 6) / 6
        picture = np.stack([red + 50 * disc, green - 30 * disc, blue - 40 * disc], axis=-1)
        picture[:4, :4] = (37 * t) % 200 + 20  # tells frames apart
        pictures.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return pictures


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def to_yuv(rgb: np.ndarray, matrix: int, full: bool) -> np.ndarray:
    """Reference RGB to YUV 4:4:4 in floats, not rounded: (3, H, W)."""
    red, blue = WEIGHTS[matrix]
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    luma = red * r + (1 - red - blue) * g + blue * b
    chroma = [(b - luma) / (2 * (1 - blue)), (r - luma) / (2 * (1 - red))]
    if full:
        return np.stack([luma, chroma[0] + 128, chroma[1] + 128])
    return np.stack([luma * 219 / 255 + 16, chroma[0] * 224 / 255 + 128, chroma[1] * 224 / 255 + 128])


def av_frame(rgb: np.ndarray, pixel_format: str, matrix: int = 1, full: bool = False) -> av.VideoFrame:
    """An FFmpeg frame of planar YUV (4:4:4, 4:2:2, 4:2:0 centred), grey or RGB, 8 to 12 bits."""
    if pixel_format in ("rgb48le", "gbrp10le"):
        bits = 16 if pixel_format == "rgb48le" else 10
        deep = np.rint(rgb * ((2**bits - 1) / 255)).astype(np.uint16)
        return av.VideoFrame.from_ndarray(deep, format=pixel_format)
    if pixel_format in ("rgb24", "rgba", "gbrp", "bgr24", "bgr0"):
        return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pixel_format)
    height, width, _ = rgb.shape
    frame = av.VideoFrame(width, height, pixel_format)
    bits = frame.format.components[0].bits
    planes = to_yuv(rgb, matrix, full)
    for index, (plane, data) in enumerate(zip(frame.planes, planes, strict=False)):
        while index and plane.width < data.shape[1]:
            width = data.shape[1]
            data = np.pad(data, ((0, 0), (0, width % 2)), mode="edge")
            data = (data[:, 0::2] + data[:, 1::2]) / 2
        while index and plane.height < data.shape[0]:
            height = data.shape[0]
            data = np.pad(data, ((0, height % 2), (0, 0)), mode="edge")
            data = (data[0::2] + data[1::2]) / 2
        kind = np.uint8 if bits == 8 else np.uint16
        scale = (2**bits - 1) / 255 if full and index == 0 else 2 ** (bits - 8)
        levels = np.clip(np.rint(data * scale), 0, 2**bits - 1).astype(kind)
        rows = np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind().itemsize)
        rows[: levels.shape[0], : levels.shape[1]] = levels
    return frame


def rgba_frame(rgb: np.ndarray, alpha: int, pixel_format: str) -> av.VideoFrame:
    samples = np.dstack([rgb, np.full(rgb.shape[:2], alpha, np.uint8)])
    return av.VideoFrame.from_ndarray(samples, format="rgba").reformat(format=pixel_format)


def make_video(
    path: Path,
    pictures: list[np.ndarray],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    matrix: int | None = 1,
    full: bool | None = False,
    primaries: int | None = None,
    transfer: int | None = None,
    rotation: int = 0,
    hflip: bool = False,
    aspect: Fraction = Fraction(1),
    time_base: Fraction = Fraction(1, 25),
    times: list[int] | None = None,
    container_options: dict[str, str] | None = None,
    frame_maker: Callable[..., av.VideoFrame] = av_frame,
    metadata: dict[str, str] | None = None,
    sound: bool = False,
) -> Path:
    """Write a video. ``matrix`` and ``full`` None: coded as BT.601 limited and not tagged."""
    if codec == "libx264" and options is None:
        options = {"crf": "1"}
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=round(1 / time_base), options=options or {})
        stream.height, stream.width, _ = pictures[0].shape
        stream.pix_fmt = pixel_format
        stream.time_base = stream.codec_context.time_base = time_base
        stream.codec_context.sample_aspect_ratio = aspect
        context = stream.codec_context
        if matrix is not None:
            context.colorspace = matrix
        if full is not None:
            context.color_range = 2 if full else 1
        if primaries is not None:
            context.color_primaries = primaries
        if transfer is not None:
            context.color_trc = transfer
        if rotation or hflip:
            stream.set_display_rotation(-rotation, hflip=hflip)
        stream.metadata.update(metadata or {})
        track = container.add_stream("aac", rate=44100) if sound else None
        for index, picture in enumerate(pictures):
            frame = frame_maker(picture, pixel_format, matrix or 5, bool(full))
            frame.pts = index if times is None else times[index]
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track is not None:
            for _ in range(40):
                samples = av.AudioFrame.from_ndarray(
                    np.zeros((2, 1024), np.float32), format="fltp", layout="stereo"
                )
                samples.sample_rate = 44100
                container.mux(track.encode(samples))
            container.mux(track.encode())
    return path


class Maker:
    """What the tests need, in one fixture."""

    scene = staticmethod(scene)
    psnr = staticmethod(psnr)
    to_yuv = staticmethod(to_yuv)
    av_frame = staticmethod(av_frame)
    rgba_frame = staticmethod(rgba_frame)
    video = staticmethod(make_video)


@pytest.fixture(scope="session")
def make() -> type[Maker]:
    return Maker
