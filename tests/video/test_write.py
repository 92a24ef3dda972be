"""What each output keeps, as the table in docs/video.md says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.errors import InputError, OutputError
from s2vc.video import Colour, Frame, VideoInfo, open_output, open_video
from s2vc.video.staging import StagedFile

DOCS = Path(__file__).parents[2] / "docs" / "video.md"

# (row of the table, target, lossless): PSNR of smooth pictures, and what is kept.
OUTPUTS = {
    "`.mp4`, `.m4v`, `.mov`": ("out.mp4", False),
    "`.mkv`": ("out.mkv", False),
    "`.mp4`, `.m4v`, `.mov` with `--lossless`": ("out.mov", True),
    "`.mkv` with `--lossless`": ("out.mkv", True),
    "`.y4m`, `-`": ("out.y4m", False),
    "folder, `frame_%05d.png`": ("out", False),
}


def info_of(pictures, **options) -> VideoInfo:
    height, width, _ = pictures[0].shape
    return VideoInfo(width, height, **options)


def write(target, pictures, info, times=None, durations=None, **options):
    times = times or list(range(len(pictures)))
    with open_output(target, info, **options) as writer:
        for index, (picture, pts) in enumerate(zip(pictures, times, strict=True)):
            assert writer.write(Frame(picture, pts, durations[index] if durations else 0))
    return writer


def read(path, **options):
    with open_video(path, **options) as reader:
        return list(reader), reader


def table() -> dict[str, list[str]]:
    """The rows of docs/video.md's table of outputs."""
    text = DOCS.read_text().split("## Outputs")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows[2:]}


def test_every_output_of_the_table_is_tested():
    assert set(table()) == set(OUTPUTS)


@pytest.mark.parametrize("row", OUTPUTS)
@pytest.mark.parametrize("size", [(64, 48), (16, 16), (17, 19), (18, 17), (16, 33)])
def test_pictures_and_sizes(make, tmp_path, row, size):
    target, lossless = OUTPUTS[row]
    pictures = make.scene(6, *size)
    write(tmp_path / target, pictures, info_of(pictures), lossless=lossless)
    frames, _ = read(tmp_path / target)
    assert len(frames) == 6
    quality = min(make.psnr(frame.rgb, picture) for frame, picture in zip(frames, pictures, strict=True))
    promised = table()[row][0]
    if promised == "exact":
        assert quality == float("inf")
    elif target.endswith("y4m"):
        assert "±2" in promised
        worst = max(np.abs(f.rgb.astype(int) - p).max() for f, p in zip(frames, pictures, strict=True))
        assert worst <= 2 and quality > 51.5
    else:
        # Sharp colour edges of tiny pictures cost 4:2:0 most.
        assert quality > (38 if min(size) >= 48 else 28)


@pytest.mark.parametrize("row", OUTPUTS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_times(make, tmp_path_factory, row, data):
    target, lossless = OUTPUTS[row]
    base = data.draw(
        st.sampled_from([Fraction(1, 25), Fraction(1001, 30000), Fraction(1, 1000), Fraction(1, 90000)])
    )
    gaps = data.draw(st.lists(st.integers(1, 3000), min_size=1, max_size=9))
    if row == "`.mkv`" or "`.mkv` with" in row:
        gaps = [
            gap * max(1, round(Fraction(1, 500) / base)) for gap in gaps
        ]  # its clock ticks in milliseconds
    start = data.draw(st.sampled_from([0, 3, 50000]))
    times = [start + sum(gaps[:i]) for i in range(len(gaps) + 1)]
    pictures = make.scene(len(times), 32, 32)
    path = tmp_path_factory.mktemp("times") / target
    last = data.draw(st.integers(1, 2000)) if "mkv" not in row else max(1, round(Fraction(1, 20) / base))
    write(path, pictures, info_of(pictures, time_base=base), times, [*gaps, last], lossless=lossless)
    frames, reader = read(path)
    seconds = [frame.pts * reader.info.time_base for frame in frames]
    wanted = [pts * base for pts in times]
    promised = table()[row][1]
    if promised.startswith("exact"):
        assert seconds == wanted
        assert frames[-1].duration * reader.info.time_base == last * base
        with av.open(str(path)) as container:
            track = container.streams.video[0]
            assert track.duration * track.time_base == (times[-1] - times[0] + last) * base
    elif promised.startswith("to the millisecond"):
        assert all(abs(a - b) <= Fraction(1, 2000) for a, b in zip(seconds, wanted, strict=True))
    else:
        assert promised.startswith("none") and len(frames) == len(times)


def test_mp4_of_very_fine_clock(make, tmp_path):
    pictures = make.scene(3)
    write(
        tmp_path / "a.mp4",
        pictures,
        info_of(pictures, time_base=Fraction(1, 10**9)),
        [0, 5_000_000_000, 7_000_001_000],
    )
    frames, reader = read(tmp_path / "a.mp4")
    assert [frame.pts * reader.info.time_base for frame in frames] == [0, 5, 7 + Fraction(1, 10**6)]


def test_mkv_spreads_frames_of_one_millisecond(make, tmp_path):
    pictures = make.scene(4)
    write(tmp_path / "a.mkv", pictures, info_of(pictures, time_base=Fraction(1, 90000)), [0, 10, 20, 900])
    frames, _ = read(tmp_path / "a.mkv")
    assert [frame.pts for frame in frames] == [0, 1, 2, 10]


def test_first_time_below_zero_becomes_zero(make, tmp_path):
    pictures = make.scene(4)
    for name in ("a.mp4", "a.mkv"):
        writer = write(tmp_path / name, pictures, info_of(pictures), [-3, -2, 0, 4])
        assert "before time 0" in writer.warnings[0]
        frames, reader = read(tmp_path / name)
        assert [frame.pts * reader.info.time_base * 25 for frame in frames] == [0, 1, 3, 7]


def test_times_must_increase(make, tmp_path):
    pictures = make.scene(2)
    with pytest.raises(ValueError, match="increase"):
        write(tmp_path / "a.mp4", pictures, info_of(pictures), [3, 3])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("row", OUTPUTS)
@pytest.mark.parametrize(
    "colour",
    [
        Colour(1, 1, 1, False),
        Colour(6, 6, 6, False),
        Colour(5, 5, 1, True),
        Colour(9, 9, 14, False),
        Colour(0, 1, 13, True),
    ],
    ids=lambda colour: f"{colour.matrix}-{colour.full_range}",
)
def test_colour(make, tmp_path, row, colour):
    target, lossless = OUTPUTS[row]
    pictures = make.scene(3)
    write(tmp_path / target, pictures, info_of(pictures, colour=colour), lossless=lossless)
    frames, reader = read(tmp_path / target)
    assert make.psnr(frames[1].rgb, pictures[1]) > 38  # whatever the tags, the colours seen are the same
    kept, promised = reader.info.colour, table()[row][4]
    if promised.startswith("all tags"):
        expected = colour if colour.matrix else Colour(6, 1, 13, False)
        assert kept == expected
    elif promised.startswith("primaries and transfer"):
        assert kept == Colour(0, colour.primaries, colour.transfer, True)
    else:
        assert promised.startswith("no tags") and (kept.primaries, kept.transfer) == (2, 2)


@pytest.mark.parametrize("row", OUTPUTS)
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation(make, tmp_path, row, rotation):
    target, lossless = OUTPUTS[row]
    pictures = make.scene(3, 48, 32)
    write(tmp_path / target, pictures, info_of(pictures, rotation=rotation), lossless=lossless)
    frames, reader = read(tmp_path / target)
    promised = table()[row][2]
    if promised.startswith("kept"):
        assert reader.info.rotation == rotation
        assert make.psnr(frames[0].rgb, pictures[0]) > 28
    else:
        assert promised.startswith("applied") and reader.info.rotation == 0
        upright = {
            0: lambda p: p,
            90: lambda p: np.rot90(p, 3),
            180: lambda p: np.rot90(p, 2),
            270: np.rot90,
        }[rotation]
        assert make.psnr(frames[0].rgb, upright(pictures[0])) > 50


@pytest.mark.parametrize("row", OUTPUTS)
def test_sample_aspect_ratio(make, tmp_path, row):
    target, lossless = OUTPUTS[row]
    pictures = make.scene(3)
    write(
        tmp_path / target,
        pictures,
        info_of(pictures, sample_aspect_ratio=Fraction(12, 11)),
        lossless=lossless,
    )
    kept = read(tmp_path / target)[1].info.sample_aspect_ratio
    assert kept == (Fraction(12, 11) if table()[row][3].startswith("kept") else 1)


def test_y4m_turns_the_aspect_ratio_too(make, tmp_path):
    pictures = make.scene(2)
    write(tmp_path / "a.y4m", pictures, info_of(pictures, sample_aspect_ratio=Fraction(4, 3), rotation=90))
    info = read(tmp_path / "a.y4m")[1].info
    assert (info.width, info.height, info.sample_aspect_ratio) == (48, 64, Fraction(3, 4))


def test_y4m_rate(make, tmp_path):
    pictures = make.scene(4)
    for options, durations, rate in (
        ({"average_rate": Fraction(24000, 1001)}, None, Fraction(24000, 1001)),
        ({"time_base": Fraction(1, 50)}, None, Fraction(50)),
        ({"time_base": Fraction(1001, 60000)}, [1, 1, 1, 1], Fraction(60000, 1001)),
    ):
        write(tmp_path / "a.y4m", pictures, info_of(pictures, **options), durations=durations, overwrite=True)
        assert read(tmp_path / "a.y4m")[1].info.average_rate == rate
    write(tmp_path / "b.y4m", pictures[:1], info_of(pictures), durations=[2])
    assert read(tmp_path / "b.y4m")[1].info.average_rate == Fraction(25, 2)


def test_y4m_warns_once_where_times_vary(make, tmp_path):
    pictures = make.scene(6)
    writer = write(tmp_path / "a.y4m", pictures, info_of(pictures), [0, 1, 2, 9, 10, 30])
    assert len(writer.warnings) == 1 and "no times" in writer.warnings[0]
    millis = write(
        tmp_path / "b.y4m",
        pictures,
        info_of(pictures, time_base=Fraction(1, 1000), average_rate=Fraction(30)),
        [0, 33, 67, 100, 133, 167],
    )
    assert not millis.warnings


def test_h264_is_what_players_take(make, tmp_path):
    for size, pixel_format in (((64, 48), "yuv420p"), ((17, 19), "yuv444p")):
        pictures = make.scene(2, *size)
        write(tmp_path / "a.mp4", pictures, info_of(pictures), overwrite=True)
        with av.open(str(tmp_path / "a.mp4")) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            assert container.streams.video[0].pix_fmt == pixel_format


def test_lossless_mkv_is_ffv1(make, tmp_path):
    pictures = make.scene(2)
    write(tmp_path / "a.mkv", pictures, info_of(pictures), lossless=True)
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.streams.video[0].codec_context.name == "ffv1"


def test_frames_of_another_shape(make, tmp_path):
    pictures = make.scene(1)
    with (
        pytest.raises(ValueError, match="uint8"),
        open_output(tmp_path / "a.mp4", info_of(pictures)) as writer,
    ):
        writer.write(Frame(pictures[0][:-1], 0))
    assert not list(tmp_path.iterdir())


# Whole or not at all.


@pytest.mark.parametrize("row", OUTPUTS)
def test_nothing_is_seen_before_the_end_and_nothing_is_left_after_an_error(make, tmp_path, row):
    target, lossless = OUTPUTS[row]
    pictures = make.scene(3)
    for error in (RuntimeError, KeyboardInterrupt):
        with (
            pytest.raises(error),
            open_output(tmp_path / target, info_of(pictures), lossless=lossless) as writer,
        ):
            writer.write(Frame(pictures[0], 0))
            writer.write(Frame(pictures[1], 1))
            assert not (tmp_path / target).exists()
            raise error
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("row", OUTPUTS)
def test_existing_output(make, tmp_path, row):
    target, lossless = OUTPUTS[row]
    pictures = make.scene(4)
    info = info_of(pictures)
    write(tmp_path / target, pictures, info, lossless=lossless)
    with pytest.raises(OutputError, match="exist") as error:
        open_output(tmp_path / target, info, lossless=lossless)
    assert "\n" not in str(error.value) and "-y" in str(error.value)
    with pytest.raises(RuntimeError), open_output(tmp_path / target, info, overwrite=True) as writer:
        writer.write(Frame(pictures[0], 0))
        raise RuntimeError
    assert len(read(tmp_path / target)[0]) == 4
    write(tmp_path / target, pictures[:2], info, lossless=lossless, overwrite=True)
    assert len(read(tmp_path / target)[0]) == 2
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("row", OUTPUTS)
def test_no_frames_is_an_error(make, tmp_path, row):
    target, lossless = OUTPUTS[row]
    with (
        pytest.raises(OutputError, match="no frames"),
        open_output(tmp_path / target, VideoInfo(64, 48), lossless=lossless),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["none/out.mp4", "none/out.y4m", "none/out", "none/frame_%05d.png"])
def test_missing_folder(tmp_path, target):
    with pytest.raises(OutputError, match="does not exist") as error:
        open_output(tmp_path / target, VideoInfo(64, 48))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "lossless"), [("a.webm", False), ("a.gif", False), ("a.png", False), ("a.y4m", True)]
)
def test_outputs_that_do_not_exist(tmp_path, target, lossless):
    with pytest.raises(OutputError):
        open_output(tmp_path / target, VideoInfo(64, 48), lossless=lossless)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="may write"):
        open_output(tmp_path / "a.mp4", VideoInfo(64, 48))


@pytest.mark.parametrize("row", [row for row in OUTPUTS if "folder" not in row])
def test_full_disk(make, tmp_path, row, monkeypatch):
    target, lossless = OUTPUTS[row]
    room = [6000]

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            room[0] -= len(data)
            if room[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

    build = StagedFile.__init__

    def staged(self, *arguments):
        build(self, *arguments)
        self._file = Full(self._file)

    monkeypatch.setattr(StagedFile, "__init__", staged)
    pictures = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8) for i in range(8)]
    with pytest.raises(OutputError, match="no space left") as error:
        write(tmp_path / target, pictures, info_of(pictures), lossless=lossless)
    assert "\n" not in str(error.value) and "free some space" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_full_disk_for_pictures(make, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    pictures = make.scene(2)
    with pytest.raises(OutputError, match="no space left"):
        write(tmp_path / "out", pictures, info_of(pictures))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "name"), [("StagedFile", "a.mkv"), ("StagedPictures", "pictures")])
def test_interrupted_before_anyone_holds_it(tmp_path, kind, name):
    make = f"staged = staging.{kind}({name!r}, False)"
    code = f"from s2vc.video import staging\n{make}\nraise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "KeyboardInterrupt" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_dev_full(make):
    pictures = make.scene(6)
    with pytest.raises(OutputError, match="no space left"):
        write("/dev/full", pictures, info_of(pictures))


def test_devices_are_written_directly(make):
    pictures = make.scene(2)
    write(os.devnull, pictures, info_of(pictures))
    assert not os.path.isfile(os.devnull)


def test_symbolic_link_is_kept(make, tmp_path):
    pictures = make.scene(2)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").write_bytes(b"old")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real" / "a.mp4")
    write(tmp_path / "link.mp4", pictures, info_of(pictures), overwrite=True)
    assert (tmp_path / "link.mp4").is_symlink()
    assert len(read(tmp_path / "real" / "a.mp4")[0]) == 2


# Folders and patterns of pictures.


@pytest.mark.parametrize("target", ["out", "out/", "shots/a_%03d.png", "shots/%d.png"])
def test_png_round_trip_is_exact(make, tmp_path, target):
    (tmp_path / "shots").mkdir()
    pictures = [np.random.default_rng(i).integers(0, 256, (19, 17, 3), dtype=np.uint8) for i in range(12)]
    write(f"{tmp_path}/{target}", pictures, info_of(pictures))
    frames, reader = read(f"{tmp_path}/{target}")
    assert all(np.array_equal(frame.rgb, picture) for frame, picture in zip(frames, pictures, strict=True))
    assert [frame.pts for frame in frames] == list(range(12)) and frames[0].duration == 1
    assert reader.info.time_base == Fraction(1, 25) and reader.info.frame_count == 12
    assert reader.info.colour == Colour(0, 2, 2, True)


def test_pictures_at_a_rate_and_in_part(make, tmp_path):
    pictures = make.scene(30)
    write(tmp_path / "out", pictures, info_of(pictures))
    frames, reader = read(tmp_path / "out", rate=10, start=1, duration="0.5s", scale="32x24")
    assert len(frames) == 5 and frames[0].rgb.shape == (24, 32, 3)
    assert reader.info.time_base == Fraction(1, 10)


def test_pictures_in_natural_order(make, tmp_path):
    pictures = make.scene(3)
    for picture, name in zip(pictures, ("shot2.png", "shot10.png", "shot100.png"), strict=True):
        write(tmp_path / "one", [picture], info_of(pictures))
        os.replace(tmp_path / "one" / "frame_00001.png", tmp_path / name)
        (tmp_path / "one").rmdir()
    (tmp_path / "notes.txt").write_text("not a picture")
    for source in (tmp_path, tmp_path / "shot*.png", tmp_path / "shot%d.png"):
        frames, reader = read(source)
        assert all(
            np.array_equal(frame.rgb, picture) for frame, picture in zip(frames, pictures, strict=True)
        )
        assert bool(reader.warnings) == ("%" in str(source))  # pictures 3 to 9 are missing
    frames, _ = read(tmp_path / "shot10.png")
    assert len(frames) == 1


def test_pictures_that_cannot_be_used(make, tmp_path):
    for source in (
        tmp_path,
        tmp_path / "a_%d.png",
        tmp_path / "*.png",
        tmp_path / "a.png",
        tmp_path / "%d_%d.png",
    ):
        with pytest.raises(InputError) as error:
            open_video(source)
        assert "\n" not in str(error.value)
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(InputError, match=r"1\.png"):
        open_video(tmp_path)
    (tmp_path / "1.png").unlink()
    write(tmp_path / "%d.png", make.scene(2), VideoInfo(64, 48))
    write(tmp_path / "b", make.scene(1, 32, 32), VideoInfo(32, 32))
    os.replace(tmp_path / "b" / "frame_00001.png", tmp_path / "3.png")
    with (
        pytest.raises(InputError, match=r"3\.png is 32x32, the first picture 64x48"),
        open_video(tmp_path) as reader,
    ):
        list(reader)


@pytest.mark.parametrize("pixel_format", ["gray", "rgb48be", "pal8", "rgba", "monob"])
def test_kinds_of_png(make, tmp_path, pixel_format):
    picture = np.repeat(make.scene(1)[0][..., :1], 3, axis=2)
    if pixel_format in ("pal8", "monob"):
        picture = np.where(picture > 100, 255, 0).astype(np.uint8)
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, pixel_format, Fraction(1, 25)
    if pixel_format == "pal8":
        palette = np.zeros((256, 4), np.uint8)
        palette[:] = np.arange(256)[:, None]
        palette[:, 0 if palette.dtype.byteorder == ">" else 3] = 255
        frame = av.VideoFrame.from_ndarray(picture[..., 0], format="gray").reformat(format="rgb24")
        frame = av.VideoFrame(64, 48, "pal8")
        rows = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)
        rows[:48, :64] = picture[..., 0]
        np.frombuffer(frame.planes[1], np.uint8)[:1024] = palette.reshape(-1)
    elif pixel_format == "rgb48be":
        frame = av.VideoFrame.from_ndarray(picture.astype(np.uint16) * 257, format="rgb48le").reformat(
            format="rgb48be"
        )
    else:
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format=pixel_format, dst_color_range=2
        )
    (tmp_path / "a.png").write_bytes(b"".join(bytes(packet) for packet in encoder.encode(frame)))
    frames, _ = read(tmp_path / "a.png")
    assert np.abs(frames[0].rgb.astype(int) - picture).max() <= (0 if pixel_format != "gray" else 1)


def test_folder_with_other_files_is_left_alone(make, tmp_path):
    pictures = make.scene(2)
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", pictures, info_of(pictures))  # an empty folder is taken
    (tmp_path / "out" / "thesis.txt").write_text("three years of work")
    with pytest.raises(OutputError, match="other files"):
        open_output(tmp_path / "out", info_of(pictures), overwrite=True)
    assert (tmp_path / "out" / "thesis.txt").exists()
