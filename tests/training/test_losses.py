"""Terms of the loss, one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.generator import TinyGenerator
from s2vc.training import losses, semantic
from s2vc.training.footage import Clip, Library
from s2vc.training.prior import denoise, denoising_loss, frozen_copy, noise_levels
from s2vc.training.realism import (
    Discriminator,
    Guard,
    adversarial_loss,
    discriminator_loss,
    distribution_loss,
    fake_score_loss,
)
from s2vc.training.recipe import Stage, load_recipe
from s2vc.training.sampler import Batch
from s2vc.training.streams import StepStreams
from s2vc.training.unroll import Unrolled

RECIPES = Path(__file__).parents[2] / "recipes"
CONFIG = TinyConfig(**load_recipe(RECIPES / "smoke.yaml").model)


def make_stage(**keys) -> Stage:
    return Stage(name="x", **{"kind": "cascade", "steps": 10, "frames": 2, "crop": 32, **keys})


def make_batch(slots: list[int], frames: int = 2) -> Batch:
    shape = (len(slots), frames)
    age = np.tile(np.arange(frames), (len(slots), 1))
    return Batch(
        np.zeros((*shape, 3, 32, 32), np.uint8),
        np.zeros((*shape, 2, 2, 2), np.int16),
        age == 0,
        np.zeros(shape, bool),
        age,
        np.full(len(slots), 30),
        slots,
        None,
        np.zeros(shape, bool),
    )


def result_of(x0: torch.Tensor) -> Unrolled:
    bits = torch.ones(x0.shape[:2])
    return Unrolled(x0, x0, bits, bits, x0, None)  # type: ignore[arg-type]


def streams(slots: list[int], step: int = 0) -> StepStreams:
    return StepStreams(1, step, slots, torch.device("cpu"))


def test_lambda_runs_between_its_ends_and_warms_up():
    stage = make_stage(lambda_low=4.0, lambda_high=0.04, lambda_warmup_steps=10)
    quality = torch.tensor([0, 63])
    torch.testing.assert_close(losses.lagrangian(stage, quality, 10), torch.tensor([4.0, 0.04]))
    torch.testing.assert_close(losses.lagrangian(stage, quality, 5), torch.tensor([1.0, 0.01]))


def test_hierarchy_weighs_frames_by_their_age():
    stage = make_stage(frames=5, hierarchy=[2.0, 1.0], losses={"l1": 1.0, "reference_l1": 0.0})
    pictures = torch.zeros(1, 5, 3, 32, 32)
    shown = torch.zeros_like(pictures)
    for frame, weight in enumerate([1.0, 2.0, 1.0, 2.0, 1.0]):
        shown.zero_()
        shown[:, frame] = 255
        terms = losses.codec_terms(
            stage, result_of(shown), pictures, make_batch([0], 5), torch.tensor([30]), 0
        )
        assert float(terms.weighted["l1"]) == pytest.approx(weight / 5)


@pytest.mark.parametrize("total", [1, 2, 4, 5])
def test_what_is_seen_does_not_depend_on_the_processes(total):
    """Shares and frames of two halves add up to those of the whole batch, and everybody has a turn."""
    draw = torch.Generator().manual_seed(2)
    shown = torch.rand(total, 3, 3, 32, 32, generator=draw)
    had = set()
    for step in range(4):
        slots = list(range(total))
        whole = losses.choose_seen(shown, shown, slots, streams(slots, step), total, 2)
        assert whole is not None
        assert whole.share == 1
        had |= set(whole.rows)
        if total % 2:
            continue
        sums = []
        for part in (slots[: total // 2], slots[total // 2 :]):
            mine = shown[part]
            seen = losses.choose_seen(mine, mine, part, streams(part, step), total, 2)
            sums.append(0.0 if seen is None else float(seen.share * seen.shown.mean()))
        assert np.mean(sums) == pytest.approx(float(whole.shown.mean()), rel=1e-6)
    assert had == set(range(total))


class Distance(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.size = tuple(x.shape[-2:])
        return (x - y).abs().mean((1, 2, 3))


def test_perceptual_networks_take_turns_at_both_scales():
    stage = make_stage(crop=64, losses={"lpips_vgg": 0.5, "dists": 0.25}, perceptual_scales=[1, 2])
    networks: dict[str, nn.Module] = {"lpips_vgg": Distance(), "dists": Distance()}
    seen = losses.Seen(torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64), [0, 1], torch.arange(2), 1.0)
    met = set()
    for step in range(4):
        terms = losses.Terms({}, {})
        losses.perceptual_term(terms, stage, networks, seen, streams([0, 1], step))
        ((name, value),) = terms.weighted.items()
        size = networks[name].size[0]
        assert isinstance(size, int)
        met.add((name, size > 32))
        assert float(value) == pytest.approx({"lpips_vgg": 1.0, "dists": 0.5}[name])
    assert len(met) == 4


def test_temporal_term_counts_flicker_and_not_motion():
    stage = make_stage(losses={"temporal": 1.0})
    pictures = torch.rand(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 200 + 20
    batch = make_batch([0])
    for change, wanted in ((torch.tensor([0.0, 0.0]), 0.0), (torch.tensor([5.0, 5.0]), 0.0),
                           (torch.tensor([0.0, 10.0]), 10 / 255)):  # fmt: skip
        shown = pictures + change[None, :, None, None, None]
        terms = losses.Terms({}, {})
        losses.temporal_term(terms, stage, result_of(shown), pictures, batch)
        assert float(terms.weighted["temporal"]) == pytest.approx(wanted, abs=0.005)


def test_motion_term_is_zero_for_the_source_alone(weights_dir):
    stage = make_stage(losses={"motion": 1.0}, crop=64)
    flow = losses.make_flow(torch.device("cpu"))
    texture = torch.nn.functional.avg_pool2d(
        torch.rand(3, 68, 74, generator=torch.Generator().manual_seed(4)), 5, 1
    )
    pictures = torch.stack([texture[:, :64, :64], texture[:, :64, 4:68]])[None] * 255
    still = pictures[:, :1].expand(-1, 2, -1, -1, -1)
    found = []
    for shown in (pictures, still):
        terms = losses.Terms({}, {})
        losses.motion_term(terms, stage, flow, result_of(shown), pictures, make_batch([0]), streams([0]))
        found.append(float(terms.weighted["motion"]))
    assert found[0] == 0
    assert found[1] > 0.3


def generator() -> TinyGenerator:
    torch.manual_seed(0)
    return TinyGenerator(CONFIG)


def test_the_prior_learns_to_denoise():
    network = generator()
    draw = torch.Generator().manual_seed(3)
    ramp = torch.linspace(0, 255, 32)[None, None, None].expand(4, 3, 32, 32)
    noise = torch.randn(4, 3, 32, 32, generator=draw)
    sigma = noise_levels(make_stage(kind="prior", frames=1), torch.tensor([0.2, 0.5, 0.8, 1.0]))
    assert float(sigma[-1]) == pytest.approx(120)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    curve = []
    for _ in range(10):
        optimiser.zero_grad()
        loss = denoising_loss(network, ramp, sigma, noise)
        loss.backward()
        optimiser.step()
        curve.append(float(loss.detach()))
    assert curve[-1] < 0.97 * curve[0]
    assert denoise(network, ramp).shape == ramp.shape


class Score(TinyGenerator):
    """Says the same picture whatever it sees."""

    def __init__(self, level: float) -> None:
        super().__init__(CONFIG)
        self.level = level

    def forward(self, feature, reference, intra, previous):  # type: ignore[no-untyped-def]
        return torch.full_like(reference, self.level), previous


def test_distribution_matching_moves_from_the_fake_score_to_the_real_one():
    shown = torch.full((2, 3, 32, 32), 0.5, requires_grad=True)
    sigma, noise = torch.tensor([10.0, 50.0]), torch.zeros(2, 3, 32, 32)
    loss = distribution_loss(Score(200), Score(100), shown, sigma, noise)
    (gradient,) = torch.autograd.grad(loss, shown)
    assert (gradient < 0).all()  # a step against it brightens: towards what the real score says
    same = distribution_loss(Score(100), Score(100), shown, sigma, noise)
    assert float(same.detach()) == pytest.approx(0, abs=1e-12)


def test_critics_learn_without_touching_what_is_shown():
    shown = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    torch.manual_seed(0)
    discriminator = Discriminator(8)
    real = torch.zeros(2, 3, 32, 32)
    optimiser = torch.optim.Adam(discriminator.parameters(), 5e-3)
    curve = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = discriminator_loss(discriminator, shown, real)
        loss.backward()
        optimiser.step()
        curve.append(float(loss.detach()))
    assert curve[-1] < curve[0]
    assert shown.grad is None
    fake = frozen_copy(CONFIG, generator().state_dict(), torch.device("cpu")).requires_grad_(True)
    fake_score_loss(fake, shown, torch.tensor([5.0, 9.0]), torch.zeros(2, 3, 32, 32)).backward()
    assert shown.grad is None
    adversarial_loss(discriminator, shown).backward()
    assert shown.grad is not None
    assert shown.grad.abs().sum() > 0


def test_the_guard_switches_realism_off_once():
    guard = Guard()
    assert not any(guard.see(30.0, 0.7) for _ in range(150))
    ended = [guard.see(28.0, 0.7) for _ in range(100)]
    assert sum(ended) == 1
    assert guard.off
    again = Guard(**vars(guard))
    assert again == guard


def test_features_are_read_where_a_crops_tokens_lie(tmp_path, monkeypatch):
    """A teacher that says where it looks: x in one channel, y in another."""

    def places(teacher: object, pictures: np.ndarray, device: object) -> np.ndarray:
        rows, columns = (-(-side // 32) for side in pictures.shape[1:3])
        y, x = np.mgrid[0:rows, 0:columns] * 32.0 + 15.5
        return np.stack([np.stack([x, y]).astype(np.float16)] * len(pictures))

    monkeypatch.setattr(semantic, "_features", places)
    monkeypatch.setattr("s2vc.perceptual.teachers.load_teacher", lambda name: torch.nn.Identity())
    clip = Clip("c", np.zeros((9, 256, 320, 3), np.uint8), {})
    cache = semantic.FeatureCache(tmp_path, "some/teacher")
    cache.prepare(Library([clip]), torch.device("cpu"))
    cache.open(Library([clip]))
    shift = np.array([[1, 0, 48], [0, 1, 32]], np.float64)
    rows, feature_of = cache.of_clip(clip, np.arange(2, 9), [shift] * 7, 128)
    assert feature_of.tolist() == [-1, -1, 0, -1, -1, -1, 1]
    np.testing.assert_allclose(rows[0, 0], [[79.5, 143.5]] * 2, atol=0.1)
    np.testing.assert_allclose(rows[1, 1], [[63.5] * 2, [127.5] * 2], atol=0.1)
