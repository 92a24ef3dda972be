"""A file of yesterday: read to the same symbols for ever, and to the same pictures but for floats."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest

import s2vc

GOLDEN = Path(__file__).parent.parent / "golden"
FILM = GOLDEN / "film-1.s2vc"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_film", GOLDEN / "make_film.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_symbols(model, mini, script):
    assert script.symbol_sums(FILM, model) == (GOLDEN / "film-1.symbols").read_text().split()
    assert s2vc.verify(FILM, model=str(mini)) == s2vc.VerifyResult(frames=40)


def test_what_it_says_of_itself():
    facts = s2vc.info(FILM)
    assert (facts.format_version, facts.model, facts.model_digest.hex()) == (1, "mini-1", "954af2ac9721b22f")
    assert (facts.width, facts.height, facts.frames, facts.chunks, facts.intra_frames) == (50, 38, 40, 3, 2)
    assert (facts.quality, facts.reset_period, facts.duration) == ([32], 32, 1.6)


def test_pictures(model, script, psnr):
    with FILM.open("rb") as stream:
        frames = [frame.picture for frame in s2vc.Decoder(stream, model=model)]
    assert len(frames) == 40
    for place, path in zip(script.KEPT, sorted((GOLDEN / "film-1").iterdir()), strict=True):
        with av.open(str(path)) as container:
            kept = next(container.decode(video=0)).to_ndarray(format="rgb24")
        assert psnr(frames[place], kept) >= 50
        assert np.ptp(kept) > 100
