"""Between FFmpeg's pictures and 8-bit RGB.

Into RGB: swscale, with the file's own matrix, range and chroma siting, exact rounding and full chroma
resolution (bicubic); grey's range and the rounding of deep RGB are put right here. Out of RGB: our own
integers below; swscale's full-range output is off by one in a third of all samples, and PyAV cannot tell it
where 4:2:0 samples lie. Both give the same bytes on any machine and any number of threads.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from s2vc.errors import InputError
from s2vc.video.info import MATRIX_RGB, UNSPECIFIED, Colour, guess_matrix

# Luma weights (red, blue) by H.273 matrix number.
_WEIGHTS = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601 625
    6: (0.299, 0.114),  # BT.601 525
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
_MATRIX_NAMES = {8: "YCgCo", 10: "BT.2020 constant luminance", 14: "ICtCp"}
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
# swscale's number for each matrix; it has one for both BT.601s.
_SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
_LIMITED, _FULL = 1, 2

# swscale's flags by number: PyAV names them from 18 on, and 17 is the last for Python 3.10.
_BICUBIC, _AREA, _LANCZOS = 0x4, 0x20, 0x200
_FULL_CHROMA, _FULL_CHROMA_INPUT, _ACCURATE, _BIT_EXACT = 0x2000, 0x4000, 0x40000, 0x80000
_EXACT = _FULL_CHROMA | _FULL_CHROMA_INPUT | _ACCURATE | _BIT_EXACT


def is_grey(pixel_format: av.VideoFormat) -> bool:
    """Has this format luma only (and perhaps transparency)?"""
    return not pixel_format.is_rgb and not pixel_format.has_palette and len(pixel_format.components) < 3


def colour_of(frame: av.VideoFrame, width: int, height: int, name: str) -> Colour:
    """The colour description of a decoded frame, guessed where the file does not say.

    Matrix: BT.709 from 1280 wide or 720 high on, else BT.601. Range: full for RGB, grey and the JPEG
    formats, else limited. Raises InputError for HDR and for matrices that are not supported.
    """
    transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
    if transfer in _HDR_TRANSFERS:
        raise InputError(
            f"{name} is HDR ({_HDR_TRANSFERS[transfer]}): "
            "convert it to SDR first, with a tone-mapping filter of FFmpeg"
        )
    jpeg = frame.format.name.startswith("yuvj")
    full = jpeg or int(frame.color_range) == _FULL or (int(frame.color_range) == 0 and is_grey(frame.format))
    if frame.format.is_rgb or frame.format.has_palette:
        return Colour(MATRIX_RGB, primaries, transfer, True)
    matrix = int(frame.colorspace)
    if matrix in (MATRIX_RGB, UNSPECIFIED, 3):
        matrix = guess_matrix(width, height)
    if matrix not in _WEIGHTS:
        said = _MATRIX_NAMES.get(matrix, f"matrix {matrix}")
        raise InputError(f"{name} has colours in {said}: convert it to BT.709 first, with FFmpeg")
    return Colour(matrix, primaries, transfer, full)


def output_colour(colour: Colour, width: int, height: int) -> Colour:
    """The description under which RGB is written as luma and chroma.

    The source's own; where that was RGB, limited range and the matrix that players assume for the size.
    """
    if colour.matrix in _WEIGHTS:
        return colour
    return replace(colour, matrix=guess_matrix(width, height), full_range=False)


class RgbConverter:
    """Decoded frames to uint8 RGB arrays of one size, whatever their format."""

    def __init__(self, width: int, height: int, name: str) -> None:
        self.width = width
        self.height = height
        self.name = name
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame, colour: Colour) -> NDArray[np.uint8]:
        """uint8 (height, width, 3). Raises InputError where a picture is transparent anywhere."""
        alpha = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
        grey = is_grey(frame.format)
        shrinks = self.width * self.height < frame.width * frame.height
        same = (self.width, self.height) == (frame.width, frame.height)
        # swscale rounds deep limited-range YUV well; deep RGB, grey and full range come out too high.
        bits = max(part.bits for part in frame.format.components)
        deep = bits > 8 and (frame.format.is_rgb or grey or colour.full_range)
        kernel = _BICUBIC if same else _AREA if shrinks else _LANCZOS
        matrix = _SWS_MATRIX.get(colour.matrix, 5)
        converted = self._reformatter.reformat(
            frame,
            width=self.width,
            height=self.height,
            format=("rgba64le" if alpha else "rgb48le") if deep else ("rgba" if alpha else "rgb24"),
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=_FULL if colour.full_range else _LIMITED,
            dst_color_range=_FULL,
            interpolation=kernel | _EXACT,
            threads=1,
        )
        samples: NDArray[Any] = converted.to_ndarray()
        most = 65535 if deep else 255
        if alpha:
            if samples[..., 3].min() < most:
                raise InputError(
                    f"{self.name} has transparent pictures, which are not supported: "
                    "flatten it onto a background first"
                )
            samples = np.ascontiguousarray(samples[..., :3])
        if grey and not colour.full_range:  # swscale takes all grey for full range
            levels = samples * ((2.0**bits - 1) / (2.0 ** (bits - 8) * most))
            return np.clip(np.rint((levels - 16) * (255 / 219)), 0, 255).astype(np.uint8)
        if deep:
            samples = ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        return samples


@lru_cache(maxsize=16)
def _rgb_to_yuv(matrix: int, full_range: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    # Coefficients are integers over 2^14, so that every partial sum stays below 2^24 and float32 products are
    # exact in whatever order a BLAS adds them.
    red, blue = _WEIGHTS[matrix]
    green = 1 - red - blue
    luma, chroma, black = (1.0, 1.0, 0) if full_range else (219 / 255, 224 / 255, 16)
    rows = np.array(
        [
            [luma * red, luma * green, luma * blue],
            [-chroma / 2 * red / (1 - blue), -chroma / 2 * green / (1 - blue), chroma / 2],
            [chroma / 2, -chroma / 2 * green / (1 - red), -chroma / 2 * blue / (1 - red)],
        ]
    )
    weights = np.rint(rows * (1 << 14))
    # Grey must stay grey, and white must stay white, after the rounding of the weights.
    weights[:, 1] += np.rint(rows.sum(axis=1) * (1 << 14)) - weights.sum(axis=1)
    offsets = np.array([[black], [128], [128]]) * float(1 << 14) + (1 << 13)
    return weights.astype(np.float32), offsets.astype(np.float32)


def rgb_to_yuv444(rgb: NDArray[np.uint8], colour: Colour) -> NDArray[np.uint8]:
    """uint8 RGB (H, W, 3) to uint8 luma and chroma (3, H, W): the nearest level, ties upwards."""
    weights, offsets = _rgb_to_yuv(colour.matrix, colour.full_range)
    height, width, _ = rgb.shape
    planes = weights @ rgb.reshape(-1, 3).astype(np.float32).T
    planes += offsets
    planes *= np.float32(2.0**-14)
    if colour.full_range:
        np.minimum(planes, 255, out=planes)
    return planes.astype(np.uint8).reshape(3, height, width)


def limited_yuv(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) to uint8 (3, H, W): limited range, the matrix of the size; for metrics of luma."""
    height, width = rgb.shape[:2]
    return rgb_to_yuv444(rgb, Colour(guess_matrix(width, height), UNSPECIFIED, UNSPECIFIED, False))


def halve_chroma(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A 4:4:4 chroma plane (even sides) to 4:2:0: samples between two rows, on the left of two columns.

    That is where H.264 has them when a file says nothing. Weights 1 2 1 across, 1 1 down.
    """
    width = plane.shape[1]
    wide = np.pad(plane, ((0, 0), (1, 0)), mode="edge").astype(np.uint16)
    across = wide[:, 0:width:2] + 2 * wide[:, 1 : width + 1 : 2] + wide[:, 2 : width + 2 : 2]
    return ((across[0::2] + across[1::2] + 4) >> 3).astype(np.uint8)


def planes_frame(pixel_format: str, planes: list[NDArray[np.uint8]]) -> av.VideoFrame:
    """An FFmpeg frame of 8-bit planes; the first plane has the picture's size."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, data in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        rows[: data.shape[0], : data.shape[1]] = data
    return frame
