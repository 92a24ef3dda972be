"""From a recipe to a file that decodes: the smoke recipe end to end, and what an export is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import s2vc
from s2vc.errors import ModelError, OutputError
from s2vc.models.cards import trained_metrics
from s2vc.models.files import ModelFile
from s2vc.perceptual import file_sha256
from s2vc.training.checkpoint import CHECKPOINT, read_checkpoint
from s2vc.training.export import export
from s2vc.training.loop import train

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.yaml"


@pytest.fixture(scope="module")
def smoke(footage, tmp_path_factory) -> Path:
    """The smoke recipe's run over the tests' clips, with an evaluation in it."""
    folder = tmp_path_factory.mktemp("smoke")
    recipe = yaml.safe_load(SMOKE.read_text())
    recipe["data"]["clips"] = ["clips"]
    recipe["evaluate"] = {"clips": ["clips/a.mkv"], "qualities": [40], "frames": 6}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    train(folder / "recipe.yaml", folder / "run", data=footage, cache=folder / "cache")
    return folder / "run"


def evaluations(run: Path) -> list[dict]:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry.get("event") == "evaluation"]


def test_the_smoke_recipe_trains_every_kind_of_stage(smoke):
    progress = read_checkpoint(smoke).progress
    kinds = [entry["kind"] for entry in progress.history]
    assert kinds == ["prior", "intra", "inter", "cascade", "entropy", "generator", "realism"]
    by_stage = {entry["stage"]: entry for entry in evaluations(smoke)}
    error = {name: 1 / 10 ** (entry["psnr"] / 20) for name, entry in by_stage.items()}
    cost = {name: 0.4 * entry["bpp"] + error[name] for name, entry in by_stage.items()}
    assert cost["cascade"] < cost["intra"]
    assert by_stage["entropy"]["bpp"] < 0.9 * by_stage["cascade"]["bpp"]
    assert by_stage["entropy"]["psnr"] > by_stage["cascade"]["psnr"] - 0.1


def test_what_was_trained_codes_a_file_that_decodes(smoke, tmp_path, scene, psnr):
    target = tmp_path / "smoke-1.safetensors"
    export(smoke, target)
    pictures = scene(6, 96, 80)
    model = s2vc.load(str(target), device="cpu")
    shown: list[np.ndarray] = []
    with (
        (tmp_path / "film.s2vc").open("wb") as stream,
        s2vc.Encoder(
            stream, 96, 80, model=model, quality=40, reconstruct=lambda frame: shown.append(frame.rgb)
        ) as encoder,
    ):
        for picture in pictures:
            encoder.write(picture)
    with (tmp_path / "film.s2vc").open("rb") as stream:
        decoded = [frame.picture for frame in s2vc.Decoder(stream, model=model)]
    np.testing.assert_array_equal(decoded, shown)
    assert psnr(decoded, pictures) > 22
    # What the log called coded bytes and PSNR is what an encoder and a decoder make of it.
    logged = evaluations(smoke)[-1]
    assert psnr(decoded, pictures) == pytest.approx(logged["psnr"], abs=0.3)
    size = (tmp_path / "film.s2vc").stat().st_size
    assert 8 * size / (6 * 96 * 80) == pytest.approx(logged["bpp"], rel=0.05)


def test_an_export_is_the_same_bytes_again_and_its_card_says_what_it_is(smoke, tmp_path):
    paths = [tmp_path / str(number) / "smoke-1.safetensors" for number in range(3)]
    for path in paths:
        export(smoke, path)
    assert len({path.read_bytes() for path in paths}) == 1
    card = paths[0].with_suffix(".md").read_text()
    model = ModelFile.open(paths[0])
    assert model.id == "smoke-1"
    for part in (
        "# smoke-1",
        file_sha256(paths[0]),
        model.digest.hex(),
        "good for nothing",  # the recipe's note of licences
        "| data | clips |",
        "| trained on metrics | none |",
        '"kind": "realism"',
        "| clip | quality | frames | bpp | psnr |",
    ):
        assert part in card
    with pytest.raises(OutputError, match="exists: give -y"):
        export(smoke, paths[0])


def test_cards_carry_on_what_was_trained_on(smoke, tmp_path):
    found = read_checkpoint(smoke)
    found.progress.history = [{"losses": {"l1": 1.0, "dists": 0.4, "lpips_vgg": 0.1}}]
    found.write(tmp_path / CHECKPOINT)
    export(tmp_path, tmp_path / "a.safetensors")
    assert trained_metrics(tmp_path / "a.md") == ("dists", "lpips-vgg")
    export(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert trained_metrics(tmp_path / "b.md") == ("dists", "lpips-vgg")
    (tmp_path / "a.md").unlink()
    export(tmp_path / "a.safetensors", tmp_path / "c.safetensors")
    assert "those of a, whose card was not there" in (tmp_path / "c.md").read_text()


def test_generators_behind_one_codec_are_averaged(smoke, tmp_path):
    found = read_checkpoint(smoke)
    name = "generator.out.weight"
    for number in (1, 2):
        found.tensors[f"ema.{name}"] = torch.full_like(found.tensors[f"ema.{name}"], float(number))
        found.progress.history = [
            {"stage": f"stage{number}", "losses": {("dists", "lpips_vgg")[number - 1]: 1}}
        ]
        (tmp_path / str(number)).mkdir()
        found.write(tmp_path / str(number) / CHECKPOINT)
    one, two, mean = tmp_path / "1", tmp_path / "2", tmp_path / "mean.safetensors"
    export(one, mean, average=[str(two), str(two), str(one)])
    assert (ModelFile.open(mean).tensors()[name] == 1.5).all()
    assert trained_metrics(tmp_path / "mean.md") == ("dists", "lpips-vgg")
    found.tensors["ema.codec.encoder_out.bias"] += 1
    found.write(two / CHECKPOINT)
    with pytest.raises(ModelError, match="behind one codec"):
        export(one, mean, average=[str(two)], overwrite=True)


def test_foreign_and_newer_files_are_refused(smoke, tmp_path):
    found = read_checkpoint(smoke)
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, other)
    with pytest.raises(ModelError, match="is not a checkpoint: name a run's folder"):
        export(other, tmp_path / "m.safetensors")
    other.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="cannot read"):
        export(other, tmp_path / "m.safetensors")
    save_file(found.tensors, other, {"progress": "{}", "version": "99"})
    with pytest.raises(ModelError, match=r"newer s2vc \(version 99\): update s2vc"):
        export(other, tmp_path / "m.safetensors")
    found.progress.stage, found.progress.stage_steps = 0, 1  # within a stage that knew another key
    found.recipe["stages"][0]["retired"] = 1
    found.write(tmp_path / CHECKPOINT)
    with pytest.raises(ModelError, match="stage 1 says retired as this version does not know it"):
        export(tmp_path, tmp_path / "m.safetensors")
    found.progress.stage_steps = 0
    found.tensors.pop("ema.codec.encoder_out.weight")
    found.write(tmp_path / CHECKPOINT)
    with pytest.raises(ModelError, match="does not fit"):
        export(tmp_path, tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()
