"""``s2vc pack``, ``train`` and ``export`` as a user meets them."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner, Result

from s2vc.cli.app import app


@pytest.fixture
def command():
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


def test_pack_says_what_it_did(command, footage, tmp_path):
    sources = (footage / "vimeo", footage / "clips" / "broken.mp4")
    ran = command("pack", *sources, "--out", tmp_path, "--keep-all", "--shortest", "3")
    assert ran.exit_code == 0
    assert "1 scenes, 7 frames in 1 shards; left out: none; clips skipped: 1" in ran.output
    assert command("pack", tmp_path / "nowhere", "--out", tmp_path / "x").exit_code == 1


def test_a_wrong_recipe_is_one_line_with_its_place(command, footage, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("data: {clips: [clips]}\nstages:\n  - {name: a, kind: inter, steps: 1}\nsead: 3\n")
    ran = command("train", recipe, "--out", tmp_path / "run", "--data", footage)
    assert ran.exit_code == 1
    assert ran.output.strip() == f"s2vc: {recipe}:4: sead: there is no such key"
    assert not (tmp_path / "run").exists()


def test_what_of_base_is_not_trained_is_named(command, footage, tmp_path, request):
    recipe = tmp_path / "base.yaml"
    text = (request.config.rootpath / "recipes" / "base-intra.yaml").read_text()
    vae = "stages:\n  - {name: latents, kind: vae, steps: 1, frames: 1, longest: 1}\n"
    recipe.write_text(text.replace("stages:\n", vae))
    ran = command("train", recipe, "--out", tmp_path / "run", "--data", footage)
    assert ran.exit_code == 1
    assert "stage latents: of base intra, inter, cascade and realism stages are trained" in ran.output


def test_a_budget_is_a_time(command, footage, tmp_path):
    ran = command("train", "r.yaml", "--out", tmp_path, "--data", footage, "--budget", "soon")
    assert ran.exit_code == 2
