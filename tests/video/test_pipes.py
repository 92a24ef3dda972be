"""y4m on standard input and output, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from s2vc.errors import InputError
from s2vc.video import Frame, VideoInfo, open_output, open_video

READ = """
import sys
from s2vc.video import open_video
with open_video("-") as reader:
    info = reader.info
    total = sum(int(frame.rgb.sum()) for frame in reader)
    print(info.width, info.height, info.average_rate, info.colour.full_range, total, reader.damaged)
"""

WRITE = """
import sys
import numpy as np
from fractions import Fraction
from s2vc.video import open_output, VideoInfo, Frame
with open_output("-", VideoInfo(64, 48, time_base=Fraction(1, 30))) as writer:
    for index in range(int(sys.argv[1])):
        if not writer.write(Frame(np.full((48, 64, 3), index % 256, np.uint8), index)):
            break
print("stopped" if writer.stopped else "done", writer.frames, file=sys.stderr)
"""


def run(code, *arguments, data=b"", **options):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], input=data, capture_output=True, timeout=60, **options
    )


def y4m(make, tmp_path, count=5, size=(64, 48)) -> bytes:
    with open_output(tmp_path / "a.y4m", VideoInfo(*size, time_base=Fraction(1, 30))) as writer:
        for index, picture in enumerate(make.scene(count, *size)):
            writer.write(Frame(picture, index))
    return (tmp_path / "a.y4m").read_bytes()


def test_stdin_reads_what_the_file_reads(make, tmp_path):
    data = y4m(make, tmp_path)
    with open_video(tmp_path / "a.y4m") as reader:
        total = sum(int(frame.rgb.sum()) for frame in reader)
    result = run(READ, data=data)
    assert result.stdout.decode().split() == ["64", "48", "30", "False", str(total), "None"], (
        result.stderr.decode()
    )


def test_stdin_that_breaks_off(make, tmp_path):
    data = y4m(make, tmp_path)
    result = run(READ, data=data[:-100])
    assert b"breaks off inside a frame" in result.stdout and not result.stderr


def test_stdin_takes_other_formats_that_stream(make, tmp_path):
    path = make.video(tmp_path / "a.mkv", make.scene(5))
    result = run(READ, data=path.read_bytes())
    assert result.stdout.decode().startswith("64 48 25 False"), result.stderr.decode()


@pytest.mark.parametrize("data", [b"", b"garbage" * 1000, b"YUV4MPEG2 W64\n"])
def test_stdin_that_is_no_video(data):
    result = run(READ, data=data)
    assert result.returncode == 1 and b"InputError" in result.stderr


def test_stdout_carries_y4m_and_nothing_else(tmp_path):
    result = run(WRITE, "4")
    assert result.returncode == 0 and result.stderr == b"done 4\n"
    header, rest = result.stdout.split(b"\n", 1)
    assert header == b"YUV4MPEG2 W64 H48 F30:1 Ip A1:1 C444 XCOLORRANGE=LIMITED"
    assert len(rest) == 4 * (6 + 3 * 64 * 48) and rest.startswith(b"FRAME\n")
    (tmp_path / "a.y4m").write_bytes(result.stdout)
    with open_video(tmp_path / "a.y4m") as reader:
        levels = [int(np.median(frame.rgb)) for frame in reader]
    assert all(abs(level - index) <= 1 for index, level in enumerate(levels))


def test_reader_that_goes_away_is_a_clean_stop():
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE, "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout is not None and writer.stderr is not None
    writer.stdout.read(20000)
    writer.stdout.close()
    message = writer.stderr.read()
    writer.stderr.close()
    assert writer.wait(60) == 0 and message.startswith(b"stopped")


def test_named_pipe(make, tmp_path):
    data = y4m(make, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    feeder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; open(sys.argv[1], 'wb').write(open(sys.argv[2], 'rb').read())",
            str(tmp_path / "pipe"),
            str(tmp_path / "a.y4m"),
        ]
    )
    with open_video(tmp_path / "pipe") as reader:
        assert len(list(reader)) == 5
    assert feeder.wait(60) == 0 and data


@pytest.mark.parametrize("tag", ["C420jpeg", "C420mpeg2", "C422", "C444", "Cmono", "C420p10"])
@pytest.mark.parametrize("full", [False, True])
def test_kinds_of_y4m(make, tmp_path, tag, full):
    picture = make.scene(1)[0]
    kind = {
        "C420jpeg": "yuv420p",
        "C420mpeg2": "yuv420p",
        "C422": "yuv422p",
        "C444": "yuv444p",
        "Cmono": "gray",
        "C420p10": "yuv420p10le",
    }[tag]
    frame = make.av_frame(picture, kind, 5, full)
    step = 2 if "p10" in tag else 1
    planes = b"".join(
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width * step].tobytes()
        for plane in frame.planes
    )
    head = (
        f"YUV4MPEG2 W64 H48 F24000:1001 Ip A12:11 {tag} XCOLORRANGE={'FULL' if full else 'LIMITED'}\nFRAME\n"
    )
    (tmp_path / "a.y4m").write_bytes(head.encode() + planes)
    with open_video(tmp_path / "a.y4m") as reader:
        frames = list(reader)
    assert reader.damaged is None and reader.info.colour.full_range == full
    assert reader.info.sample_aspect_ratio == Fraction(12, 11) and reader.info.average_rate == Fraction(
        24000, 1001
    )
    if tag == "Cmono":
        picture = np.repeat(make.to_yuv(picture, 5, True)[0][..., None], 3, axis=2)
    assert make.psnr(frames[0].rgb, picture) > (42 if tag == "C420mpeg2" else 45)


def test_y4m_with_a_damaged_frame_header(make, tmp_path):
    data = bytearray(y4m(make, tmp_path))
    place = data.index(b"FRAME", data.index(b"FRAME") + 1)
    data[place : place + 5] = b"XXXXX"
    (tmp_path / "a.y4m").write_bytes(bytes(data))
    with open_video(tmp_path / "a.y4m") as reader:
        assert len(list(reader)) == 1
    assert reader.damaged and "\n" not in reader.damaged


def test_terminals_are_refused(monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with pytest.raises(InputError, match="terminal"):
        open_video("-")


def test_memory_does_not_grow(make, tmp_path):
    code = """
import resource, sys
from s2vc.video import open_output, open_video
with open_video(sys.argv[1]) as reader, open_output(sys.argv[2], reader.info, overwrite=True) as writer:
    for frame in reader:
        writer.write(frame)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for count in (60, 360):
        with open_output(tmp_path / "in.y4m", VideoInfo(320, 240), overwrite=True) as writer:
            picture = make.scene(1, 320, 240)[0]
            for index in range(count):
                writer.write(Frame(np.roll(picture, index, axis=1), index))
        peaks.append(int(run(code, str(tmp_path / "in.y4m"), str(tmp_path / "out.mp4")).stdout))
    assert peaks[1] < peaks[0] + 12_000  # kilobytes; 300 frames are 69 MB
