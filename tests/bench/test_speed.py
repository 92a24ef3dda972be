"""The speed bench on the miniature model: every stage is seen, ratios are what they say."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("imageio_ffmpeg")

from s2vc.bench.speed import NETWORKS, OTHER, WATCHED, measure_speed, watching


def test_what_is_watched_is_there_and_is_put_back() -> None:
    from s2vc.codec.tiny import TinyFrameModel

    before = TinyFrameModel.render
    with watching() as stages:
        assert TinyFrameModel.render is not before
    assert TinyFrameModel.render is before and not stages.seconds
    for module, _, _ in WATCHED:
        importlib.import_module(module)


def test_stages_and_floor(mini: Path) -> None:
    result = measure_speed(model=str(mini), threads=1, frames=3, long_frames=0)
    stages = {"entropy coding", "entropy model", "reading", "writing", OTHER}
    assert set(result["encode"]["stages"]) == stages | {"motion search"}
    assert set(result["decode"]["stages"]) == stages
    for side in ("encode", "decode"):
        figures = result[side]
        networks = figures[NETWORKS]
        assert networks["seconds"] > 0 and networks["kmacs_per_pixel"] > 0.1
        assert networks["times_floor"] == pytest.approx(
            networks["seconds"] / networks["floor_seconds"], rel=0.2
        )
        assert figures["frames_per_second"] == pytest.approx(3 / figures["seconds"], rel=0.05)
    assert "peak_memory_bytes" not in result
