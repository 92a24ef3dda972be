"""What is read: formats, times, rotation, parts of a file, damage."""

from __future__ import annotations

import errno
import itertools
import os
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.errors import InputError
from s2vc.video import open_video, parse_size, parse_time
from s2vc.video.cut import missing_bytes


def read(path, **options):
    with open_video(path, **options) as reader:
        return list(reader), reader


def same(make, frames, pictures, least=38.0):
    assert len(frames) == len(pictures)
    return all(make.psnr(frame.rgb, picture) > least for frame, picture in zip(frames, pictures, strict=True))


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "options"),
    [
        ("a.mp4", "libx264", "yuv420p", {"crf": "1"}),
        ("a.mkv", "libx264", "yuv422p", {"crf": "1"}),
        ("a.mov", "libx264", "yuv444p", {"crf": "1", "bf": "3"}),
        ("a.ts", "libx264", "yuv420p", {"crf": "1"}),
        ("a.flv", "libx264", "yuv420p", {"crf": "1"}),
        ("a.mp4", "libx265", "yuv420p", {"crf": "1", "x265-params": "log-level=none"}),
        ("a.webm", "libvpx-vp9", "yuv420p", {"crf": "2", "b": "0"}),
        ("a.avi", "mjpeg", "yuvj420p", {"qmin": "1", "qmax": "1"}),
        ("a.mkv", "ffv1", "yuv411p", {}),
        ("a.mkv", "ffv1", "bgr0", {}),
        ("a.mov", "prores", "yuv422p10le", {}),
        ("a.avi", "rawvideo", "bgr24", {}),
        ("a.mpg", "mpeg2video", "yuv420p", {"qmin": "1", "qmax": "2"}),
        ("a.nut", "ffv1", "yuv444p", {}),
    ],
)
def test_formats(make, tmp_path, name, codec, pixel_format, options):
    pictures = make.scene(12)
    rgb = pixel_format.startswith("bgr")
    full = pixel_format.startswith("yuvj")
    path = make.video(
        tmp_path / name,
        pictures,
        codec=codec,
        pixel_format=pixel_format,
        options=options,
        matrix=None if rgb else 5,
        full=None if rgb else full,
    )
    frames, reader = read(path)
    assert same(make, frames, pictures, 34)
    assert (reader.info.width, reader.info.height) == (64, 48)
    assert reader.damaged is None
    seconds = [frame.pts * reader.info.time_base for frame in frames]
    zero = Fraction(2, 25) if name == "a.flv" else 0  # FLV's muxer has no edit list for reordered frames
    assert all(abs(t - zero - Fraction(i, 25)) <= Fraction(1, 1000) for i, t in enumerate(seconds))
    assert abs(reader.info.average_rate - 25) < Fraction(1, 100)
    assert all(frame.rgb.dtype == np.uint8 and frame.rgb.flags.c_contiguous for frame in frames)


@settings(max_examples=12, deadline=None)
@given(gaps=st.lists(st.integers(1, 400), min_size=2, max_size=14), start=st.sampled_from([0, 7, 1000]))
def test_times_that_vary_are_kept(make, tmp_path_factory, gaps, start):
    times = [start + sum(gaps[:i]) for i in range(len(gaps) + 1)]
    pictures = make.scene(len(times), 32, 32)
    path = make.video(
        tmp_path_factory.mktemp("vfr") / "a.mp4",
        pictures,
        time_base=Fraction(1, 600),
        times=times,
        options={"bf": "2", "preset": "ultrafast"},
        container_options={"movie_timescale": "600"},
    )
    frames, reader = read(path)
    assert [frame.pts * reader.info.time_base for frame in frames] == [Fraction(t, 600) for t in times]
    assert [frame.duration * reader.info.time_base * 600 for frame in frames[:-1]] == gaps


def test_edit_list_hides_what_players_hide(make, tmp_path):
    pictures = make.scene(12)
    path = make.video(tmp_path / "a.mp4", pictures, times=list(range(-3, 9)))
    frames, _ = read(path)
    assert [frame.pts for frame in frames] == [512 * i for i in range(9)]
    assert same(make, frames, pictures[3:])


def test_broadcast_clock_starts_at_zero(make, tmp_path):
    path = make.video(tmp_path / "a.ts", make.scene(8), times=list(range(1000, 1008)))
    frames, reader = read(path)
    assert frames[0].pts == 0
    assert reader.origin >= 40


def test_sound_that_starts_first_keeps_its_lead(make, tmp_path):
    path = make.video(tmp_path / "a.mkv", make.scene(8), times=list(range(5, 13)), sound=True)
    frames, reader = read(path)
    assert frames[0].pts * reader.info.time_base == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("hflip", [False, True])
def test_rotation_is_kept_apart_and_mirroring_is_done(make, tmp_path, rotation, hflip):
    pictures = make.scene(3)
    path = make.video(tmp_path / "a.mp4", pictures, rotation=rotation, hflip=hflip, pixel_format="yuv444p")
    frames, reader = read(path)
    assert frames[0].rgb.shape == (48, 64, 3)
    if hflip:  # the file's matrix turns first and mirrors then; ours mirrors first
        assert reader.info.rotation == -rotation % 360
        assert reader.warnings
        assert same(make, frames, [picture[:, ::-1] for picture in pictures])
    else:
        assert reader.info.rotation == rotation
        assert same(make, frames, pictures)


def test_sample_aspect_ratio(make, tmp_path):
    path = make.video(tmp_path / "a.mp4", make.scene(2), aspect=Fraction(12, 11))
    assert read(path)[1].info.sample_aspect_ratio == Fraction(12, 11)


@pytest.mark.parametrize("size", [(16, 16), (17, 19), (65, 33)])
def test_odd_sizes(make, tmp_path, size):
    pictures = make.scene(3, *size)
    path = make.video(tmp_path / "a.mkv", pictures, codec="ffv1", pixel_format="yuv420p")
    frames, _ = read(path)
    assert frames[0].rgb.shape == (size[1], size[0], 3)
    assert same(make, frames, pictures, 25)


def test_too_small(make, tmp_path):
    path = make.video(tmp_path / "a.mkv", make.scene(2, 12, 40), codec="ffv1")
    with pytest.raises(InputError, match="12x40: both sides must be at least 16"):
        open_video(path)
    with pytest.raises(InputError, match="at least 16"):
        open_video(path, scale="15x20")


# Parts of a file.


@pytest.fixture
def long_clip(make, tmp_path):
    return make.video(
        tmp_path / "long.mp4", make.scene(150), options={"crf": "1", "g": "40", "preset": "veryfast"}
    )


@pytest.mark.parametrize(
    ("options", "first", "count"),
    [
        ({}, 0, 150),
        ({"frames": 7}, 0, 7),
        ({"start": "4s"}, 100, 50),
        ({"start": 3.21, "frames": 3}, 81, 3),
        ({"start": "0:00:02", "duration": "1s"}, 50, 25),
        ({"duration": "0.1"}, 0, 3),
        ({"start": "5.96"}, 149, 1),
        ({"start": 0.04, "duration": 100}, 1, 149),
        ({"start": 5, "duration": "1", "frames": 2}, 125, 2),
    ],
)
def test_parts(make, long_clip, options, first, count):
    whole, _ = read(long_clip)
    frames, reader = read(long_clip, **options)
    assert len(frames) == count
    assert frames[0].pts == 0
    assert reader.origin == Fraction(first, 25)
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(frames, whole[first:], strict=False))
    assert reader.info.frame_count == pytest.approx(count, abs=1)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_part_that_starts_in_an_open_group(make, tmp_path, codec, name):
    options = {"crf": "5", "x264-params": "open-gop=1:keyint=30:bframes=3:scenecut=0"}
    if codec == "libx265":
        options = {"x265-params": "open-gop=1:keyint=30:bframes=3:log-level=none"}
    path = make.video(tmp_path / name, make.scene(130), codec=codec, options=options)
    whole, _ = read(path)
    for start in (Fraction(59, 25), Fraction(60, 25), Fraction(61, 25), Fraction(89, 25)):
        frames, reader = read(path, start=start, frames=8)
        assert reader.damaged is None
        first = int(start * 25)
        assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(frames, whole[first:], strict=False))


def test_part_after_the_end(long_clip):
    with pytest.raises(InputError, match="earlier start"):
        read(long_clip, start=7)


def test_part_of_a_stream_that_cannot_seek(make, tmp_path):
    path = make.video(tmp_path / "a.h264", make.scene(60))
    frames, _ = read(path, start=1, frames=5)
    assert len(frames) == 5
    assert make.psnr(frames[0].rgb, make.scene(26)[25]) > 38


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12.5", Fraction(25, 2)),
        ("12.5s", Fraction(25, 2)),
        ("0:01:02", 62),
        ("1:02.5", Fraction(125, 2)),
        (3, 3),
        ("800ms", Fraction(4, 5)),
        ("2m", 120),
        ("1h", 3600),
        (0.1, Fraction(1, 10)),
        (".5", Fraction(1, 2)),
    ],
)
def test_parse_time(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1:2:3:4", "1:99", "nan", float("nan"), float("inf"), -1])
def test_parse_time_refuses(text):
    with pytest.raises(InputError):
        parse_time(text)


def test_parse_size():
    assert parse_size("426x240") == parse_size((426, 240)) == (426, 240)
    with pytest.raises(InputError):
        parse_size("426")


@pytest.mark.parametrize("options", [{"frames": 0}, {"duration": 0}, {"start": "x"}, {"scale": "0x0"}])
def test_nonsense_is_refused(long_clip, options):
    with pytest.raises(InputError):
        open_video(long_clip, **options)


# Interlaced.


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_interlaced_is_deinterlaced_one_for_one(make, tmp_path, codec):
    pictures = make.scene(24, 64, 64)
    options = {"flags": "+ilme+ildct", "crf": "1", "qmin": "1", "qmax": "2"}
    if codec == "mpeg2video":
        options.pop("crf")

    # Each frame's odd lines are of the next moment.
    woven = []
    for now, then in zip(pictures[0::2], pictures[1::2], strict=True):
        frame = now.copy()
        frame[1::2] = then[1::2]
        woven.append(frame)

    def interlaced(picture, pixel_format, matrix, full):
        frame = make.av_frame(picture, "yuv444p", matrix, full)
        graph = av.filter.Graph()
        source = graph.add_buffer(width=64, height=64, format=frame.format, time_base=Fraction(1, 25))
        field = graph.add("setfield", "tff")
        convert = graph.add("format", "yuv420p")
        graph.link_nodes(source, field, graph.add("scale", "interl=1"), convert, graph.add("buffersink"))
        graph.configure(auto_buffer=False)
        graph.vpush(frame)
        return graph.vpull()

    path = make.video(tmp_path / "a.mkv", woven, codec=codec, options=options, frame_maker=interlaced)
    frames, reader = read(path)
    assert "deinterlaced" in reader.warnings[0]
    assert [frame.pts for frame in frames] == [40 * i for i in range(12)]
    for frame, now, comb in list(zip(frames, pictures[0::2], woven, strict=True))[1:-1]:
        assert make.psnr(frame.rgb, now) > make.psnr(comb, now)


# What cannot be read.


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text and ":" in text
    return text


def test_missing_file(tmp_path):
    with pytest.raises(InputError) as error:
        open_video(tmp_path / "none.mp4")
    assert "no such file" in one_line(error)


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100, b"\0" * 5000])
def test_not_a_video(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        open_video(path)
    one_line(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(make, tmp_path):
    path = make.video(tmp_path / "a.mp4", make.scene(2))
    path.chmod(0)
    with pytest.raises(InputError) as error:
        open_video(path)
    assert os.strerror(errno.EACCES).lower() in one_line(error)


def test_no_video_track(tmp_path):
    path = tmp_path / "sound.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        samples = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        samples.sample_rate = 44100
        container.mux(stream.encode(samples))
        container.mux(stream.encode())
    with pytest.raises(InputError, match="no video track") as error:
        open_video(path)
    one_line(error)


# Damage.


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "mjpeg"),
        ("a.y4m", "wrapped_avframe"),
    ],
)
@pytest.mark.parametrize("share", [0.35, 0.6, 0.97])
def test_file_that_breaks_off(make, tmp_path, name, codec, share):
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    pictures = [
        np.clip(p + np.random.default_rng(i).integers(-20, 20, p.shape), 0, 255).astype(np.uint8)
        for i, p in enumerate(make.scene(40))
    ]
    path = make.video(
        tmp_path / name,
        pictures,
        codec=codec,
        pixel_format=pixel_format,
        container_options={"movflags": "faststart"} if name == "a.mp4" else {},
    )
    whole, reader = read(path)
    assert reader.damaged is None and len(whole) == 40
    data = path.read_bytes()
    cut = tmp_path / f"cut{path.suffix}"
    cut.write_bytes(data[: int(len(data) * share)])
    frames, reader = read(cut)
    assert reader.damaged is not None and "\n" not in reader.damaged
    assert 40 * share - 9 < len(frames) < 40
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(frames, whole, strict=False))
    assert [f.pts for f in frames] == [f.pts for f in whole[: len(frames)]]


def test_fragmented_file_that_breaks_off(make, tmp_path):
    path = make.video(
        tmp_path / "a.mp4",
        make.scene(40),
        options={"crf": "1", "g": "5"},
        container_options={"movflags": "frag_keyframe+empty_moov"},
    )
    whole, reader = read(path)
    assert reader.damaged is None and missing_bytes(str(path)) == 0
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[:-3000])
    frames, reader = read(cut)
    assert reader.damaged and 0 < len(frames) < 40
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(frames, whole, strict=False))


def test_mp4_cut_before_its_index(make, tmp_path):
    path = make.video(tmp_path / "a.mp4", make.scene(20))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError) as error:
        open_video(path)
    one_line(error)


def test_part_that_ends_before_the_break_is_whole(make, tmp_path):
    path = make.video(tmp_path / "a.mp4", make.scene(40), container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-500])
    frames, reader = read(path, frames=10)
    assert len(frames) == 10 and reader.damaged is None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_damaged_bytes_never_crash(make, tmp_path_factory, seed):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "whole.mp4"
    if not path.exists():
        make.video(path, make.scene(24), options={"crf": "10", "g": "8"})
    rng = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for place in rng.integers(0, len(data), 20):
        data[place] = rng.integers(0, 256)
    damaged = folder / "damaged.mp4"
    damaged.write_bytes(bytes(data))
    try:
        frames, _ = read(damaged)
    except InputError:
        return
    assert all(frame.rgb.shape[2] == 3 for frame in frames)
    assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))
