"""Quality targets: the search on drawn metrics, probes and estimates with the mini model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import s2vc
from s2vc.api.measures import HIGHER_IS_BETTER, PRICES, QualityTarget, load_measure
from s2vc.api.target_control import TargetControl
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
    found = lowest_quality(count, wanted, rise=0.13, close=0.01 * wanted)
    exact = next((q for q in range(64) if goodness(q) >= wanted), 63)
    assert len(tried) <= 4
    assert len(set(tried)) == len(tried)
    assert abs(goodness(found) - goodness(exact)) <= max(0.03 * wanted, 0.06 * span)


@pytest.mark.parametrize("metric", ["psnr", "dists"])
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(4, 25).map(lambda scenes: 60 * scenes),  # none that ends before it was looked at
    steepness=st.floats(0.6, 1.7),
    decay=st.floats(0, 10),
    place=st.floats(0.25, 0.75),
)
def test_a_target_is_met_while_coding(metric, seed, frames, steepness, decay, place):
    """Metrics that rise otherwise than expected, content that changes, pictures that get worse behind the
    I-frame: the mean comes out at the target from one look every 24 frames."""
    rise = QualityTarget(metric, 1).rise
    random = np.random.default_rng(seed)
    scenes = np.repeat(random.normal(0, 4, frames // 60), 60)
    content = rise * (scenes + random.normal(0, 0.3, frames) - decay * (1 - np.exp(-np.arange(frames) / 15)))
    base = QualityTarget(metric, 1).goodness(22.0 if metric == "psnr" else 0.4)

    def goodness(number: int, quality: float) -> float:
        return base + float(content[number]) + steepness * rise * quality

    flat = QualityTarget(metric, 1).value_of
    target = QualityTarget(metric, float(np.mean([flat(goodness(n, 63 * place)) for n in range(frames)])))
    values: list[float] = []
    looks = 0

    def measure(source, shown) -> float:
        nonlocal looks
        looks += 1
        return values[-1]

    curve = base + rise * np.arange(64)  # of the first frame, and of another model
    control = TargetControl(target, measure, curve, frames, interval=24)
    picture = np.zeros((1, 1, 3), np.uint8)
    for number in range(frames):
        values.append(flat(goodness(number, control.choose(number == 0, number))))
        control.saw(picture, lambda: [picture])
    assert looks <= frames / 24 + 1
    assert np.mean(values) == pytest.approx(target.value, rel=0.03)
    assert control.judge(strict=True) is None


def test_a_target_out_of_reach_is_said_at_the_end():
    target = QualityTarget("psnr", 90)
    control = TargetControl(target, lambda source, shown: 40.0, 20 + 0.1 * np.arange(64), 60, interval=24)
    picture = np.zeros((1, 1, 3), np.uint8)
    for number in range(60):
        control.choose(number == 0, number)
        control.saw(picture, lambda: [picture])
    assert "psnr 90 cannot be met: quality 63 gives about 40:" in str(control.judge(strict=False))
    with pytest.raises(s2vc.TargetError, match="cannot be met"):
        control.judge(strict=True)


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

    assert metric in PRICES
    same, bad, awful = worse(0.0), worse(10.0), worse(40.0)
    assert math.isfinite(same)
    assert (same > bad > awful) if HIGHER_IS_BETTER[metric] else (same < bad < awful)
