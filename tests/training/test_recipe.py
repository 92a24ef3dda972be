"""Recipes: what is refused, and on which line."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2vc.errors import InputError
from s2vc.training.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"

GOOD = """\
data: {clips: [video]}
stages:
  - name: prior
    kind: prior
    frames: 1
    steps: 10
  - name: first
    kind: inter
    minutes: 3
    losses:
      l1: 2.0
"""


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_is_sound(path):
    assert load_recipe(path).stages


def refusal(tmp_path, text: str) -> str:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}:")


def test_a_good_recipe_is_taken(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    recipe = load_recipe(path)
    assert [stage.kind for stage in recipe.stages] == ["prior", "inter"]
    assert recipe.stages[1].losses.used == ["l1", "reference_l1"]


def test_what_a_run_starts_from_counts(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("data: {clips: [clips]}\nstages:\n  - {name: a, kind: generator, steps: 1}\n")
    with pytest.raises(InputError, match="a generator stage needs a trained codec"):
        load_recipe(path)
    assert load_recipe(path, "tiny").start == "tiny"


def test_only_what_something_gives_can_begin_anew(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("restart: [generator]\n" + GOOD)
    with pytest.raises(InputError, match=r"1: restart: .* that start would give"):
        load_recipe(path)
    assert load_recipe(path, "tiny").restart == ["generator"]


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("    minutes: 3", "    minuets: 3", 9, "stages.1.minuets: there is no such key"),
        ("      l1: 2.0", "      l2: 2.0", 11, "stages.1.losses.l2: there is no such key"),
        ("      l1: 2.0", "      l1: -2", 11, "stages.1.losses.l1: Input should be greater"),
        ("    minutes: 3", "    minutes: 3\n    steps: 4", 7, "either minutes or steps"),
        (
            "    kind: inter",
            "    kind: prior\n    frames: 1\n    train: [lora]",
            10,
            "lora is no part of tiny",
        ),
        ("    kind: inter", "    kind: intra", 7, "give frames 1 and longest 1"),
        ("    kind: inter", "    kind: vae\n    frames: 1", 8, "tiny has no autoencoder"),
        ("      l1: 2.0", "      dmd: 1", 10, "belong into a realism stage"),
        ("      l1: 2.0", "      semantic: 1", 11, "semantic needs a teacher"),
        ("    kind: inter", "    kind: realism", 8, "needs a trained codec"),
        ("    kind: inter", "    kind: generator", 8, "a generator stage needs a trained codec"),
        ("    kind: inter", "    kind: generator\n    train: [codec]", 7, "all else stands still"),
        ("    kind: inter", "    kind: inter\n    passages: 2", 7, "what entropy and generator stages code"),
        ("    kind: inter", "    kind: entropy", 7, "give it no losses"),
        ("    kind: inter", "    kind: entropy\n    train: [codec]", 7, "an entropy stage trains of entropy"),
        ("  - name: first", "  - name: prior", 7, "two stages are named prior"),
        (
            "data: {clips: [video]}",
            "data: {clips: [video]}\nmodel: {width9: 3}",
            2,
            "width9 is no width of tiny",
        ),
        ("data: {clips: [video]}", "data: {}", 1, "name clips, sequences or shards"),
    ],
)
def test_a_refusal_names_the_line(tmp_path, old, new, line, what):
    assert old in GOOD
    message = refusal(tmp_path, GOOD.replace(old, new))
    assert message.startswith(f"{line}: ")
    assert what in message


def test_an_impossible_order_is_refused_where_it_breaks(tmp_path):
    text = GOOD + "  - name: late\n    kind: prior\n    frames: 1\n    steps: 2\n"
    message = refusal(tmp_path, text)
    assert message.startswith("13: stages.2.kind: a prior stage cannot follow an inter stage (first)")


def test_dmd_needs_a_prior(tmp_path):
    head, _, tail = GOOD.partition("  - name: prior\n    kind: prior\n    frames: 1\n    steps: 10\n")
    text = head + tail + "  - name: real\n    kind: realism\n    steps: 2\n    losses: {dmd: 1}\n"
    assert "dmd needs a prior stage" in refusal(tmp_path, text)


def test_what_a_generator_stage_does_without(tmp_path):
    text = GOOD + "  - name: last\n    kind: generator\n    steps: 2\n    losses: {temporal: 1}\n"
    assert "temporal has no place in a generator stage" in refusal(tmp_path, text)


@pytest.mark.parametrize("kind", ["entropy", "generator"])
def test_files_are_not_coded_without_motion(tmp_path, kind):
    text = "drop: [motion]\n" + GOOD + f"  - name: last\n    kind: {kind}\n    steps: 2\n"
    message = refusal(tmp_path, text)
    assert message.startswith("14: stages.2.kind") and "searches motion" in message


def test_one_backbone_stays_a_witness(tmp_path):
    assert "no witness" in refusal(tmp_path, GOOD + "      dists: 1\n      lpips_alex: 1\n")


def test_no_yaml(tmp_path):
    assert "is not YAML" in refusal(tmp_path, "stages: [")
