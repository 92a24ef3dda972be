"""Rate control on a drawn encoder: bits as a noisy function of quality and content."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.codec.bits_model import CURVE, FRAMING_BITS, BitsModel, quality_at
from s2vc.codec.rate_control import LARGEST_INTRA_STEP, LARGEST_STEP, LeakyBucket, RateControl
from s2vc.codec.rate_plans import AverageRate, ConstantQuality, KnownFrames

PIXELS = 426 * 240
SECONDS = 1 / 24
KEYINT = 240


@dataclass
class Film:
    """Frames whose cost is known at every quality: content that changes at cuts, noise, another slope than
    the curves', and frames that get dearer where quality has just risen."""

    seed: int
    frames: int
    stretch: float = 1.0
    dearness: float = 0.0
    noise: float = 0.15
    cut: int = 60
    keyint: int = KEYINT

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        scenes = random.normal(self.dearness, 0.6, self.frames // self.cut + 1)
        self.content = scenes[np.arange(self.frames) // self.cut] + random.normal(0, self.noise, self.frames)

    def intra(self, number: int) -> bool:
        return number % self.keyint == 0

    def bits(self, number: int, quality: int, before: int) -> int:
        intra = self.intra(number)
        level = np.log2((0.35 if intra else 0.02) * PIXELS) + self.content[number]
        if not intra:
            level += 0.04 * (quality - before)
        return 8 * round(2 ** (level + self.stretch * CURVE[intra][quality]) / 8)

    def least(self) -> float:
        return sum(self.bits(n, 0, 0) + FRAMING_BITS for n in range(self.frames))

    def most(self) -> float:
        return sum(self.bits(n, 63, 63) + FRAMING_BITS for n in range(self.frames))

    def code(self, control: RateControl) -> list[int]:
        """Qualities; what was spent is in ``control.frames``."""
        qualities: list[int] = []
        for number in range(self.frames):
            before = qualities[-1] if qualities else 0
            quality = control.choose(self.intra(number), number)
            again: int | None = quality
            while again is not None:
                quality = again
                again = control.coded(self.bits(number, quality, before))
            qualities.append(quality)
            if number % 32 == 31 or number == self.frames - 1:
                control.container(round(28 * (number % 32 + 1) + 150))
        return qualities


def one_pass(rate: float, frames: int | None, **options) -> RateControl:
    plan = AverageRate(rate, pixels=PIXELS, seconds=SECONDS, keyint=KEYINT, frames=frames)
    return RateControl(plan, frame_seconds=SECONDS, tick=SECONDS, **options)


films = st.builds(
    Film,
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(34, 400),
    stretch=st.floats(0.6, 1.6),
    dearness=st.floats(-1.5, 1.5),
    cut=st.integers(10, 200),
)


def reachable(film: Film, share: float) -> float:
    """A total between what the film costs at qualities 14 and 58: below, P-frames hardly get cheaper."""
    low, high = (sum(film.bits(n, q, q) + FRAMING_BITS for n in range(film.frames)) for q in (14, 58))
    return float(low * (high / low) ** share)


@settings(deadline=None, max_examples=25)
@given(film=films, share=st.floats(0, 1))
def test_two_passes_meet_the_target(film, share):
    total = reachable(film, share)
    first = one_pass(total / film.frames / SECONDS, film.frames)
    film.code(first)
    second = RateControl(KnownFrames(total, first.frames), frame_seconds=SECONDS, tick=SECONDS)
    film.code(second)
    assert second.spent == pytest.approx(total, rel=0.03)


@settings(deadline=None, max_examples=25)
@given(film=films, share=st.floats(0, 1), known=st.booleans())
def test_one_pass_meets_the_target_of_two_minutes(film, share, known):
    film = Film(film.seed, 2880, film.stretch, film.dearness, cut=film.cut)
    total = reachable(film, share)
    control = one_pass(total / film.frames / SECONDS, film.frames if known else None)
    film.code(control)
    assert control.spent == pytest.approx(total, rel=0.1)


@settings(deadline=None, max_examples=40)
@given(film=films, share=st.floats(0, 1.5), size=st.floats(0.3, 5))
def test_bucket_is_never_overfull(film, share, size):
    rate = reachable(film, share) / film.frames / SECONDS
    # "Where the lowest quality allows it": an I-frame of it fits into what is left beside a P-frame's.
    worst = max(film.bits(n, 0, 0) + FRAMING_BITS for n in range(film.frames) if film.intra(n))
    plain = max(film.bits(n, 0, 4) + FRAMING_BITS for n in range(film.frames) if not film.intra(n))
    rate = max(rate, plain / SECONDS)
    bucket = LeakyBucket(rate, max(rate * size, 3 * worst))
    watch = LeakyBucket(rate, bucket.size)
    control = RateControl(ConstantQuality(40, PIXELS), frame_seconds=SECONDS, tick=SECONDS, bucket=bucket)
    film.code(control)
    assert control.violations == 0
    for number, frame in enumerate(control.frames):
        watch.drain_to(number * SECONDS)
        assert watch.pour(frame.bits)


@settings(deadline=None, max_examples=40)
@given(film=films, share=st.floats(-0.2, 1.3))
def test_cap_is_never_exceeded_by_the_second_pass(film, share):
    cap = max(reachable(film, share), 1.15 * film.least())
    plan = AverageRate(
        cap / film.frames, per_frame=True, pixels=PIXELS, seconds=SECONDS, keyint=KEYINT, frames=film.frames
    )
    first = RateControl(plan, frame_seconds=SECONDS, tick=SECONDS, cap=cap)
    film.code(first)
    second = RateControl(
        KnownFrames(0.99 * cap - first.closing, first.frames),
        frame_seconds=SECONDS,
        tick=SECONDS,
        cap=cap - first.closing - 64,
    )
    film.code(second)
    assert second.spent <= cap


@settings(deadline=None, max_examples=30)
@given(film=films, share=st.floats(0, 1))
def test_quality_moves_smoothly(film, share):
    control = one_pass(reachable(film, share) / film.frames / SECONDS, film.frames)
    qualities = film.code(control)
    for number in range(1, film.frames):
        step = LARGEST_INTRA_STEP if film.intra(number) else LARGEST_STEP
        assert abs(qualities[number] - qualities[number - 1]) <= step


def test_quality_changes_at_i_frames_alone_where_a_model_wants_that():
    film = Film(1, 600, keyint=50)
    control = one_pass(reachable(film, 0.5) / film.frames / SECONDS, film.frames, intra_only=True)
    qualities = film.code(control)
    assert len(set(qualities)) > 1
    assert all(a == b or film.intra(n) for n, (a, b) in enumerate(pairwise(qualities), 1))


def test_what_cannot_be_met_ends_at_the_nearest():
    film = Film(2, 300)
    low = film.code(one_pass(5.0, film.frames))
    high = film.code(one_pass(1e9, film.frames))
    assert set(low) == {0}
    assert set(high) == {63}


def test_a_frame_that_does_not_fit_is_counted_and_the_least_of_what_was_tried():
    control = RateControl(
        ConstantQuality(40, PIXELS), frame_seconds=SECONDS, tick=SECONDS, bucket=LeakyBucket(1000.0, 1000.0)
    )
    costs = {quality: 5000 + 100 * abs(quality - 8) for quality in range(64)}
    quality = control.choose(True, 0)
    tried = [quality]
    while (again := control.coded(costs[tried[-1]])) is not None:
        tried.append(again)
    assert control.violations == 1
    assert costs[tried[-1]] == min(costs[quality] for quality in tried)


def test_bits_model_follows_what_frames_cost():
    model = BitsModel(PIXELS)
    for _ in range(40):
        model.learn(False, 20, 900 + FRAMING_BITS)
    assert model.bits(False)[20] == pytest.approx(900 + FRAMING_BITS, rel=0.01)
    assert np.all(np.diff(model.bits(False)) > 0)
    assert quality_at(model.bits(False), 900 + FRAMING_BITS) == pytest.approx(20, abs=0.1)
