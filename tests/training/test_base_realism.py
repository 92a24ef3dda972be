"""Realism for ``base``: two scores and a critic, of Stable Diffusion in miniature."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import PNDMScheduler, UNet2DConditionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

pytest.importorskip("transformers")

from s2vc.errors import InputError, ModelError
from s2vc.models.published_import import import_release
from s2vc.training import base_realism
from s2vc.training.base_realism import (
    Critic,
    StableDiffusion,
    adversarial_term,
    denoising_term,
    judging_term,
    matching_term,
    timesteps,
    x0_of,
)
from s2vc.training.checkpoint import read_checkpoint, read_weights
from s2vc.training.loop import train
from s2vc.training.streams import StepStreams

LOSSES = {"l1": 0.625, "reference_l1": 0.0, "dmd": 1.0, "adversarial": 0.001}
REALISM = {
    "kind": "realism",
    "crop": 128,
    "batch": 2,
    "steps": 4,
    "critic_steps": 2,
    "losses": LOSSES,
    "optimiser": "adamw",
    "learning_rate": 1e-3,
    "warmup_steps": 1,
}
INTRA = {**REALISM, "frames": 1, "longest": 1}
INTER = {**REALISM, "frames": 2, "longest": 2, "train": ["lora", "tcg"]}


@pytest.fixture(scope="module")
def point(miniature, tmp_path_factory):
    return import_release(miniature.folder, tmp_path_factory.mktemp("point") / "low", ["low"], "fp32").path


@pytest.fixture(scope="module")
def prior(miniature, tmp_path_factory):
    """A folder as diffusers keep it: the widths of the miniature, drawn weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(3)
    folder, config = tmp_path_factory.mktemp("sd15"), miniature.config.generator
    UNet2DConditionModel(
        block_out_channels=config.widths,
        cross_attention_dim=config.token,
        attention_head_dim=config.heads,
    ).save_pretrained(folder / "unet")
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    PNDMScheduler(**schedule, skip_prk_steps=True, steps_offset=1).save_pretrained(folder / "scheduler")
    text = CLIPTextConfig(
        vocab_size=2,
        hidden_size=config.token,
        intermediate_size=config.token,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
    )
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1}')
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    kind = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 8}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(kind))
    return folder


@pytest.fixture(scope="module")
def stable(prior):
    return StableDiffusion.open(str(prior), torch.device("cpu"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def recipe_of(write_recipe, point, prior, *stages, **keys):
    data = {"clips": ["clips"], "scales": [1.0], "steps": [1]}
    return write_recipe(
        *stages, preset="base", start=str(point), prior=str(prior), model={}, data=data, **keys
    )


def run(recipe, out, footage, cache, **how):
    seen = []
    train(recipe, out, data=footage, cache=cache, watch=lambda _, figures: seen.append(figures), **how)
    return seen


def test_x0_is_that_of_diffusers(stable):
    unet, schedule = stable.unet().eval(), stable.schedule
    latents, noise = torch.randn(2, 2, 4, 16, 16)
    steps = torch.tensor([30, 700])
    noisy = schedule.add_noise(latents, noise, steps)
    with torch.no_grad():
        x0 = x0_of(stable, unet, noisy, steps)
        for row, step in enumerate(steps):
            predicted = unet(noisy[row : row + 1], step, stable.prompt).sample
            theirs = schedule.step(predicted, step, noisy[row : row + 1]).pred_original_sample
            clipped = x0[row : row + 1].clamp(-1, 1)  # this scheduler's default is for pictures
            torch.testing.assert_close(clipped, theirs, rtol=1e-3, atol=1e-4)
    assert timesteps(torch.tensor([0.0, 0.5, 0.9999])).tolist() == [0, 500, 999]
    assert timesteps(torch.tensor([0.0, 0.9999]), *base_realism.MATCHED).tolist() == [20, 639]


def test_the_critic_reads_the_middle_of_its_unet(stable):
    critic = Critic(stable.unet()).eval()
    middle = []
    critic.unet.mid_block.register_forward_hook(lambda module, given, out: middle.append(out))
    noisy, steps = torch.randn(2, 4, 16, 16), torch.tensor([4, 900])
    with torch.no_grad():
        judged = critic.judge(noisy, steps, stable.prompt)
        critic.unet(noisy, steps, stable.prompt.expand(2, -1, -1))
    assert torch.equal(middle[0], middle[1]) and judged.shape == (2, 1, 1, 1)
    with torch.no_grad():  # OneDC's 512, and less than the head's stride
        assert critic.head(torch.randn(1, middle[0].shape[1], 8, 8)).shape == (1, 1, 1, 1)
        assert critic.head(torch.randn(1, middle[0].shape[1], 2, 3)).shape == (1, 1, 1, 1)


def test_a_critic_that_sees_what_the_prior_sees_moves_nothing(stable):
    latents = torch.randn(2, 4, 16, 16, requires_grad=True)
    real, critic = stable.unet().eval(), Critic(stable.unet()).eval()
    given = (torch.tensor([30, 600]), torch.randn(2, 4, 16, 16))
    matching_term(stable, real, critic, latents, *given).backward()
    assert not latents.grad.any()
    with torch.no_grad():
        critic.unet.conv_out.bias += 1.0
        noisy = stable.schedule.add_noise(latents, given[1], given[0])
        x0_real, x0_fake = (x0_of(stable, unet, noisy, given[0]) for unet in (real, critic.unet))
        away = (latents - x0_real) - (latents - x0_fake)
        wanted = away / (latents - x0_real).abs().mean((1, 2, 3), keepdim=True) / latents.numel()
    matching_term(stable, real, critic, latents, *given).backward()
    torch.testing.assert_close(latents.grad, wanted)


def test_a_critic_that_tells_them_apart_pulls_towards_originals(stable):
    """Its judgement is made the mean of the noised latents: originals are bright, what is shown is dark."""

    class Mean(Critic):
        def judge(self, noisy, steps, prompt):
            return noisy.mean((1, 2, 3), keepdim=True)

    critic, steps, noise = Mean(stable.unet()), torch.tensor([10, 20]), torch.zeros(2, 4, 16, 16)
    dark, bright = -3 * torch.ones(2, 4, 16, 16), 3 * torch.ones(2, 4, 16, 16)
    right = judging_term(stable, critic, dark, bright, steps, noise)
    wrong = judging_term(stable, critic, bright, dark, steps, noise)
    assert right < 0.2 and wrong > 5
    dark.requires_grad_()
    adversarial_term(stable, critic, dark, steps, noise).backward()
    assert (dark.grad < 0).all()  # descent brightens


def test_the_critic_learns_to_say_the_noise(stable):
    class Says(torch.nn.Module):
        def __init__(self, says):
            super().__init__()
            self.says = says

        def forward(self, noisy, steps, context):
            assert context.shape[0] == len(noisy)
            return UNet2DConditionOutput(sample=self.says)

    latents, noise = torch.randn(2, 2, 4, 16, 16)
    critic = Critic(stable.unet())
    losses = []
    for says in (noise, noise + 2, latents):
        critic.unet = Says(says)
        losses.append(float(denoising_term(stable, critic, latents, torch.tensor([5, 900]), noise)))
    assert losses[:2] == pytest.approx([0, 4]) and losses[2] > 1


@pytest.mark.parametrize(("stage", "kind"), [(INTRA, "intra"), ({**INTER, "checkpointing": True}, "inter")])
def test_a_stage_moves_the_generator_and_its_critic(
    write_recipe, point, prior, stable, large_footage, cache, tmp_path, stops_after, stage, kind
):
    recipe = recipe_of(write_recipe, point, prior, {**stage, "steps": 9}, ema=0.0)
    with stops_after(4):
        figures = run(recipe, tmp_path / "run", large_footage, cache)
    assert all(step["critic"] > 0 and step["psnr"] > 0 for step in figures)
    for learns, step in zip((True, False, True, False), figures, strict=True):
        assert ("gradient" in step) == ("loss" in step) == ("dmd" in step) == learns
        assert np.isfinite(step.get("loss", 0))
    found = read_checkpoint(tmp_path / "run")
    assert found.progress.pixels == 2 * 2 * stage["frames"] * 128**2
    before, after = read_weights(point).part("ema."), found.part("model.")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    adapters = {name for name in moved if name.startswith(f"adapters.{kind}.")}
    if kind == "intra":
        others = ("generator.unet.conv_in.", "generator.reduction.")
    else:
        others = ("generator.fusions.",)
    assert adapters and all(name.startswith(others) for name in moved - adapters)
    assert any(name.startswith(others) for name in moved)
    critic, published = found.part("aux.critic.unet."), stable.unet().state_dict()
    assert all(not torch.equal(critic[name], published[name]) for name in published if "to_q" in name)
    assert not [name for name in found.tensors if name.startswith("aux.") and "critic" not in name]


def test_a_critic_is_of_its_stage_alone(write_recipe, point, prior, large_footage, cache, tmp_path):
    recipe = recipe_of(write_recipe, point, prior, {**INTRA, "steps": 1})
    run(recipe, tmp_path / "run", large_footage, cache)
    assert not read_checkpoint(tmp_path / "run").part("aux.")


def test_a_run_goes_on_bit_for_bit(write_recipe, point, prior, large_footage, cache, tmp_path, stops_after):
    recipe = recipe_of(write_recipe, point, prior, INTER, precision="bfloat16")
    whole = run(recipe, tmp_path / "whole", large_footage, cache)
    with stops_after(3):
        first = run(recipe, tmp_path / "parts", large_footage, cache)
    assert len(first) == 3 and read_checkpoint(tmp_path / "parts").part("aux.critic.")
    rest = run(recipe, tmp_path / "parts", large_footage, cache, resume=True)
    assert first + rest == whole
    one, other = (read_checkpoint(tmp_path / name).tensors for name in ("whole", "parts"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_two_processes_train_as_one(write_recipe, point, prior, large_footage, cache, curve_of, tmp_path):
    # One of four is seen: in each step one of the processes sees none.
    stage = {**INTER, "batch": 4, "seen_every": 4, "steps": 6, "learning_rate": 2e-5}
    recipe = recipe_of(write_recipe, point, prior, stage)
    one, two = (curve_of(n, recipe, tmp_path / f"of{n}", large_footage, cache) for n in (1, 2))
    assert len(one) == 6
    for figure, tolerance in (("loss", 1e-4), ("critic", 1e-4), ("gradient", 1e-2)):
        curves = [[f[figure] for f in curve if figure in f] for curve in (one, two)]
        np.testing.assert_allclose(*curves, rtol=tolerance)


def test_turns_are_taken_by_steps_that_learn():
    taken = [StepStreams(1, step, [0], torch.device("cpu"), every=10).turn for step in (3, 13, 23)]
    assert taken == [0, 1, 2]


def test_what_cannot_be(write_recipe, point, prior, large_footage, cache, tmp_path, monkeypatch):
    def refusal(prior, **changes):
        recipe = recipe_of(write_recipe, point, prior, {**INTRA, **changes})
        with pytest.raises((InputError, ModelError)) as caught:
            run(recipe, tmp_path / "no", large_footage, cache)
        return str(caught.value)

    monkeypatch.chdir(tmp_path)
    assert "sd15 is not Stable Diffusion as diffusers keep it: it has no unet/" in refusal("sd15")
    schedule = json.loads((prior / "scheduler" / "scheduler_config.json").read_text())
    other = tmp_path / "v"
    other.mkdir()
    for part in ("tokenizer", "text_encoder"):
        (other / part).symlink_to(prior / part)
    for part in ("scheduler", "unet"):
        (other / part).mkdir()
    (other / "unet" / "config.json").write_text((prior / "unet" / "config.json").read_text())
    config = other / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**schedule, "prediction_type": "v_prediction"}))
    assert "predicts v_prediction from 4 channels" in refusal(other)
    config.write_text(json.dumps(schedule))
    assert "cannot read" in refusal(other)  # no weights
    config.write_text("{")
    assert "fetch it again" in refusal(other)
    assert "needs frames 2 or more" in refusal(prior, longest=8)
    assert "is dmd or adversarial" in refusal(prior, losses={"l1": 1.0, "reference_l1": 0.0})
    recipe = recipe_of(write_recipe, point, prior, INTRA)
    recipe.write_text(recipe.read_text().replace(f"prior: {prior}\n", ""))
    with pytest.raises(InputError, match="give the recipe a prior"):
        run(recipe, tmp_path / "no", large_footage, cache)
