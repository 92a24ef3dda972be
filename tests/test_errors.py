"""Wrong and damaged input through the real command line: DESIGN §10 to the letter.

Everywhere: the exit code, one line on stderr and no traceback, nothing half written under or beside the
output's name.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

import s2vc
from s2vc.bitstream import FORMAT_VERSION, StreamReader
from s2vc.bitstream.header import MAGIC, PREFIX_SIZE

FRAMES = 70  # chunks of 32, 32 and 6
# Standard output as users have it, whatever is set where the tests run.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | {
    "OMP_NUM_THREADS": "1"
}


def write_video(path: Path, pictures, transfer: int = 1, options=None) -> Path:
    with av.open(str(path), "w", container_options=options or {}) as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"crf": "10", "preset": "ultrafast", "g": "12"}
        )
        stream.height, stream.width, _ = pictures[0].shape
        stream.pix_fmt = "yuv420p"
        stream.codec_context.color_trc = transfer
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("inputs")


@pytest.fixture(scope="module")
def clip(folder, scene):
    """An mp4 whose index stands in front, so that it can break off."""
    return write_video(folder / "clip.mp4", scene(FRAMES), options={"movflags": "faststart"})


@pytest.fixture(scope="module")
def coded(mini, scene):
    """(bytes of an .s2vc of three chunks, its pictures)."""
    stream, shown = io.BytesIO(), []
    model = s2vc.load(str(mini), device="cpu")
    with s2vc.Encoder(stream, 50, 38, model=model, reconstruct=lambda f: shown.append(f.rgb)) as encoder:
        for picture in scene(FRAMES):
            encoder.write(picture)
    return stream.getvalue(), shown


@pytest.fixture(scope="module")
def small(coded, folder):
    path = folder / "small.s2vc"
    path.write_bytes(coded[0])
    return path


@pytest.fixture
def out(tmp_path):
    """A folder for outputs."""
    path = tmp_path / "out"
    path.mkdir()
    return path


def header_size(data: bytes) -> int:
    return PREFIX_SIZE + int.from_bytes(data[len(MAGIC) + 1 : PREFIX_SIZE], "big") + 4


def chunk_ends(data: bytes) -> list[int]:
    return [entry.end for entry in StreamReader(io.BytesIO(data)).index()]


def assert_ended(ran, code, pattern, out=None):
    """The exit code, and one line that says what is wrong; nothing in the folder of outputs."""
    lines = ran.err.splitlines()
    assert ran.code == code and len(lines) == 1, (ran.code, ran.err)
    start = "s2vc: warning: " if code == 3 and ran.err.startswith("s2vc: warning: ") else "s2vc: "
    assert lines[0].startswith(start) and re.search(pattern, lines[0]), ran.err
    assert "Traceback" not in ran.err and "internal error" not in ran.err
    if out is not None:
        assert list(out.iterdir()) == []


def pictures_in(folder: Path) -> list[np.ndarray]:
    pictures = []
    for path in sorted(folder.iterdir()):
        with av.open(str(path)) as container:
            pictures.append(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    return pictures


# -- inputs of encode -----------------------------------------------------------------------------------


def test_no_video_track(s2vc_command, folder, out):
    path = folder / "sound.mp4"
    with av.open(str(path), "w") as container:
        track = container.add_stream("aac", rate=44100)
        for _ in range(5):
            samples = av.AudioFrame.from_ndarray(
                np.zeros((2, 1024), np.float32), format="fltp", layout="stereo"
            )
            samples.sample_rate = 44100
            container.mux(track.encode(samples))
        container.mux(track.encode())
    assert_ended(s2vc_command("encode", path, out / "a.s2vc"), 1, "sound.mp4 has no video track: ", out)


def test_hdr(s2vc_command, folder, scene, out):
    path = write_video(folder / "hdr.mp4", scene(3), transfer=16)
    assert_ended(s2vc_command("encode", path, out / "a.s2vc"), 1, "hdr.mp4.*HDR.*: ", out)


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"", "empty.mp4"), (b"no video " * 99, "text.mp4"), (b"\x89PNG\r\n\x1a\n", "a.png")],
)
def test_files_that_are_no_video(s2vc_command, tmp_path, out, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    assert_ended(s2vc_command("encode", path, out / "a.s2vc"), 1, f"{name}.*: ", out)


def test_standard_input_that_is_no_video(s2vc_command, out):
    assert_ended(s2vc_command("encode", "-", out / "a.s2vc", stdin=b""), 1, "standard input is empty", out)
    assert_ended(s2vc_command("encode", "-", out / "a.s2vc", stdin=b"?" * 999), 1, "standard input", out)


def test_paths_that_cannot_be_read(s2vc_command, tmp_path, out):
    missing, empty = tmp_path / "missing.mp4", tmp_path / "empty"
    empty.mkdir()
    for path in (missing, empty):
        assert_ended(s2vc_command("encode", path, out / "a.s2vc"), 1, f"{path}.*: check the path", out)
    for command in (("decode", missing, out / "a.mkv"), ("info", missing), ("verify", empty)):
        assert_ended(s2vc_command(*command), 1, "cannot read .*: check the name", out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(s2vc_command, tmp_path, out):
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    assert_ended(s2vc_command("encode", path, out / "a.s2vc"), 1, "permission", out)


def test_an_mp4_that_breaks_off(s2vc_command, clip, folder, mini, scene, out):
    cut = folder / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    ran = s2vc_command("encode", cut, out / "a.s2vc", "--model", mini, "-q")
    assert_ended(ran, 3, "cut.mp4")
    assert [path.name for path in out.iterdir()] == ["a.s2vc"]
    facts = s2vc.info(out / "a.s2vc")
    assert facts.damaged is None and FRAMES * 4 // 10 < facts.frames < FRAMES
    assert s2vc.verify(out / "a.s2vc", model=str(mini)).frames == facts.frames


def test_an_mp4_without_its_index(s2vc_command, folder, scene, out):
    path = write_video(folder / "late.mp4", scene(20))
    path.write_bytes(path.read_bytes()[:-400])
    assert_ended(s2vc_command("encode", path, out / "a.s2vc"), 1, "late.mp4.*: ", out)


# -- outputs --------------------------------------------------------------------------------------------


def test_no_folder_for_the_output(s2vc_command, clip, small, mini, tmp_path):
    for command in (
        ("encode", clip, tmp_path / "no" / "a.s2vc"),
        ("decode", small, tmp_path / "no" / "a.mkv", "--model", mini),
        ("decode", small, tmp_path / "no" / "pictures", "--model", mini),
        ("encode", clip, tmp_path / "a.s2vc", "--recon", tmp_path / "no" / "a.mkv"),
    ):
        assert_ended(s2vc_command(*command), 1, "no does not exist: make it first")
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_exist(s2vc_command, clip, small, mini, tmp_path):
    (tmp_path / "pictures").mkdir()
    files = [tmp_path / "a.s2vc", tmp_path / "a.mkv", tmp_path / "pictures" / "frame_00001.png"]
    for path in files:
        path.write_bytes(b"precious")
    for command in (
        ("encode", clip, tmp_path / "a.s2vc"),
        ("encode", clip, tmp_path / "b.s2vc", "--recon", tmp_path / "a.mkv"),
        ("decode", small, tmp_path / "a.mkv", "--model", mini),
        ("decode", small, tmp_path / "pictures", "--model", mini),
    ):
        assert_ended(s2vc_command(*command), 1, "exists: give -y")
    assert all(path.read_bytes() == b"precious" for path in files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "a.s2vc", "pictures"]


def test_the_input_is_not_replaced(s2vc_command, clip, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.read_bytes())
    (tmp_path / "link.mp4").symlink_to(path)
    for command in (
        ("encode", path, path, "-y"),
        ("encode", path, tmp_path / "link.mp4", "-y"),
        ("encode", path, tmp_path / "a.s2vc", "--recon", path, "-y"),
    ):
        assert_ended(
            s2vc_command(*command), 1, "clip.mp4|link.mp4 is the input: give the output another name"
        )
    assert path.read_bytes() == clip.read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["clip.mp4", "link.mp4"]
    with pytest.raises(s2vc.OutputError, match="is the input"):  # a folder of pictures, too
        s2vc.encode(tmp_path, tmp_path / "a.s2vc", recon=tmp_path, overwrite=True)


def test_wishes_that_cannot_be(clip, small, mini, out):
    with pytest.raises(s2vc.OutputError, match="cannot be the file and the pictures"):
        s2vc.encode(clip, "-", recon="-")
    with pytest.raises(ValueError, match="copy, opus, none, not Opus"):
        s2vc.encode(clip, out / "a.s2vc", audio="Opus")
    with pytest.raises(s2vc.InputError, match="must not be negative"):
        s2vc.decode(small, out / "a.mkv", model=str(mini), start=-1)


def test_outputs_of_no_known_kind(s2vc_command, small, mini, out):
    ran = s2vc_command("decode", small, out / "a.xyz", "--model", mini)
    assert_ended(ran, 1, r"\.xyz is not an output format: ", out)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_device(s2vc_command, clip, small, mini, tmp_path):
    for command in (
        ("encode", clip, "/dev/full", "--model", mini, "-q", "--frames", 3),
        ("decode", small, "/dev/full", "--model", mini, "-q"),
    ):
        assert_ended(s2vc_command(*command), 1, "cannot write /dev/full .*: free some space")
    with open("/dev/full", "wb") as full:
        for command in (("decode", small, "-"), ("encode", clip, "-", "-q", "--frames", "3")):
            ran = subprocess.run(
                [sys.executable, "-m", "s2vc", *command, "--model", mini],
                stdout=full,
                stderr=subprocess.PIPE,
                env=BUFFERED,
            )
            assert ran.returncode == 1 and ran.stderr.count(b"\n") == 1 and b"standard output" in ran.stderr


def test_a_reader_that_leaves_early_is_no_error(coded, mini, folder, tmp_path):
    """It takes the first bytes of a picture that no pipe's buffer holds."""
    stream = io.BytesIO()
    with s2vc.Encoder(stream, 320, 240, model=str(mini)) as encoder:
        encoder.write(np.zeros((240, 320, 3), np.uint8))
    large = folder / "large.s2vc"
    large.write_bytes(stream.getvalue())
    command = [sys.executable, "-m", "s2vc", "decode", large, "--model", mini, "-q"]
    with subprocess.Popen(
        [*command, "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=BUFFERED
    ) as ran:
        assert ran.stdout is not None and ran.stderr is not None
        ran.stdout.read(1)
        ran.stdout.close()
        assert (ran.wait(300), ran.stderr.read()) == (0, b"")
    os.mkfifo(tmp_path / "pipe.y4m")
    with subprocess.Popen([*command, tmp_path / "pipe.y4m"], stderr=subprocess.PIPE, env=BUFFERED) as ran:
        assert ran.stderr is not None
        with open(tmp_path / "pipe.y4m", "rb", buffering=0) as reader:
            reader.read(1)
        assert (ran.wait(300), ran.stderr.read()) == (0, b"")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, half of it taken."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "s2vc-test", place], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_pictures_into_the_root_of_a_file_system(s2vc_command, small, mini, small_disk):
    """As a volume of a container is."""
    (small_disk / ".pictures.01234567.part").mkdir()  # left by a run that was killed
    ran = s2vc_command("decode", small, small_disk, "--model", mini, "--frames", 4)
    assert ran.code == 0, ran.err
    assert len(list(small_disk.glob("frame_*.png"))) == 4
    assert s2vc_command("decode", small, small_disk, "--model", mini, "--frames", 2, "-y").code == 0
    assert len(list(small_disk.glob("*.png"))) == 2


def test_a_full_disk(s2vc_command, small, mini, scene, folder, small_disk):
    source = write_video(folder / "wide.mp4", scene(40, 240, 160))
    (small_disk / "ballast").write_bytes(bytes(56 << 10))
    for command in (
        ("decode", small, small_disk / "a.y4m"),
        ("decode", small, small_disk / "a.mkv", "--lossless"),
        ("decode", small, small_disk / "a.mp4"),
        ("decode", small, small_disk / "pictures"),
        ("encode", source, small_disk / "a.s2vc", "--quality", "63"),
    ):
        ran = s2vc_command(*command, "--model", mini, "-q")
        assert_ended(ran, 1, r"cannot write .* \(no space left on device\): free some space")
        assert [path.name for path in small_disk.iterdir()] == ["ballast"]


# -- .s2vc files ----------------------------------------------------------------------------------------


def refused(s2vc_command, path, mini, pattern, out):
    """decode, info and verify: exit 1, nothing written."""
    for command in (
        ("decode", path, out / "a.mkv", "--model", mini),
        ("info", path),
        ("verify", path, "--model", mini),
    ):
        ran = s2vc_command(*command)
        assert_ended(ran, 1, pattern, out)
        assert ran.out == b""


def test_another_file_under_our_name(s2vc_command, clip, mini, tmp_path, out):
    path = tmp_path / "holiday.s2vc"
    path.write_bytes(clip.read_bytes())
    refused(s2vc_command, path, mini, "holiday.s2vc: not an s2vc file: ", out)


def test_damage_in_the_header(s2vc_command, coded, mini, tmp_path, out):
    data = bytearray(coded[0])
    data[header_size(data) // 2] ^= 4
    path = tmp_path / "a.s2vc"
    path.write_bytes(data)
    refused(s2vc_command, path, mini, "a.s2vc: the header is damaged .*: fetch the file again", out)


def test_a_cut_in_the_header(s2vc_command, coded, mini, tmp_path, out):
    path = tmp_path / "a.s2vc"
    path.write_bytes(coded[0][: header_size(coded[0]) - 3])
    refused(s2vc_command, path, mini, "a.s2vc: the header is cut short: ", out)


def test_a_newer_format(s2vc_command, coded, mini, tmp_path, out):
    data = bytearray(coded[0])
    end = header_size(data)
    data[len(MAGIC)] = FORMAT_VERSION + 1
    data[end - 4 : end] = zlib.crc32(data[: end - 4]).to_bytes(4, "big")
    path = tmp_path / "a.s2vc"
    path.write_bytes(data)
    pattern = f"format version {FORMAT_VERSION + 1}.* up to {FORMAT_VERSION}: install a newer s2vc"
    refused(s2vc_command, path, mini, pattern, out)


def test_a_file_that_needs_another_model(s2vc_command, small, clip, folder, mini, out):
    digest = s2vc.info(small).model_digest.hex()
    for command in (("decode", small, out / "a.mkv"), ("verify", small)):
        assert_ended(
            s2vc_command(*command), 1, rf"model mini-1 \({digest}\).*: name its file with --model", out
        )
        other = s2vc_command(*command, "--model", folder / "none.safetensors")
        assert_ended(other, 1, "none.safetensors does not exist: ", out)
    damaged = folder / "damaged.safetensors"
    damaged.write_bytes(mini.read_bytes()[:-1])
    assert_ended(s2vc_command("verify", small, "--model", damaged), 1, "not a model of s2vc", out)
    assert_ended(s2vc_command("encode", clip, out / "a.s2vc", "--model", "tiny-99"), 1, "tiny-99", out)


def test_a_flipped_byte_in_a_payload(s2vc_command, coded, mini, tmp_path, out):
    """In the second chunk: the first one's frames are written, and of the second those before the damage."""
    data, shown = coded
    ends = chunk_ends(data)
    flipped = bytearray(data)
    flipped[(ends[0] + 3 * ends[1]) // 4] ^= 16
    path = tmp_path / "a.s2vc"
    path.write_bytes(flipped)
    ran = s2vc_command("decode", path, out / "pictures", "--model", mini, "-q")
    assert_ended(ran, 3, "a.s2vc: frame [0-9]+ is damaged: ")
    frames = pictures_in(out / "pictures")
    named = re.search(r"frame ([0-9]+)", ran.err)
    assert named and len(frames) == int(named[1]) and 40 < len(frames) < 64
    whole = len(frames) // 8 * 8  # the last window is shorter than the encoder's
    np.testing.assert_array_equal(np.stack(frames[:whole]), np.stack(shown[:whole]))

    ran = s2vc_command("verify", path, "--model", mini)
    assert_ended(ran, 3, f"a.s2vc: frame {len(frames)} is damaged")
    ran = s2vc_command("info", path)
    assert_ended(ran, 3, "a.s2vc: ")
    assert b"50" in ran.out


def test_a_flipped_byte_in_the_first_packet(s2vc_command, coded, mini, tmp_path, out):
    """Nothing can be decoded, so nothing is written."""
    data = bytearray(coded[0])
    (place,) = [entry.offset for entry in StreamReader(io.BytesIO(data)).index()][:1]
    chunk = next(iter(StreamReader(io.BytesIO(data))))
    start = data.index(chunk.packets[0].payload, place)
    data[start + 5] ^= 1
    path = tmp_path / "a.s2vc"
    path.write_bytes(data)
    assert_ended(s2vc_command("decode", path, out / "a.mkv", "--model", mini), 3, "frame 0 is damaged", out)


@pytest.mark.parametrize("where", ["in the second chunk", "between two chunks"])
def test_a_file_cut_in_the_middle(s2vc_command, coded, mini, tmp_path, out, where):
    data, shown = coded
    ends = chunk_ends(data)
    cut = data[: (ends[0] + ends[1]) // 2] if where == "in the second chunk" else data[: ends[1]]
    path = tmp_path / "a.s2vc"
    path.write_bytes(cut)
    ran = s2vc_command("decode", path, out / "pictures", "--model", mini, "-q")
    assert_ended(ran, 3, "a.s2vc: .*breaks off.*")
    assert [entry.name for entry in out.iterdir()] == ["pictures"]
    frames = pictures_in(out / "pictures")
    assert len(frames) == 64 if where == "between two chunks" else 40 < len(frames) < 64
    whole = len(frames) // 8 * 8
    np.testing.assert_array_equal(np.stack(frames[:whole]), np.stack(shown[:whole]))
    if where == "in the second chunk":
        ran = s2vc_command("decode", "-", "-", "--model", mini, "-q", stdin=cut)
        assert_ended(ran, 3, "standard input: .*breaks off")
        assert ran.out.startswith(b"YUV4MPEG2 W50 H38 ") and ran.out.count(b"FRAME\n") == len(frames)
    ran = s2vc_command("verify", path, "--model", mini)
    assert_ended(ran, 3, "breaks off")


# -- interrupts -----------------------------------------------------------------------------------------


def interrupted(arguments, stdin: bytes, out: Path, begun, number: int) -> tuple[int, str]:
    """Run with a standard input that stalls; once ``begun(out)``, send the signal."""
    with subprocess.Popen(
        [sys.executable, "-m", "s2vc", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(stdin)
        process.stdin.flush()
        deadline = time.monotonic() + 300
        while not begun(out) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert begun(out) and process.poll() is None
        if begun is written:
            time.sleep(1)  # most likely it waits inside FFmpeg's call for more input by then
        process.send_signal(number)
        code = process.wait(300)
        return code, process.stderr.read().decode()


def opened(out: Path) -> bool:
    """An output stands there, under its hidden name: networks are being loaded."""
    return any(out.iterdir())


def written(out: Path) -> bool:
    """Frames have been written: the program waits for more."""
    return any(path.is_file() and path.stat().st_size > 0 for path in out.rglob("*"))


INTERRUPTED_WHILE_MADE = """
from s2vc.__main__ import main
from s2vc.video.staging import {kind}

def interrupted(self, *args, make={kind}.__init__, **options):
    make(self, *args, **options)
    self.itself = self
    raise KeyboardInterrupt

{kind}.__init__ = interrupted
main()
"""


@pytest.mark.parametrize(("kind", "target"), [("StagedFile", "a.mp4"), ("StagedPictures", "pictures")])
def test_interrupted_while_the_output_is_made(coded, folder, mini, out, kind, target):
    """Nobody holds the hidden file yet, but the interrupt's traceback and a cycle do."""
    source = folder / "whole.s2vc"
    source.write_bytes(coded[0])
    code = INTERRUPTED_WHILE_MADE.format(kind=kind)
    command = [sys.executable, "-c", code, "decode", source, out / target, "--model", mini]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (130, "s2vc: interrupted\n")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("begun", [opened, written])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_interrupted_encode(scene, mini, out, begun, number):
    planes = [picture.transpose(2, 0, 1) for picture in scene(40)]
    frames = b"".join(b"FRAME\n" + np.ascontiguousarray(plane).tobytes() for plane in planes)
    y4m = b"YUV4MPEG2 W50 H38 F25:1 Ip A1:1 C444\n" + frames
    command = ("encode", "-", out / "a.s2vc", "--recon", out / "recon.y4m", "--model", mini)
    code, err = interrupted(command, y4m, out, begun, number)
    assert (code, err) == (130, "s2vc: interrupted\n")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "begun"), [("a.mkv", opened), ("a.mp4", opened), ("pictures", written), ("a.y4m", written)]
)
def test_interrupted_decode(coded, mini, out, target, begun):
    data, _ = coded
    front = data[: chunk_ends(data)[0] + 20]
    command = ("decode", "-", out / target, "--model", mini)
    code, err = interrupted(command, front, out, begun, signal.SIGINT)
    assert (code, err) == (130, "s2vc: interrupted\n")
    assert list(out.iterdir()) == []
