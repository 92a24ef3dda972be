"""``base`` in training, on the miniature release: what it computes, what moves, what comes out."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

import s2vc
from s2vc.errors import InputError, ModelError
from s2vc.models.published import layout
from s2vc.models.published_import import import_release
from s2vc.models.published_loading import ModelFolder
from s2vc.training.base_networks import BaseNetworks, folder_weights
from s2vc.training.base_unroll import BaseFrames, BaseState, initial_base_state
from s2vc.training.checkpoint import CHECKPOINT, read_checkpoint, read_weights
from s2vc.training.export import export
from s2vc.training.loop import train
from s2vc.training.unroll import Noise

FRAMES = 5
LOSSES = {"l1": 1.0, "reference_l1": 0.0}
STAGE = {"crop": 128, "batch": 2, "steps": 3, "losses": LOSSES, "optimiser": "adamw"}
INTRA = {**STAGE, "kind": "intra", "frames": 1, "longest": 1}
INTER = {**STAGE, "kind": "inter", "frames": 2, "longest": 2}
CASCADE = {**INTER, "kind": "cascade", "frames": 3, "longest": 6, "short_share": 0.2}


@pytest.fixture(scope="module")
def point(miniature, tmp_path_factory):
    """One rate point of the miniature, in float32."""
    return import_release(miniature.folder, tmp_path_factory.mktemp("point") / "low", ["low"], "fp32").path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def networks(point):
    model = BaseNetworks(ModelFolder.open(point).config)
    model.load_state_dict(dict(folder_weights(point)))
    return model


def still(films, frames, config, height=64, width=128):
    """No noise."""
    latent = torch.zeros(films, frames, config.inter.latent, height // 16, width // 16)
    return Noise(latent, torch.zeros(films, frames, config.inter.hyper, height // 64, width // 64))


def run(recipe, out, footage, cache, **how):
    seen = []
    train(recipe, out, data=footage, cache=cache, watch=lambda _, figures: seen.append(figures), **how)
    return seen


def recipe_of(write_recipe, point, *stages, **keys):
    data = {"clips": ["clips"], "scales": [1.0], "steps": [1]}
    return write_recipe(*stages, preset="base", start=str(point), model={}, data=data, **keys)


def test_names_are_the_releases(networks):
    shapes = {name: tuple(tensor.shape) for name, tensor in networks.state_dict().items()}
    assert shapes == {tensor.name: tensor.shape for tensor in layout(networks.config)}


@torch.inference_mode()
def test_it_is_what_the_codec_codes_and_shows(networks, point, scene):
    """Of a film that resets behind its I-frame and then every other frame."""
    pictures = np.stack(scene(FRAMES, 128, 64))
    model = s2vc.load(str(point), device="cpu")
    model.networks.reset_period = 2
    shown, stream = [], io.BytesIO()
    with s2vc.Encoder(
        stream, 128, 64, model=model, keyint=FRAMES, reconstruct=lambda frame: shown.append(frame.rgb)
    ) as encoder:
        for picture in pictures:
            encoder.write(picture)
    # Beside another film that opens later: films of a batch do not know each other.
    films = torch.from_numpy(np.stack([pictures, pictures[::-1]])).permute(0, 1, 4, 2, 3).float()
    intra, reset = np.zeros((2, FRAMES), bool), np.zeros((2, FRAMES), bool)
    intra[0, 0] = intra[1, [0, 3]] = True
    reset[0] = [False, True, False, True, False]
    frames = BaseFrames(networks, autocast=False, cascade=True, checkpointing=False)
    noise = still(2, FRAMES, networks.config)
    result = frames(films, intra, reset, noise, initial_base_state(networks, 2, 64, 128))
    mine = result.x0[0].clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert np.abs(mine - np.stack(shown).astype(np.float32)).max() < 1.01  # one is rounded
    assert float(result.bits[0].sum()) / 8 == pytest.approx(len(stream.getvalue()), rel=0.15)
    # In two steps, carried over as checkpoints do.
    state = initial_base_state(networks, 2, 64, 128)
    parts = []
    for window in (slice(0, 2), slice(2, FRAMES)):
        some = Noise(noise.latent[:, window], noise.hyper[:, window])
        part = frames(films[:, window], intra[:, window], reset[:, window], some, state)
        state = BaseState.of(part.state.tensors())
        parts.append(part.x0)
    torch.testing.assert_close(torch.cat(parts, 1), result.x0, atol=1e-3, rtol=0)


@pytest.mark.parametrize("cascade", [True, False])
def test_gradients_go_back_in_a_cascade_only(networks, scene, cascade):
    pictures = torch.from_numpy(np.stack(scene(3, 128, 64))).permute(0, 3, 1, 2).float()[None]
    pictures.requires_grad_()
    intra = np.array([[True, False, False]])
    frames = BaseFrames(networks, autocast=False, cascade=cascade, checkpointing=True)
    state = initial_base_state(networks, 1, 64, 128)
    result = frames(pictures, intra, np.zeros_like(intra), still(1, 3, networks.config), state)
    result.x0[:, 2].sum().backward()
    assert pictures.grad is not None
    assert bool(pictures.grad[:, 1].any()) == cascade
    networks.zero_grad()


def test_a_run_moves_what_its_stages_name(write_recipe, point, large_footage, cache, tmp_path):
    recipe = recipe_of(write_recipe, point, INTRA, INTER, CASCADE, ema=0.0)
    figures = run(recipe, tmp_path / "run", large_footage, cache)
    assert len(figures) == 9 and all(np.isfinite(f["loss"]) for f in figures)
    before, after = read_weights(point).part("ema."), read_checkpoint(tmp_path / "run").part("model.")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    adapted = {name for name in moved if name.startswith("adapters.")}
    assert {name.split(".")[1] for name in adapted} == {"intra", "inter"}
    parts = {".".join(name.split(".")[:2]) for name in moved - adapted}
    assert {"generator.fusions", "generator.reduction", "inter.analysis", "intra.analysis"} <= parts
    assert not [name for name in moved if name.startswith("vae.")]
    unet = [name for name in moved if name.startswith("generator.unet.")]
    assert sorted(unet) == ["generator.unet.conv_in.bias", "generator.unet.conv_in.weight"]


def test_tokens_are_distilled_in_mixed_precision(write_recipe, point, large_footage, tmp_path, monkeypatch):
    class Mean(torch.nn.Module):
        width = 3

        def forward(self, pictures):
            return torch.nn.functional.avg_pool2d(pictures, 16)

    monkeypatch.setattr("s2vc.perceptual.teachers.load_teacher", lambda name: Mean())
    stage = {**CASCADE, "losses": {**LOSSES, "semantic": 0.5, "flicker": 0.5}, "train": ["csg"]}
    recipe = recipe_of(write_recipe, point, stage, teacher="mean", precision="bfloat16", ema=0.0)
    figures = run(recipe, tmp_path / "run", large_footage, tmp_path / "cache")
    assert any("semantic" in f for f in figures) and all(np.isfinite(f["loss"]) for f in figures)
    found = read_checkpoint(tmp_path / "run")
    before, after = read_weights(point).part("ema."), found.part("model.")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert found.part("aux.projection.")
    # Tokens of I-frames learn from their generator's pictures, too, whatever stands still there.
    assert {name.split(".")[1] for name in moved} <= {"token_head", "tokens"}
    assert any(name.startswith("inter.token_head.") for name in moved)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_vggs_gradients_go_through_it(
    write_recipe, point, large_footage, cache, weights_dir, tmp_path, precision
):
    """VGG-16 is channels-last, these networks are not: gradients through frozen layers crashed torch once."""
    stage = {**INTER, "steps": 2, "losses": {**LOSSES, "lpips_vgg": 0.5, "dists": 0.5}}
    recipe = recipe_of(write_recipe, point, stage, precision=precision)
    figures = run(recipe, tmp_path / "run", large_footage, cache)
    assert {"lpips_vgg", "dists"} <= {name for step in figures for name in step}
    assert all(np.isfinite(step["loss"]) and step["gradient"] > 0 for step in figures)


def test_p_frames_leave_i_frames_as_they_are(write_recipe, point, large_footage, cache, tmp_path):
    recipe = recipe_of(write_recipe, point, {**INTER, "train": ["inter", "lora", "tcg"]}, ema=0.0)
    run(recipe, tmp_path / "run", large_footage, cache)
    before, after = read_weights(point).part("ema."), read_checkpoint(tmp_path / "run").part("model.")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(n.startswith(("inter.", "adapters.inter.", "generator.fusions.")) for n in moved)


def test_new_adapters_of_p_frames_begin_as_those_of_i_frames(networks):
    from s2vc.training.base_stage import BaseInterStage

    model = BaseNetworks(networks.config)
    for name, weight in model.adapters.named_parameters():
        if name.startswith("intra."):
            torch.nn.init.normal_(weight)
    ema = {name: value.clone() for name, value in model.state_dict().items()}
    BaseInterStage.prepare(None, model, ema)
    for held in (model.state_dict(), ema):
        for name in held:
            if name.startswith("adapters.inter."):
                assert torch.equal(held[name], held[name.replace(".inter.", ".intra.", 1)])
    again = {name: value.clone() for name, value in networks.state_dict().items()}
    BaseInterStage.prepare(None, networks, {})
    assert all(torch.equal(again[name], value) for name, value in networks.state_dict().items())


def test_a_run_goes_on_bit_for_bit(write_recipe, point, large_footage, cache, tmp_path, stops_after):
    start = shutil.copytree(point, tmp_path / "start")
    recipe = recipe_of(write_recipe, start, CASCADE)
    whole = run(recipe, tmp_path / "whole", large_footage, cache)
    with stops_after(2):
        first = run(recipe, tmp_path / "parts", large_footage, cache)
    assert len(first) == 2
    shutil.rmtree(start)  # a run needs what it began from no more
    rest = run(recipe, tmp_path / "parts", large_footage, cache, resume=True)
    assert [f["loss"] for f in first + rest] == [f["loss"] for f in whole]
    one, other = (load_file(tmp_path / name / CHECKPOINT) for name in ("whole", "parts"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_two_processes_train_as_one(write_recipe, point, large_footage, cache, curve_of, tmp_path):
    recipe = recipe_of(write_recipe, point, {**CASCADE, "steps": 8, "batch": 4, "learning_rate": 2e-5})
    one, two = (curve_of(n, recipe, tmp_path / f"of{n}", large_footage, cache) for n in (1, 2))
    assert len(one) == 8
    for figure, tolerance in (("loss", 1e-4), ("gradient", 1e-2)):
        np.testing.assert_allclose([f[figure] for f in one], [f[figure] for f in two], rtol=tolerance)


def test_what_is_exported_is_a_codec(write_recipe, point, large_footage, cache, scene, tmp_path):
    run(recipe_of(write_recipe, point, INTER), tmp_path / "run", large_footage, cache)
    said = export(tmp_path / "run", tmp_path / "mine")
    folder = ModelFolder.open(tmp_path / "mine")
    assert folder.id == "mine" and folder.digest[:8].hex() in said
    export(tmp_path / "run", tmp_path / "again", model_id="mine")
    assert ModelFolder.open(tmp_path / "again").digest == folder.digest
    card = (tmp_path / "mine.md").read_text()
    assert '"stage": "inter"' in card and "base-fp32" in card
    pictures = scene(3, 70, 50)
    stream = io.BytesIO()
    with s2vc.Encoder(stream, 70, 50, model=s2vc.load(str(tmp_path / "mine"), device="cpu")) as encoder:
        for picture in pictures:
            encoder.write(picture)
    decoder = s2vc.Decoder(io.BytesIO(stream.getvalue()), model=str(tmp_path / "mine"))
    assert len(list(decoder)) == 3
    # What was exported can be gone on from.
    run(
        recipe_of(write_recipe, tmp_path / "mine", {**INTER, "steps": 1}),
        tmp_path / "next",
        large_footage,
        cache,
    )


def test_it_begins_from_stable_diffusion(
    networks, miniature, write_recipe, large_footage, cache, tmp_path, monkeypatch
):
    from s2vc.training import base_networks

    config, folder = miniature.config, tmp_path / "sd15"
    unet = UNet2DConditionModel(
        block_out_channels=config.generator.widths,
        cross_attention_dim=config.generator.token,
        attention_head_dim=config.generator.heads,
    )
    unet.save_pretrained(folder / "unet")
    networks.vae.autoencoder.save_pretrained(folder / "vae")
    monkeypatch.setattr(base_networks, "BaseConfig", lambda *parts: type(config)(*parts) if parts else config)
    run(recipe_of(write_recipe, folder, {**INTRA, "steps": 1}), tmp_path / "run", large_footage, cache)
    found = read_checkpoint(tmp_path / "run").part("model.")
    for name, weight in unet.state_dict().items():
        assert name.startswith("conv_in.") or torch.equal(found[f"generator.unet.{name}"], weight)
    for name, weight in networks.vae.state_dict().items():
        assert torch.equal(found[f"vae.{name}"], weight)
    assert not found["generator.fusions.0.exit.weight"].any()
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(ModelError, match="not Stable Diffusion as diffusers keep it"):
        run(recipe_of(write_recipe, folder, INTRA), tmp_path / "no", large_footage, cache)


def test_what_cannot_be_trained_is_refused(write_recipe, point, base_folder, large_footage, cache, tmp_path):
    def refusal(*stages, start=point, error=InputError, **keys):
        with pytest.raises(error) as caught:
            run(recipe_of(write_recipe, start, *stages, **keys), tmp_path / "no", large_footage, cache)
        return str(caught.value)

    assert "give the recipe a prior" in refusal(INTER, {**INTER, "kind": "realism"})
    assert "critic_steps is for realism of base" in refusal({**INTER, "critic_steps": 2})
    assert "multiple of 64" in refusal({**INTER, "crop": 96})
    assert "compile is for tiny" in refusal(INTER, compile=True)
    assert "temporal reads motion" in refusal({**INTER, "losses": {**LOSSES, "temporal": 1}})
    assert "3 rate points (low, middle, high)" in refusal(INTER, start=base_folder, error=ModelError)
    recipe = recipe_of(write_recipe, point, INTER)
    recipe.write_text(recipe.read_text().replace(f"start: {point}\n", ""))
    with pytest.raises(InputError, match="base begins from a run, a model folder or"):
        run(recipe, tmp_path / "no", large_footage, cache)
