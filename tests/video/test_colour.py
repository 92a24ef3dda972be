"""Conversions between FFmpeg's pictures and RGB, against formulas in floats."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.errors import InputError
from s2vc.video import Colour, open_video
from s2vc.video.colour import (
    RgbConverter,
    colour_of,
    halve_chroma,
    output_colour,
    planes_frame,
    rgb_to_yuv444,
)
from s2vc.video.info import guess_matrix


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    converter = RgbConverter(frame.width, frame.height, "test")
    return converter(frame, colour_of(frame, frame.width, frame.height, "test"))


def tagged(frame: av.VideoFrame, matrix: int, full: bool) -> av.VideoFrame:
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
def test_rgb_to_yuv_is_the_nearest_level(make, matrix, full):
    rgb = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    exact = make.to_yuv(rgb, matrix, full)
    planes = rgb_to_yuv444(rgb, Colour(matrix=matrix, full_range=full))
    assert np.abs(planes - exact.clip(0, 255)).max() <= 0.53


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_444_round_trip_is_within_two_levels(make, matrix, full):
    rgb = np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    planes = rgb_to_yuv444(rgb, Colour(matrix=matrix, full_range=full))
    back = to_rgb(tagged(planes_frame("yuv444p", list(planes)), matrix, full))
    assert np.abs(back.astype(int) - rgb).max() <= (1 if full else 2)
    assert make.psnr(back, rgb) > (52.9 if full else 52.0)


@settings(max_examples=30, deadline=None)
@given(level=st.integers(0, 255), matrix=st.sampled_from([1, 6]), full=st.booleans())
def test_grey_stays_grey(level, matrix, full):
    rgb = np.full((16, 16, 3), level, np.uint8)
    planes = rgb_to_yuv444(rgb, Colour(matrix=matrix, full_range=full))
    assert (planes[1:] == 128).all()
    back = to_rgb(tagged(planes_frame("yuv444p", list(planes)), matrix, full))
    assert np.ptp(back) == 0 and abs(int(back[0, 0, 0]) - level) <= (0 if full else 1)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5])
@pytest.mark.parametrize(
    ("pixel_format", "least"),
    [
        ("yuv420p", 47),
        ("yuv422p", 48),
        ("yuv444p", 51.5),
        ("yuv420p10le", 48),
        ("yuv422p10le", 49),
        ("yuv444p10le", 60),
        ("yuv444p12le", 75),
    ],
)
def test_yuv_is_read_with_its_matrix_and_range(make, pixel_format, least, matrix, full):
    picture = make.scene(1)[0]
    frame = tagged(make.av_frame(picture, pixel_format, matrix, full), matrix, full)
    assert make.psnr(to_rgb(frame), picture) > least


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgr24", "gbrp", "bgr0", "rgba", "rgb48le", "gbrp10le"])
def test_rgb_is_read_exactly(make, pixel_format):
    picture = make.scene(1)[0]
    assert np.array_equal(to_rgb(make.av_frame(picture, pixel_format)), picture)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixel_format", ["gray", "gray10le"])
def test_grey_is_read_with_its_range(make, pixel_format, full):
    picture = make.scene(1)[0]
    frame = tagged(make.av_frame(picture, pixel_format, 1, full), 1, full)
    luma = np.repeat(make.to_yuv(picture, 1, True)[0][..., None], 3, axis=2)
    assert np.abs(to_rgb(frame) - luma).max() < 1.1


@pytest.mark.parametrize(
    ("bits", "pixel_format"), [(10, "gbrp10le"), (12, "gbrp12le"), (16, "gbrp16le"), (16, "gray16le")]
)
def test_deep_samples_are_rounded_to_the_nearest(bits, pixel_format):
    values = np.linspace(0, 2**bits - 1, 48 * 64).astype(np.uint16).reshape(48, 64)
    frame = av.VideoFrame(64, 48, pixel_format)
    for plane in frame.planes:
        np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)[:48, :64] = values
    exact = values * (255 / (2**bits - 1))
    assert np.abs(to_rgb(frame)[..., 0] - exact).max() <= 0.51


def test_chroma_lies_where_h264_has_it(make, tmp_path):
    # A straight ramp survives halving and doubling exactly where both agree on the siting; half a sample of
    # disagreement would show as one level everywhere.
    ramp = np.tile((np.arange(96) * 2 + 30).astype(np.uint8), (64, 1))
    level = np.full_like(ramp, 128)
    for u, v in ((ramp, level), (level, ramp), (ramp.T[:96, :64].copy().T, level)):
        frame = planes_frame("yuv420p", [level, halve_chroma(u), halve_chroma(v)])
        path = tmp_path / "ramp.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"qp": "1"})
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with av.open(str(path)) as container:
            decoded = next(container.decode(video=0))
        wanted = to_rgb(tagged(planes_frame("yuv444p", [level, u, v]), 6, False)).astype(int)
        got = to_rgb(tagged(decoded, 6, False)).astype(int)
        assert abs((got - wanted)[8:-8, 8:-8].mean()) < 0.3


def test_matrix_that_is_not_said_goes_by_size():
    assert [guess_matrix(*size) for size in ((426, 240), (720, 576), (1279, 719))] == [6, 6, 6]
    assert [guess_matrix(*size) for size in ((1280, 536), (1280, 720), (720, 1280), (1920, 1080))] == [
        1,
        1,
        1,
        1,
    ]


@pytest.mark.parametrize(("width", "height", "matrix"), [(64, 48, 6), (1280, 48, 1)])
def test_unspecified_colour_of_a_file(make, tmp_path, width, height, matrix):
    pictures = make.scene(2, width, height)
    path = make.video(
        tmp_path / "a.mp4",
        pictures,
        matrix=None,
        full=None,
        pixel_format="yuv444p",
        frame_maker=lambda p, f, m, r: make.av_frame(p, f, matrix, False),
    )
    with open_video(path) as reader:
        assert reader.info.colour == Colour(matrix, 2, 2, False)
        assert make.psnr(next(iter(reader)).rgb, pictures[0]) > 45


def test_output_colour():
    said = Colour(6, 5, 6, True)
    assert output_colour(said, 1920, 1080) == said
    assert output_colour(Colour(0, 1, 13, True), 64, 48) == Colour(6, 1, 13, False)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused(make, tmp_path, transfer):
    path = make.video(
        tmp_path / "hdr.mp4",
        make.scene(2),
        codec="libx265",
        pixel_format="yuv420p10le",
        matrix=9,
        primaries=9,
        transfer=transfer,
        options={"x265-params": "log-level=none"},
    )
    with pytest.raises(InputError, match="HDR") as error:
        open_video(path)
    assert "\n" not in str(error.value)


def test_bt2020_without_hdr_is_read(make, tmp_path):
    pictures = make.scene(2)
    path = make.video(
        tmp_path / "wide.mp4", pictures, pixel_format="yuv444p", matrix=9, primaries=9, transfer=14
    )
    with open_video(path) as reader:
        assert reader.info.colour == Colour(9, 9, 14, False)
        assert make.psnr(next(iter(reader)).rgb, pictures[0]) > 45


def test_other_matrices_are_refused(make):
    frame = make.av_frame(make.scene(1)[0], "yuv444p")
    frame.colorspace = 14
    with pytest.raises(InputError, match="ICtCp"):
        colour_of(frame, 64, 48, "test")


def test_ten_bits_are_rounded_with_a_warning(make, tmp_path):
    pictures = make.scene(3)
    path = make.video(tmp_path / "deep.mkv", pictures, codec="ffv1", pixel_format="yuv420p10le")
    with open_video(path) as reader:
        frames = list(reader)
    assert min(make.psnr(frame.rgb, picture) for frame, picture in zip(frames, pictures, strict=True)) > 45
    assert reader.warnings == [f"{path}: has 10 bits a sample: rounded to 8"]


@pytest.mark.parametrize(
    ("codec", "pixel_format"), [("png", "rgba"), ("ffv1", "yuva420p"), ("qtrle", "argb")]
)
@pytest.mark.parametrize("alpha", [255, 250])
def test_alpha_is_dropped_where_opaque_and_refused_where_not(make, tmp_path, codec, pixel_format, alpha):
    pictures = make.scene(2)
    path = make.video(
        tmp_path / ("alpha.mkv" if codec == "ffv1" else "alpha.mov"),
        pictures,
        codec=codec,
        pixel_format=pixel_format,
        matrix=None,
        full=None,
        frame_maker=lambda p, f, *_: make.rgba_frame(p, alpha, f),
    )
    if alpha == 255:
        with open_video(path) as reader:
            assert make.psnr(next(iter(reader)).rgb, pictures[0]) > 40
    else:
        with pytest.raises(InputError, match="transparent"), open_video(path) as reader:
            list(reader)


def test_webm_with_alpha_is_refused(make, tmp_path):
    path = make.video(
        tmp_path / "a.webm",
        make.scene(2),
        codec="libvpx-vp9",
        pixel_format="yuva420p",
        matrix=None,
        full=None,
        frame_maker=lambda p, f, *_: make.rgba_frame(p, 100, f),
    )
    with pytest.raises(InputError, match="transparency"):
        open_video(path)


@pytest.mark.parametrize(
    ("scale", "aspect"), [("32x24", 1), ("128x96", 1), ("32x48", Fraction(2)), ("43x32", 1)]
)
def test_scaling(make, tmp_path, scale, aspect):
    path = make.video(tmp_path / "a.mp4", make.scene(2), pixel_format="yuv444p")
    with open_video(path, scale=scale) as reader:
        frame = next(iter(reader))
    width, height = map(int, scale.split("x"))
    assert frame.rgb.shape == (height, width, 3)
    assert (reader.info.width, reader.info.height) == (width, height)
    assert reader.info.sample_aspect_ratio == aspect
    expected = make.scene(1, width, height)[0].astype(float)
    corner = max(height, width) // 8
    assert np.abs(frame.rgb.astype(float) - expected)[corner:, corner:].mean() < 6


def test_scaling_down_averages_areas(tmp_path):
    rgb = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    small = RgbConverter(16, 16, "test")(frame, Colour(0, full_range=True))
    exact = rgb.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - exact).max() <= 1
