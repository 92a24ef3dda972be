"""The API frame by frame, in this process: streams, pipes, sizes, times; its docstrings' examples."""

from __future__ import annotations

import doctest
import importlib
import io
import os
import shutil
import threading
from fractions import Fraction

import numpy as np
import pytest

import s2vc
from s2vc.models import files
from s2vc.video import Colour, VideoInfo


@pytest.fixture(scope="module")
def model(mini):
    return s2vc.load(str(mini), device="cpu")


def encoded(model, pictures, **options):
    """(bytes of a stream, what its decoder shall show)."""
    stream, shown = io.BytesIO(), []
    height, width, _ = pictures[0].shape
    with s2vc.Encoder(stream, width, height, model=model, reconstruct=shown.append, **options) as encoder:
        for picture in pictures:
            encoder.write(picture)
    assert encoder.frames == len(pictures) and encoder.bytes_written == len(stream.getvalue())
    return stream.getvalue(), [frame.rgb for frame in shown]


def decoded(model, data, **options):
    return list(s2vc.Decoder(io.BytesIO(data), model=model, **options))


def assert_same(frames, pictures):
    assert len(frames) == len(pictures)
    for frame, picture in zip(frames, pictures, strict=True):
        np.testing.assert_array_equal(frame.picture, picture)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (17, 16), (33, 31), (16, 70), (130, 18), (64, 48)])
@pytest.mark.parametrize("quality", [0, 63])
def test_every_size_and_quality(model, scene, width, height, quality):
    pictures = scene(10, width, height)
    data, shown = encoded(model, pictures, quality=quality)
    assert shown[0].shape == (height, width, 3) and shown[0].dtype == np.uint8
    assert_same(decoded(model, data), shown)


def test_quality_is_worth_its_bits(model, scene, psnr):
    pictures = scene(20)
    sizes, fidelity = [], []
    for quality in (0, 20, 40, 63):
        data, shown = encoded(model, pictures, quality=quality)
        sizes.append(len(data))
        fidelity.append(psnr(shown, pictures))
    assert sizes == sorted(sizes)
    assert fidelity[0] < fidelity[-1]  # drawn weights promise no more


@pytest.mark.parametrize("keyint", [1, 5, 32, 33, "0.4s"])
def test_intra_frames(model, scene, keyint):
    data, shown = encoded(model, scene(40), keyint=keyint)
    assert_same(decoded(model, data), shown)
    frames = keyint if isinstance(keyint, int) else 10
    from s2vc.bitstream import StreamReader

    chunks = list(StreamReader(io.BytesIO(data)))
    starts = [chunk.first_frame for chunk in chunks if chunk.intra]
    assert starts == list(range(0, 40, frames))
    assert max(len(chunk.packets) for chunk in chunks) == min(frames, 32)


def test_times_and_durations_are_kept(model, scene):
    times, durations = [7, 8, 12, 13, 40], [1, 4, 1, 27, 3]
    info = VideoInfo(50, 38, time_base=Fraction(1, 90), colour=Colour(1, 1, 1, False))
    stream = io.BytesIO()
    with s2vc.Encoder(stream, info=info, model=model) as encoder:
        for picture, time, duration in zip(scene(5), times, durations, strict=True):
            encoder.write(picture, time, duration)
    frames = decoded(model, stream.getvalue())
    assert [frame.time for frame in frames] == times
    assert [frame.duration for frame in frames] == durations


def test_rates_that_are_no_small_fractions(model, scene, tmp_path):
    """An average over a long film at 90 kHz, as FFmpeg gives it; a decimal number."""
    average = Fraction(2134530007, 78123457)
    info = VideoInfo(48, 32, time_base=Fraction(1, 90000), average_rate=average)
    (tmp_path / "a.s2vc").write_bytes(encoded(model, scene(3, 48, 32), info=info)[0])
    s2vc.decode(tmp_path / "a.s2vc", tmp_path / "a.mp4", model=model)
    found = s2vc.Decoder(io.BytesIO((tmp_path / "a.s2vc").read_bytes()), model=model).header
    assert float(1 / (found.frame_duration * found.time_base)) == pytest.approx(float(average), rel=1e-6)
    stream = io.BytesIO(encoded(model, scene(3, 48, 32), rate=29.97)[0])
    assert s2vc.Decoder(stream, model=model).header.time_base == Fraction(100, 2997)


def test_seeking_gives_the_same_pictures(model, scene):
    data, shown = encoded(model, scene(50), keyint=20)
    decoder = s2vc.Decoder(io.BytesIO(data), model=model)
    for wanted in (47, 0, 39, 1000):
        decoder.seek(wanted)
        frames = list(decoder)
        assert [frame.time for frame in frames] == list(range(50))[wanted:]
        assert_same(frames, shown[wanted:])


def test_a_decoder_is_one_iterator(model, scene):
    data, shown = encoded(model, scene(40))
    decoder = s2vc.Decoder(io.BytesIO(data), model=model)
    assert decoder.frame_count == 40
    assert_same([next(decoder), next(iter(decoder)), *decoder], shown)
    assert list(decoder) == []


def test_an_encoder_says_what_is_wrong(model, scene):
    picture = scene(1)[0]
    encoder = s2vc.Encoder(io.BytesIO(), 50, 38, model=model)
    encoder.write(picture)
    for wrong in (picture[1:], picture.astype(np.float32), picture[..., 0]):
        with pytest.raises(ValueError, match="uint8"):
            encoder.write(wrong)
    with pytest.raises(ValueError, match="rise"):
        encoder.write(picture, 0)
    with pytest.raises(ValueError, match="quality"):
        s2vc.Encoder(io.BytesIO(), 50, 38, model=model, quality=64)
    with pytest.raises(TypeError, match="encode takes paths"):
        s2vc.Encoder("a.s2vc", 50, 38, model=model)
    with pytest.raises(TypeError, match="decode takes paths"):
        s2vc.Decoder("a.s2vc")
    with pytest.raises(s2vc.InputError, match="16"):
        s2vc.Encoder(io.BytesIO(), 50, 15, model=model)
    with pytest.raises(s2vc.InputError, match="--device"):
        s2vc.load(str(model.file.path), device="cuda:99")


def test_nothing_is_closed_after_an_error(model, scene):
    """A stream whose encoder failed has no end mark: whoever reads it learns that it was cut."""
    stream = io.BytesIO()
    with pytest.raises(RuntimeError), s2vc.Encoder(stream, 50, 38, model=model) as encoder:
        for picture in scene(33):
            encoder.write(picture)
        raise RuntimeError
    frames = []
    with pytest.raises(s2vc.DamagedError, match="32"):
        frames.extend(s2vc.Decoder(io.BytesIO(stream.getvalue()), model=model))
    assert s2vc.Decoder(io.BytesIO(stream.getvalue()), model=model).frame_count == 32


def test_a_live_pipe_gives_each_chunk_at_once(model, scene):
    """Frames of a chunk are shown before the next chunk exists."""
    pictures, shown = scene(70), []
    read_end, write_end = os.pipe()
    go_on = threading.Event()

    def produce():
        with (
            os.fdopen(write_end, "wb", buffering=0) as out,
            s2vc.Encoder(out, 50, 38, model=model, reconstruct=lambda f: shown.append(f.rgb)) as encoder,
        ):
            for number, picture in enumerate(pictures):
                if number == 40:
                    assert go_on.wait(60)
                encoder.write(picture)

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        with os.fdopen(read_end, "rb") as stream:
            decoder = s2vc.Decoder(stream, model=model)
            assert decoder.frame_count is None
            frames = [next(decoder) for _ in range(32)]
            go_on.set()
            frames += decoder
    finally:
        go_on.set()
        producer.join()
    assert_same(frames, shown)


class Unseekable(io.RawIOBase):
    """Gives a few bytes at a time, as sockets do."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        data = self._data.read(min(len(buffer), 7))
        buffer[: len(data)] = data
        return len(data)


def test_bytes_may_come_in_any_portion(model, scene):
    data, shown = encoded(model, scene(40))
    for stream in (Unseekable(data), io.BufferedReader(Unseekable(data))):
        decoder = s2vc.Decoder(stream, model=model)
        decoder.seek(30)  # a pipe is read through
        assert_same(list(decoder), shown[30:])


def test_symbols_that_are_not_those_written_end_the_frames_once(model, scene):
    """A packet of another frame in a chunk that is whole: only the checksum of its symbols can tell."""
    from s2vc.bitstream import Chunk, StreamReader, StreamWriter

    data, shown = encoded(model, scene(96))
    reader = StreamReader(io.BytesIO(data))
    forged = io.BytesIO()
    with StreamWriter(forged, reader.header) as writer:
        for number, chunk in enumerate(reader):
            assert isinstance(chunk, Chunk)
            if number == 1:
                packets = list(chunk.packets)
                packets[9], packets[10] = packets[10], packets[9]
                packets[9] = type(packets[9])(packets[9].payload, packets[9].checksum ^ 0x55)
                chunk = Chunk(chunk.intra, chunk.times, chunk.qualities, packets, chunk.last_duration)
            writer.write_chunk(chunk)
    forged.seek(0)
    frames = []
    with pytest.raises(s2vc.DamagedError, match="frame 41"):
        for frame in s2vc.Decoder(forged, model=model):
            frames.append(frame)
    assert [frame.time for frame in frames] == list(range(41))
    # The last window is shorter than the encoder's: there the pictures may differ in a last bit.
    assert_same(frames[:40], shown[:40])


@pytest.fixture
def as_in_a_package(mini, tmp_path_factory, monkeypatch):
    """The mini model stands for the embedded one."""
    folder = tmp_path_factory.mktemp("weights")
    shutil.copy(mini, folder / "mini-1.safetensors")
    monkeypatch.setattr(files, "EMBEDDED", folder)


def test_docstrings(as_in_a_package, scene, tmp_path, monkeypatch):
    from s2vc.video import Frame, open_output

    monkeypatch.chdir(tmp_path)
    info = VideoInfo(64, 48, time_base=Fraction(1, 25), average_rate=Fraction(25))
    with open_output("holiday.mp4", info) as writer:
        for number, picture in enumerate(scene(12, 64, 48)):
            writer.write(Frame(picture, number, 1))
    s2vc.encode("holiday.mp4", "holiday.s2vc")
    rooms = (
        "api",
        "api.models",
        "api.encoder",
        "api.decoder",
        "api.encoding",
        "api.decoding",
        "api.inspection",
    )
    modules = [importlib.import_module(f"s2vc.{room}") for room in rooms]
    results = [doctest.testmod(module, optionflags=doctest.ELLIPSIS) for module in modules]
    assert not any(result.failed for result in results)
    assert sum(result.attempted for result in results) >= 20
