"""I-frames at scene cuts: found, and no storms of them in fades, flashes, pans and noise."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest

import s2vc
from s2vc.bitstream import StreamReader
from s2vc.codec.scene_cuts import IntraPlacement
from s2vc.video import VideoInfo

WIDTH, HEIGHT = 160, 96


def smooth(draw, height=HEIGHT, width=WIDTH):
    """A picture of blobs, as unlike another one as two scenes are."""
    coarse = draw.uniform(0, 255, (height // 12 + 2, width // 12 + 2, 3))
    fine = np.kron(coarse, np.ones((12, 12, 1)))[:height, :width]
    for axis in (0, 1):
        fine = sum(np.roll(fine, step, axis) for step in range(-3, 4)) / 7
    return fine


def scenes(count, length, seed=1):
    """``count`` scenes that move slowly, each of ``length`` pictures."""
    draw = np.random.default_rng(seed)
    return [
        [np.roll(picture, n, 1) for n in range(length)] for picture in (smooth(draw) for _ in range(count))
    ]


def placed(pictures, keyint=1000, min_keyint=12):
    place, since, found = IntraPlacement(min_keyint, True), 0, []
    for number, picture in enumerate(pictures):
        if place(np.clip(np.rint(picture), 0, 255).astype(np.uint8), since, since >= keyint):
            found.append(number)
            since = 0
        since += 1
    return found


def test_cuts_are_found():
    pictures = [picture for scene in scenes(5, 20) for picture in scene]
    assert placed(pictures) == [0, 20, 40, 60, 80]


def test_a_cut_right_behind_an_intra_frame_waits():
    first, second = scenes(2, 20)
    assert placed(first[:5] + second) == [0, 12]
    assert placed(first[:5] + second, keyint=8) == [0, 8, 16, 24]


@pytest.mark.parametrize("length", [6, 12, 25])
def test_fades_to_black_and_back(length):
    first, second = scenes(2, 60)
    pictures = first[:20]
    pictures += [first[20] * (1 - n / length) for n in range(length + 1)]
    pictures += [second[0] * (n / length) for n in range(length + 1)] + second[:20]
    assert len(placed(pictures)) <= 3


@pytest.mark.parametrize("length", [6, 12, 25])
def test_dissolves(length):
    first, second = scenes(2, 60)
    blend = [first[20 + n] * (1 - n / length) + second[n] * (n / length) for n in range(length + 1)]
    assert len(placed(first[:20] + blend + second[length:])) <= 2


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_flashes(frames):
    pictures = scenes(1, 60)[0]
    for first in (20, 40):
        for n in range(first, first + frames):
            pictures[n] = pictures[n] * 0.1 + 240
    assert placed(pictures) == [0]


def test_a_strobe_is_no_storm():
    pictures = scenes(1, 100)[0]
    for n in range(10, 100, 2):
        pictures[n] = np.full_like(pictures[n], 255.0)
    assert placed(pictures) == [0]


def test_inserts_and_quick_cutting():
    """Two scenes in turn, four pictures each: one I-frame for the second one, none for each return."""
    first, second = scenes(2, 60)
    pictures = [scene[n] for n in range(60) for scene in [(first, second)[n // 4 % 2]]]
    assert len(placed(pictures)) <= 2


def test_pans_and_noise():
    draw = np.random.default_rng(3)
    wide = smooth(draw, HEIGHT, 4 * WIDTH)
    pan = [wide[:, 6 * n : 6 * n + WIDTH] for n in range(60)]
    assert placed(pan) == [0]
    assert placed([picture + draw.normal(0, 15, picture.shape) for picture in scenes(1, 30)[0]]) == [0]


def test_intra_frames_of_a_file(mini):
    """keyint auto is the default; a number means that number, cuts or not."""
    model = s2vc.load(str(mini), device="cpu")
    pictures = [np.clip(picture[:32, :48], 0, 255).astype(np.uint8) for s in scenes(2, 7) for picture in s]
    for keyint, expected in ((None, [0, 7]), ("auto", [0, 7]), (5, [0, 5, 10])):
        stream = io.BytesIO()
        with s2vc.Encoder(stream, 48, 32, rate=10, model=model, keyint=keyint) as encoder:
            for picture in pictures:
                encoder.write(picture)
        stream.seek(0)
        chunks = [item for item in StreamReader(stream) if item.intra]
        assert [chunk.first_frame for chunk in chunks] == expected


def test_seconds_are_seconds_where_the_rate_varies(mini):
    """A screen that is still for a while: pictures a second apart, at 25 a second on average."""
    model = s2vc.load(str(mini), device="cpu")
    info = VideoInfo(48, 32, time_base=Fraction(1, 100), average_rate=Fraction(25))
    times = [*range(0, 240, 4), *range(300, 1200, 100)]
    stream = io.BytesIO()
    with s2vc.Encoder(stream, info=info, model=model, keyint="2s") as encoder:
        for time in times:
            encoder.write(np.zeros((32, 48, 3), np.uint8), time, 4)
    stream.seek(0)
    starts = [item.times[0] for item in StreamReader(stream) if item.intra]
    assert starts == [0, 200, 400, 600, 800, 1000]
