"""An encode that was stopped anywhere and resumed gives the file of one that was not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

import s2vc

FRAMES = 20


@pytest.fixture(scope="module")
def clip(scene, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    for number, picture in enumerate(scene(FRAMES, 32, 32)):
        cv2.imwrite(str(folder / f"{number:03}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def whole(clip, model, tmp_path_factory):
    """By low-delay or not: the bytes of an encode that nobody stopped."""
    place = tmp_path_factory.mktemp("whole") / "a.s2vc"
    made = {}
    for low_delay in (False, True):
        s2vc.encode(clip, place, model=model, keyint=8, low_delay=low_delay, overwrite=True)
        made[low_delay] = place.read_bytes()
    return made


@pytest.mark.parametrize("low_delay", [False, True])
def test_cut_anywhere(clip, model, whole, tmp_path, low_delay):
    """What a kill leaves is a beginning of the file, cut at any byte."""
    out, part = tmp_path / "a.s2vc", tmp_path / "a.s2vc.part"
    data, draw = whole[low_delay], random.Random(1)
    for cut in [len(data), *(draw.randrange(len(data)) for _ in range(4)), 20]:
        part.write_bytes(data[:cut])
        result = s2vc.encode(
            clip, out, model=model, keyint=8, low_delay=low_delay, resume=True, overwrite=True
        )
        assert result.frames == FRAMES and result.bytes == len(data)
        assert out.read_bytes() == data and not part.exists()


def test_damage_in_what_was_left_is_coded_anew(clip, model, whole, tmp_path):
    data = bytearray(whole[False])
    data[len(data) // 2] ^= 4
    (tmp_path / "a.s2vc.part").write_bytes(data)
    s2vc.encode(clip, tmp_path / "a.s2vc", model=model, keyint=8, resume=True)
    assert (tmp_path / "a.s2vc").read_bytes() == whole[False]


def test_sound_comes_out_the_same(film, model, tmp_path):
    """Packets of other tracks that stand before the cut are not written twice."""
    source = film(tmp_path / "in.mp4", frames=12, sound=(("aac", 44100, "eng"),))
    for options in ({}, {"low_delay": True}):
        out = tmp_path / "a.s2vc"
        s2vc.encode(source, out, model=model, keyint=4, overwrite=True, **options)
        data = out.read_bytes()
        (tmp_path / "a.s2vc.part").write_bytes(data[: len(data) * 3 // 4])
        s2vc.encode(source, out, model=model, keyint=4, overwrite=True, resume=True, **options)
        assert out.read_bytes() == data and s2vc.info(out).tracks[0].packets > 3


@pytest.mark.parametrize("other", [{"quality": 40}, {"keyint": 5}, {"low_delay": True}, {"source": "turned"}])
def test_other_settings_are_refused(clip, model, whole, scene, tmp_path, other):
    part = tmp_path / "a.s2vc.part"
    part.write_bytes(whole[False][:-20])
    source = clip
    if other.pop("source", None):
        source = tmp_path / "turned"
        source.mkdir()
        for number, picture in enumerate(scene(FRAMES, 32, 32)):
            cv2.imwrite(str(source / f"{number:03}.png"), picture[::-1])
    with pytest.raises(s2vc.OutputError, match="has another source, other settings"):
        s2vc.encode(source, tmp_path / "a.s2vc", model=model, resume=True, **{"keyint": 8, **other})
    assert part.read_bytes() == whole[False][:-20]
    assert not (tmp_path / "a.s2vc").exists()


def test_what_is_not_ours_is_not_touched(clip, model, tmp_path):
    part = tmp_path / "a.s2vc.part"
    part.write_bytes(b"somebody's notes")
    with pytest.raises(s2vc.OutputError, match="was not left by a stopped run"):
        s2vc.encode(clip, tmp_path / "a.s2vc", model=model, resume=True)
    assert part.read_bytes() == b"somebody's notes"


def test_standard_output_and_recon_are_refused(clip, model, tmp_path):
    with pytest.raises(s2vc.OutputError, match="cannot be resumed"):
        s2vc.encode(clip, "-", model=model, resume=True)
    with pytest.raises(s2vc.OutputError, match="resume without recon"):
        s2vc.encode(clip, tmp_path / "a.s2vc", model=model, resume=True, recon=tmp_path / "r.mkv")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills of POSIX")
@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_at_random_moments(clip, mini, model, whole, tmp_path, kills):
    out = tmp_path / "a.s2vc"
    script = Path(__file__).with_name("resuming.py")
    ran = subprocess.run(
        [*map(str, (sys.executable, script, mini, clip, out, kills, 5))],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) == kills
    assert out.read_bytes() == whole[False]
    assert [file.name for file in tmp_path.iterdir()] == ["a.s2vc"]
