"""Random byte errors and cuts, concealed: every frame is shown, and the next I-frame puts all right again."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest

import s2vc
from s2vc.bitstream import StreamReader
from s2vc.video import VideoInfo

FRAMES, KEYINT = 18, 6


@pytest.fixture(scope="module")
def films(model, scene):
    """By low-delay or not: (bytes, decoded frames, where the header ends)."""
    made = {}
    for low_delay in (False, True):
        stream = io.BytesIO()
        with s2vc.Encoder(stream, 32, 32, model=model, keyint=KEYINT, low_delay=low_delay) as encoder:
            for picture in scene(FRAMES, 32, 32):
                encoder.write(picture)
        stream.seek(0)
        begin = StreamReader(stream).position
        stream.seek(0)
        made[low_delay] = stream.getvalue(), list(s2vc.Decoder(stream, model=model)), begin
    return made


def damaged(data, begin, draw):
    """(kind, bytes): one error behind the header."""
    place = draw.randrange(begin, len(data))
    end = min(len(data), place + draw.randrange(1, 60))
    kind = draw.choice(["byte", "byte", "burst", "cut out", "put in", "cut off"])
    if kind == "byte":
        return kind, data[:place] + bytes([data[place] ^ draw.randrange(1, 256)]) + data[place + 1 :]
    if kind == "burst":
        return kind, data[:place] + draw.randbytes(end - place) + data[end:]
    if kind == "cut out":
        return kind, data[:place] + data[end:]
    if kind == "put in":
        return kind, data[:place] + draw.randbytes(end - place) + data[place:]
    return kind, data[:place]


def check(film, model, draw):
    """One damage: what is shown with and without concealment."""
    data, good, begin = film
    kind, hurt = damaged(data, begin, draw)
    decoder = s2vc.Decoder(io.BytesIO(hurt), model=model, conceal=True)
    shown = list(decoder)
    at_end = kind == "cut off" or hurt[-16:] != data[-16:]  # what comes last is not known then
    assert len(shown) == FRAMES or (at_end and len(shown) < FRAMES)
    assert [frame.time for frame in shown] == list(range(len(shown)))
    lost = [frame.concealed for frame in shown]
    assert decoder.concealed == [
        (first, first + lost[first:].index(False) - 1 if False in lost[first:] else len(lost) - 1)
        for first in range(len(lost))
        if lost[first] and not (first and lost[first - 1])
    ]
    last = np.zeros_like(good[0].picture)
    wrong = 0
    for number, (frame, whole) in enumerate(zip(shown, good, strict=False)):
        if frame.concealed:
            np.testing.assert_array_equal(frame.picture, last)
        elif number % KEYINT == 0:  # an I-frame that is there is as it was
            np.testing.assert_array_equal(frame.picture, whole.picture)
        else:
            assert not lost[number - 1]
            # Before the damage; the windows of a cut chunk may round otherwise. One packet in 256 that is
            # damaged passes its checksum and is found by the next one.
            wrong += np.abs(frame.picture.astype(int) - whole.picture).max() > 1
        last = frame.picture
    assert wrong <= 1
    spoilt = {number // KEYINT for number in range(len(shown)) if lost[number]}
    # One place costs at most the frames up to the next I-frame, and where it hides that one, its as well.
    assert len(spoilt) <= 2

    before = []
    try:
        before.extend(s2vc.Decoder(io.BytesIO(hurt), model=model))
    except s2vc.DamagedError as error:
        assert error.exit_code == 3
    else:
        assert not decoder.concealed and len(before) == len(shown)
    first_lost = decoder.concealed[0][0] if decoder.concealed else len(shown)
    assert first_lost - 1 <= len(before) or first_lost == len(shown)
    assert not any(frame.concealed for frame in before)


@pytest.mark.parametrize("low_delay", [False, True])
def test_damage(films, model, low_delay):
    draw = random.Random(1)
    for _ in range(10):
        check(films[low_delay], model, draw)


@pytest.mark.slow
@pytest.mark.parametrize("low_delay", [False, True])
def test_damage_200_times(films, model, low_delay):
    draw = random.Random(2)
    for _ in range(200):
        check(films[low_delay], model, draw)


@pytest.mark.parametrize("low_delay", [False, True])
def test_several_damages_at_once(films, model, low_delay):
    data, good, begin = films[low_delay]
    draw = random.Random(3)
    for _ in range(4):
        hurt = bytearray(data)
        for place in draw.sample(range(begin, len(data) - 16), 3):
            hurt[place] ^= 1 << draw.randrange(8)
        decoder = s2vc.Decoder(io.BytesIO(bytes(hurt)), model=model, conceal=True)
        shown = list(decoder)
        assert [frame.time for frame in shown] == list(range(FRAMES))
        for number in range(0, FRAMES, KEYINT):
            if not shown[number].concealed:
                np.testing.assert_array_equal(shown[number].picture, good[number].picture)


def test_a_lost_beginning_is_black(films, model):
    data, good, begin = films[False]
    place = StreamReader(io.BytesIO(data)).index()[1].offset
    decoder = s2vc.Decoder(io.BytesIO(data[:begin] + data[place:]), model=model, conceal=True)
    shown = list(decoder)
    assert decoder.concealed == [(0, KEYINT - 1)] and len(shown) == FRAMES
    assert not any(frame.picture.any() for frame in shown[:KEYINT])
    np.testing.assert_array_equal(shown[KEYINT].picture, good[KEYINT].picture)


def test_irregular_times(model, scene):
    """Where times vary, a damaged chunk's are known from its head, those of a missing one lie between."""
    times = [0, 3, 4, 9, 11, 20, 21, 30, 33, 36, 40, 41]
    stream = io.BytesIO()
    info = VideoInfo(32, 32)
    with s2vc.Encoder(stream, model=model, keyint=4, info=info) as encoder:
        for picture, time in zip(scene(12, 32, 32), times, strict=True):
            encoder.write(picture, time)
    data = stream.getvalue()
    places = StreamReader(io.BytesIO(data)).index()
    for hurt, exact in (
        (data[: places[1].end - 9] + b"?" + data[places[1].end - 8 :], True),
        (data[: places[1].offset] + data[places[2].offset :], False),
    ):
        shown = [frame.time for frame in s2vc.Decoder(io.BytesIO(hurt), model=model, conceal=True)]
        assert shown[:4] == times[:4] and shown[8:] == times[8:]
        assert shown == times if exact else shown == sorted(set(shown)) and len(shown) == 12
