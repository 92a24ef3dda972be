"""Rates, sizes and quality targets through ``s2vc.encode``, with the mini model on a drawn film."""

from __future__ import annotations

import io
import os
from fractions import Fraction

import numpy as np
import pytest

import s2vc
from s2vc.api.rates import RateRequest
from s2vc.video import Frame, VideoInfo, open_output

FRAMES = 60
RANGE = {"low": 9_100, "high": 20_400}  # bit/s of the mini model at qualities 0 and 63 on this film


@pytest.fixture(scope="module")
def film(scene, tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    info = VideoInfo(50, 38, time_base=Fraction(1, 25), average_rate=Fraction(25))
    with open_output(path, info, lossless=True) as writer:
        for number, picture in enumerate(scene(FRAMES)):
            writer.write(Frame(picture, number, 1))
    return path


@pytest.fixture(scope="module")
def model(mini):
    return s2vc.load(str(mini), device="cpu")


def test_two_passes_meet_a_bitrate(film, model, mini, tmp_path):
    made = s2vc.encode(film, tmp_path / "a.s2vc", model=model, bitrate=13_000)
    assert made.video_kbps == pytest.approx(13.0, rel=0.03)
    assert not made.warnings
    assert s2vc.verify(tmp_path / "a.s2vc", model=str(mini)).frames == FRAMES


def test_bits_a_pixel_are_met(film, model, tmp_path):
    made = s2vc.encode(film, tmp_path / "a.s2vc", model=model, bpp=0.27)
    assert made.video_bpp == pytest.approx(0.27, rel=0.03)


@pytest.mark.parametrize("size", [3200, 4500])
def test_a_size_is_not_exceeded(film, model, tmp_path, size):
    made = s2vc.encode(film, tmp_path / "a.s2vc", model=model, target_size=size)
    assert 0.97 * size <= made.bytes <= size
    assert (tmp_path / "a.s2vc").stat().st_size == made.bytes
    assert not made.warnings


@pytest.mark.parametrize(
    ("wish", "text", "quality"),
    [
        ({"bitrate": 5}, "0.005 kbit/s cannot be met: the lowest quality gives", 0),
        ({"target_size": 10**9}, "1000000000 bytes cannot be met: the highest quality gives", 63),
    ],
)
def test_what_cannot_be_met_comes_near_with_a_warning(film, model, tmp_path, wish, text, quality):
    target = tmp_path / "a.s2vc"
    made = s2vc.encode(film, target, model=model, frames=10, **wish)
    assert [text in warning for warning in made.warnings] == [True]
    assert s2vc.info(target).quality == [quality]
    with pytest.raises(s2vc.TargetError, match=text):
        s2vc.encode(film, tmp_path / "b.s2vc", model=model, frames=10, strict=True, **wish)
    assert not (tmp_path / "b.s2vc").exists()


def test_a_live_link_is_never_overfull(film, model, tmp_path):
    target = tmp_path / "a.s2vc"
    made = s2vc.encode(film, target, model=model, quality=63, max_bitrate=14_000, bufsize=7_000)
    assert not made.warnings
    from s2vc.bitstream import Chunk, StreamReader

    level = 0.0
    with open(target, "rb") as stream:
        for chunk in StreamReader(stream):
            for packet in chunk.packets if isinstance(chunk, Chunk) else ():
                level += 8 * len(packet.payload)
                assert level <= 7_000
                level = max(0.0, level - 14_000 / 25)


def test_a_buffer_too_small_is_said(film, model, tmp_path):
    made = s2vc.encode(film, tmp_path / "a.s2vc", model=model, frames=8, max_bitrate=900, bufsize=900)
    assert "did not fit the buffer at the lowest quality" in made.warnings[0]


def test_a_quality_target_is_met(film, model, scene, tmp_path):
    from s2vc.api.measures import load_measure

    found = s2vc.plan(film, model=model, quality_target="psnr=25", frames=40)
    assert found.metric == "psnr" and found.met
    assert found.value == pytest.approx(25, rel=0.015)
    assert len(found.evaluations) <= 4
    made = s2vc.encode(film, tmp_path / "a.s2vc", model=model, quality_target="psnr=25", frames=40)
    assert not made.warnings
    with open(tmp_path / "a.s2vc", "rb") as stream:
        shown = [frame.picture for frame in s2vc.Decoder(stream, model=model)]
    value = np.mean([load_measure("psnr")([a], [b]) for a, b in zip(scene(40), shown, strict=True)])
    assert value == pytest.approx(25, rel=0.015)


def test_the_encoder_shows_what_a_decoder_will(model, scene):
    stream, looks = io.BytesIO(), []
    with s2vc.Encoder(stream, 50, 38, model=model, keyint=9) as encoder:
        for picture in scene(14):
            encoder.write(picture)
            looks.append(encoder.look())
    stream.seek(0)
    for number, frame in enumerate(s2vc.Decoder(stream, model=model)):
        assert len(looks[number]) == min(4, number + 1)
        # a picture depends on three before it, in windows of other lengths: rounding may differ
        assert np.abs(looks[number][-1].astype(int) - frame.picture).max() <= 1


def test_a_target_can_be_resumed(film, model, tmp_path):
    """Nothing is measured on the way then, so that what was coded before need not be painted."""
    wishes = {"model": model, "quality_target": "psnr=25", "frames": 40, "keyint": 8, "resume": True}
    s2vc.encode(film, tmp_path / "a.s2vc", **wishes)
    whole = (tmp_path / "a.s2vc").read_bytes()
    (tmp_path / "b.s2vc.part").write_bytes(whole[: len(whole) * 2 // 3])
    s2vc.encode(film, tmp_path / "b.s2vc", **wishes)
    assert (tmp_path / "b.s2vc").read_bytes() == whole


def test_a_quality_out_of_reach_is_said(film, model, tmp_path):
    with pytest.raises(s2vc.TargetError, match="psnr 90 cannot be met: quality 63 gives about"):
        s2vc.encode(film, tmp_path / "a.s2vc", model=model, quality_target="psnr=90", strict=True, frames=8)


def test_a_plan_estimates_the_size(film, model, tmp_path):
    plan = s2vc.plan(film, model=model, quality=40)
    made = s2vc.encode(film, tmp_path / "a.s2vc", model=model, quality=40)
    assert (plan.frames, plan.quality) == (FRAMES, 40)
    assert plan.bytes == pytest.approx(made.bytes, rel=0.2)


@pytest.mark.parametrize(
    "wishes",
    [
        {"bitrate": 1e4, "bpp": 0.1},
        {"bufsize": 1e4},
        {"bitrate": 0},
        {"passes": 2},
        {"passes": 3, "bitrate": 1e4},
        {"target_size": 1000, "passes": 1},
    ],
)
def test_wishes_that_make_no_sense_are_refused(wishes):
    with pytest.raises(ValueError, match=r"."):
        RateRequest(**wishes)


def test_standard_input_is_not_probed(model):
    with pytest.raises(s2vc.InputError, match="cannot be read twice"):
        s2vc.plan("-", model=model)


@pytest.mark.parametrize(
    "wishes", [{"target_size": 900}, {"bitrate": 5e3, "passes": 2}, {"quality_target": "psnr=20"}]
)
def test_what_takes_two_passes_refuses_a_pipe_at_once(model, tmp_path, wishes):
    os.mkfifo(tmp_path / "pipe")
    for source in ("-", tmp_path / "pipe"):
        with pytest.raises(s2vc.InputError, match="cannot be read twice"):
            s2vc.encode(source, tmp_path / "out.s2vc", model=model, **wishes)


def test_an_output_that_exists_is_refused_before_the_first_pass(model, film, tmp_path):
    (tmp_path / "out.s2vc").write_bytes(b"")
    with pytest.raises(s2vc.OutputError, match="exists"):
        s2vc.encode(
            film,
            tmp_path / "out.s2vc",
            model=model,
            bitrate=5e3,
            progress=lambda *_: pytest.fail("it has begun"),
        )
