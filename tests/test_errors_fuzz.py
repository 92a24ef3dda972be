"""Bytes flipped, lost and added anywhere in a file: never another error, never wrong pictures unannounced."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest

import s2vc
from s2vc.bitstream import StreamReader


@pytest.fixture(scope="module")
def model(mini):
    return s2vc.load(str(mini), device="cpu")


@pytest.fixture(scope="module")
def film(model, scene):
    """(bytes, pictures): three chunks of 12 frames, each with its I-frame."""
    stream, shown = io.BytesIO(), []
    with s2vc.Encoder(stream, 50, 38, model=model, keyint=12, reconstruct=shown.append) as encoder:
        for picture in scene(36):
            encoder.write(picture)
    return stream.getvalue(), [frame.rgb for frame in shown]


def damaged(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    end = min(len(data), place + draw.randrange(1, 300))
    out = bytearray(data)
    match draw.choice(["flip", "flip", "cut", "delete", "insert", "overwrite", "zero"]):
        case "flip":
            out[place] ^= 1 << draw.randrange(8)
        case "cut":
            del out[place:]
        case "delete":
            del out[place:end]
        case "insert":
            out[place:place] = draw.randbytes(end - place)
        case "overwrite":
            out[place:end] = draw.randbytes(end - place)
        case "zero":
            out[place:end] = bytes(end - place)
    return bytes(out)


def test_symbols_of_damaged_files(film, mini, tmp_path):
    """``verify`` and ``info`` name the damage or refuse the header."""
    data, _ = film
    draw = random.Random(1)
    path = tmp_path / "a.s2vc"
    noticed = 0
    for _ in range(80):
        path.write_bytes(damaged(data, draw))
        for check in (lambda: s2vc.verify(path, model=str(mini)), lambda: s2vc.info(path)):
            try:
                result = check()
            except (s2vc.FormatError, s2vc.ModelError) as refused:
                assert "\n" not in str(refused)
                noticed += 1
                continue
            assert result.frames <= 36
            if result.damaged is not None:
                assert "\n" not in result.damaged
                noticed += 1
    assert noticed >= 2 * 80 - 4  # what hits a closing index or zeros over zeros harms nothing


def test_every_flipped_bit_of_chunks_is_noticed(film, mini, tmp_path):
    data, _ = film
    index = StreamReader(io.BytesIO(data)).index()
    path = tmp_path / "a.s2vc"
    for place in range(index[0].offset, index[-1].end, 61):
        flipped = bytearray(data)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        assert s2vc.verify(path, model=str(mini)).damaged is not None


def test_pictures_of_damaged_files(film, model):
    """What is shown is what was coded, up to where the error says so."""
    data, shown = film
    draw = random.Random(2)
    for _ in range(12):
        frames = []
        try:
            frames.extend(s2vc.Decoder(io.BytesIO(damaged(data, draw)), model=model))
        except s2vc.S2vcError as error:
            assert "\n" not in str(error)
        whole = len(frames) // 12 * 12
        for frame, picture in zip(frames[:whole], shown, strict=False):
            np.testing.assert_array_equal(frame.picture, picture)
