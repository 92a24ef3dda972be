"""Quality targets: the search on drawn metrics, probes and estimates with the mini model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.api.measures import HIGHER_IS_BETTER, QualityTarget, load_measure
from s2vc.api.targets import lowest_quality


@settings(deadline=None)
@given(
    low=st.floats(10, 30),
    span=st.floats(1, 20),
    bend=st.floats(0.5, 2),
    place=st.floats(-0.2, 1.2),
)
def test_search_ends_near_the_lowest_quality_that_is_good_enough(low, span, bend, place):
    def goodness(quality: float) -> float:
        return low + span * (quality / 63) ** bend

    tried: list[int] = []

    def count(quality: int) -> float:
        tried.append(quality)
        return goodness(quality)

    wanted = low + span * place
    found = lowest_quality(count, wanted)
    exact = next((q for q in range(64) if goodness(q) >= wanted), 63)
    assert len(tried) <= 4
    assert len(set(tried)) == len(tried)
    assert abs(goodness(found) - goodness(exact)) <= max(0.03 * wanted, 0.06 * span)


@pytest.mark.parametrize(
    ("text", "metric", "value"),
    [("lpips_vgg=0.25", "lpips-vgg", 0.25), ("VMAF=80", "vmaf", 80.0), ("psnr = 32.5", "psnr", 32.5)],
)
def test_targets_are_read(text, metric, value):
    assert QualityTarget.parse(text) == QualityTarget(metric, value)


@pytest.mark.parametrize("text", ["psnr", "ssim=1", "psnr=high", "dists=-1", "psnr=inf", ""])
def test_what_is_no_target_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        QualityTarget.parse(text)


@pytest.mark.parametrize("metric", HIGHER_IS_BETTER)
def test_measures_tell_good_from_bad(metric, scene, weights_dir, monkeypatch):
    if metric == "vmaf":
        pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setenv("S2VC_WEIGHTS_DIR", str(weights_dir))
    pictures = scene(4, 96, 64)
    noise = np.random.default_rng(0).normal(0, 1, pictures[0].shape)
    measure = load_measure(metric)

    def worse(amount: float) -> float:
        noisy = [np.clip(p + amount * noise, 0, 255).astype(np.uint8) for p in pictures]
        return measure(pictures, noisy)

    same, bad, awful = worse(0.0), worse(10.0), worse(40.0)
    assert math.isfinite(same)
    assert (same > bad > awful) if HIGHER_IS_BETTER[metric] else (same < bad < awful)
