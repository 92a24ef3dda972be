"""Live use: no frame waits for the next one; parts of a file are read alone; an interrupt leaves nothing."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import s2vc
from s2vc.bitstream import StreamReader

WIDTH, HEIGHT = 48, 32


@pytest.fixture(scope="module")
def model(mini):
    return s2vc.load(str(mini), device="cpu")


def y4m(pictures) -> tuple[bytes, list[bytes]]:
    """(header, frames) of a y4m stream; the pictures' RGB stands for its planes."""
    height, width, _ = pictures[0].shape
    frames = [b"FRAME\n" + np.ascontiguousarray(p.transpose(2, 0, 1)).tobytes() for p in pictures]
    return f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C444\n".encode(), frames


class Link(io.RawIOBase):
    """What an encoder wrote and flushed, for a decoder that must not ask for more than there is."""

    def __init__(self) -> None:
        self.waiting, self.ready = b"", b""

    def write(self, data) -> int:
        self.waiting += bytes(data)
        return len(data)

    def flush(self) -> None:
        self.ready += self.waiting
        self.waiting = b""

    def read(self, size: int = -1) -> bytes:
        assert self.ready, "the decoder would wait for the next frame"
        data, self.ready = self.ready[:size], self.ready[size:]
        return data


@pytest.mark.parametrize("conceal", [False, True])
def test_latency_is_no_frame(model, scene, conceal):
    """The picture of a frame is there before the encoder is given the next one."""
    link = Link()
    encoder = s2vc.Encoder(link, WIDTH, HEIGHT, model=model, low_delay=True, keyint=12)
    decoder = None
    for number, picture in enumerate(scene(35, WIDTH, HEIGHT)):  # over the end of a chunk
        encoder.write(picture)
        decoder = decoder or s2vc.Decoder(link, model=model, conceal=conceal)
        assert next(decoder).time == number
        assert not link.ready  # and nothing of it is left
    encoder.close()
    assert decoder is not None and next(decoder, None) is None


def test_a_full_chunk_leaves_at_once(model, scene):
    link = Link()
    encoder = s2vc.Encoder(link, WIDTH, HEIGHT, model=model, keyint=250)
    for picture in scene(33, WIDTH, HEIGHT):
        encoder.write(picture)
    assert not link.waiting
    assert len(next(iter(StreamReader(io.BytesIO(link.ready)))).packets) == 32


def test_commands_keep_step(mini, scene):
    """The same of the commands: each frame goes in only when the one before has come out."""
    head, frames = y4m(scene(4, WIDTH, HEIGHT))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "s2vc"]
    with (
        subprocess.Popen(
            [*program, "encode", "-", "-", "--low-delay", "-q", "--model", str(mini)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        ) as encoder,
        subprocess.Popen(
            [*program, "decode", "-", "-", "-q", "--model", str(mini)],
            stdin=encoder.stdout,
            stdout=subprocess.PIPE,
            env=environment,
        ) as decoder,
    ):
        assert encoder.stdin and encoder.stdout and decoder.stdout
        encoder.stdout.close()
        encoder.stdin.write(head)
        for number, frame in enumerate(frames):
            encoder.stdin.write(frame)
            encoder.stdin.flush()
            if number == 0:
                assert decoder.stdout.readline().startswith(b"YUV4MPEG2 W48 H32 F25:1")
            assert len(decoder.stdout.read(len(frame))) == len(frame)
        encoder.stdin.close()
        assert decoder.stdout.read() == b""
        assert (encoder.wait(), decoder.wait()) == (0, 0)


def test_pipe_example(mini, scene, tmp_path):
    """``ffmpeg … | s2vc encode - - --low-delay | s2vc decode - - | ffmpeg …``."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    head, frames = y4m(scene(5, WIDTH, HEIGHT))
    (tmp_path / "in.y4m").write_bytes(head + b"".join(frames))
    ours = f"{shlex.quote(sys.executable)} -m s2vc"
    line = (
        f"{shlex.quote(ffmpeg)} -v error -i in.y4m -pix_fmt yuv420p -f yuv4mpegpipe - "
        f"| {ours} encode - - --low-delay -q --model {shlex.quote(str(mini))} "
        f"| {ours} decode - - -q --model {shlex.quote(str(mini))} "
        f"| {shlex.quote(ffmpeg)} -v error -i - -f framehash -"
    )
    ran = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    hashes = [row for row in ran.stdout.splitlines() if not row.startswith("#")]
    assert len(hashes) == 5 and len({row.rpartition(",")[2] for row in hashes}) == 5


class Counting(io.RawIOBase):
    """A file that knows which of its bytes were read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0
        self.seen: set[int] = set()

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, len(self.data))[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, size: int = -1) -> bytes:
        data = self.data[self.position : self.position + size] if size >= 0 else self.data[self.position :]
        self.seen.update(range(self.position, self.position + len(data)))
        self.position += len(data)
        return data


@pytest.fixture(scope="module")
def film(model, scene) -> tuple[bytes, list[np.ndarray]]:
    """54 frames in 18 chunks of three, each with its I-frame: enough for an index."""
    stream = io.BytesIO()
    with s2vc.Encoder(stream, 32, 32, model=model, keyint=3) as encoder:
        for picture in scene(54, 32, 32):
            encoder.write(picture)
    stream.seek(0)
    return stream.getvalue(), [frame.picture for frame in s2vc.Decoder(stream, model=model)]


@pytest.mark.parametrize("conceal", [False, True])
def test_a_part_reads_only_what_it_needs(film, model, conceal):
    data, pictures = film
    places = StreamReader(io.BytesIO(data)).index()
    file = Counting(data)
    decoder = s2vc.Decoder(file, model=model, conceal=conceal)
    decoder.seek(31, 35)
    frames = list(decoder)
    assert [frame.time for frame in frames] == [31, 32, 33, 34]
    assert all((f.picture == p).all() for f, p in zip(frames, pictures[31:], strict=False))
    needed = set(range(places[0].offset))  # the header
    needed |= set(range(places[10].offset, places[11].end))  # frames 30 to 35
    needed |= set(range(places[-1].end, len(data)))  # index and end mark
    assert file.seen == needed


def test_without_an_index_only_heads_are_read(film, model):
    """Of the chunks before and behind, their heads: 12 bytes and a byte or two a frame."""
    data, pictures = film
    places = StreamReader(io.BytesIO(data)).index()
    file = Counting(data[: places[-1].end])  # neither index nor end mark
    decoder = s2vc.Decoder(file, model=model)
    decoder.seek(31, 35)
    assert all((f.picture == p).all() for f, p in zip(decoder, pictures[31:35], strict=True))
    for number, place in enumerate(places):
        read = len(file.seen & set(range(place.offset, place.end)))
        assert read == place.end - place.offset if number in (10, 11) else read <= 24


def test_a_pipe_is_read_up_to_the_part_and_painted_from_the_last_intra_frame(film, model):
    data, pictures = film

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    decoder = s2vc.Decoder(Pipe(data), model=model)
    rendered = []
    networks = decoder.model.networks
    render = networks.render
    networks.render = lambda features, kinds, state: rendered.extend(kinds) or render(features, kinds, state)
    try:
        decoder.seek(32, 35)
        frames = list(decoder)
    finally:
        del networks.render
    assert [frame.time for frame in frames] == [32, 33, 34]
    assert all((f.picture == p).all() for f, p in zip(frames, pictures[32:], strict=False))
    assert len(rendered) == 6


def test_long_ways_to_a_part_are_not_painted(model, scene):
    """Only the frames that the generator looks back at: the pictures are those of the whole film."""
    stream = io.BytesIO()
    with s2vc.Encoder(stream, 32, 32, model=model, keyint=100) as encoder:
        for picture in scene(44, 32, 32):
            encoder.write(picture)
    stream.seek(0)
    pictures = [frame.picture for frame in s2vc.Decoder(stream, model=model)]
    stream.seek(0)
    decoder = s2vc.Decoder(stream, model=model)
    networks, rendered = decoder.model.networks, []
    render = networks.render
    networks.render = lambda features, kinds, state: rendered.extend(kinds) or render(features, kinds, state)
    try:
        decoder.seek(41)
        frames = list(decoder)
    finally:
        del networks.render
    assert [frame.time for frame in frames] == [41, 42, 43]
    assert all((f.picture == p).all() for f, p in zip(frames, pictures[41:], strict=True))
    assert len(rendered) == 8 + 4  # of a chunk of twelve; none of the 32 before it


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("resume", [False, True])
def test_an_interrupt_leaves_nothing(mini, scene, tmp_path, resume):
    """Not under the output's name; with --resume the part that is done, under its own."""
    clip = tmp_path / "clip"
    clip.mkdir()
    picture = scene(1, 160, 96)[0]
    for number in range(400):
        cv2.imwrite(str(clip / f"{number:03}.png"), np.roll(picture, number, 1))
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "s2vc", "encode", str(clip), str(out / "a.s2vc"), "--model", str(mini)),
            *("--keyint", "2", *(["--resume"] if resume else [])),
        ],
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not (resume and any(file.stat().st_size > 200 for file in out.iterdir())):
        if not resume and any(out.iterdir()):
            break
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert (process.returncode, message) == (130, b"s2vc: interrupted\n")
    assert [file.name for file in out.iterdir()] == (["a.s2vc.part"] if resume else [])


def test_damage_on_the_command_line(film, mini, tmp_path, s2vc_command):
    """Exit 3 either way: the frames before the damage, or all of them."""
    data, _ = film
    place = StreamReader(io.BytesIO(data)).index()[4].end - 10
    hurt = tmp_path / "a.s2vc"
    hurt.write_bytes(data[:place] + b"??" + data[place + 2 :])
    for options, count in ((), (12, 14)), (("--conceal",), (54, 54)):
        target = Path(tmp_path / f"frames{len(options)}")
        ran = s2vc_command("decode", hurt, target, "--model", mini, *options)
        assert ran.code == 3 and "s2vc: warning: " in ran.err
        assert count[0] <= len(list(target.iterdir())) <= count[1]
        if options:
            assert "frames are lost (" in ran.err and "the last good picture stands in for each" in ran.err
