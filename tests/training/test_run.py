"""Runs: they go on exactly, they are the same on two processes, and they stop at what is not finite."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from s2vc.errors import InputError, ModelError, S2vcError
from s2vc.models.files import ModelFile
from s2vc.training import losses
from s2vc.training.checkpoint import CHECKPOINT, read_checkpoint, read_weights
from s2vc.training.loop import train
from s2vc.training.processes import allow_many_files

CASCADE = {"kind": "cascade", "steps": 6, "frames": 2, "longest": 8}


class Stop(Exception):
    pass


def run(recipe: Path, out: Path, footage: Path, cache: Path, stop: int | None = None, **how) -> list[dict]:
    """Train; the figures of every step. ``stop``: save a checkpoint there and leave, as a budget would."""
    seen: list[dict] = []
    train(
        recipe,
        out,
        data=footage,
        cache=cache,
        watch=lambda progress, figures: seen.append({"step": progress.steps, **figures}),
        budget_minutes=None if stop is None else 1e-9,
        **how,
    )
    return seen


@pytest.fixture
def in_pieces(monkeypatch):
    """A budget that ends after so many steps."""

    def set_steps(count: int) -> None:
        from s2vc.training import processes

        left = [count]

        def spent(self, flag):
            left[0] -= 1
            return left[0] < 0

        monkeypatch.setattr(processes.Processes, "any", spent)

    return set_steps


def log_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def assert_same(a: Path, b: Path) -> None:
    first, second = read_checkpoint(a), read_checkpoint(b)
    assert first.tensors.keys() == second.tensors.keys()
    different = [k for k, v in first.tensors.items() if not torch.equal(v, second.tensors[k])]
    assert different == []


STAGES = {
    "cascade": [CASCADE],
    "entropy": [
        {"kind": "inter", "steps": 1, "frames": 2},
        {"kind": "entropy", "steps": 5, "longest": 4},
    ],
    "generator": [
        {"kind": "inter", "steps": 1, "frames": 2},
        {"kind": "generator", "steps": 5, "frames": 3, "longest": 8, "losses": {"flicker": 0.5}},
    ],
    "realism": [
        {"kind": "prior", "steps": 2, "frames": 1},
        {"kind": "inter", "steps": 1, "frames": 2},
        {
            "kind": "realism",
            "steps": 5,
            "frames": 2,
            "longest": 8,
            "losses": {"adversarial": 0.01, "dmd": 0.1, "temporal": 0.5},
        },
    ],
}


@pytest.mark.parametrize("name", STAGES)
def test_a_resumed_run_is_the_same_bit_for_bit(name, write_recipe, tmp_path, footage, cache, in_pieces):
    recipe = write_recipe(*STAGES[name])
    in_pieces(10**6)
    whole = run(recipe, tmp_path / "whole", footage, cache)
    in_pieces(len(whole) - 3)
    first = run(recipe, tmp_path / "parts", footage, cache)
    in_pieces(10**6)
    rest = run(recipe, tmp_path / "parts", footage, cache, resume=True)
    assert len(first) == len(whole) - 3
    assert first + rest == whole
    assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_bit_for_bit(number, write_recipe, tmp_path, footage, cache, capsys):
    recipe = write_recipe({**CASCADE, "steps": 4})
    run(recipe, tmp_path / "whole", footage, cache)

    def stop(progress, figures):
        if progress.steps == 2:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "parts", data=footage, cache=cache, watch=stop)
    assert signal.getsignal(number) is before
    assert "stopping behind this step" in capsys.readouterr().err
    assert log_of(tmp_path / "parts")[-1]["event"] == "stopped"
    rest = run(recipe, tmp_path / "parts", footage, cache, resume=True)
    assert len(rest) == 2
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_library_may_have_more_files_than_a_shell_allows():
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_loss_falls_and_the_log_says_what_was_skipped(write_recipe, tmp_path, footage, cache):
    """A run from the trained weights sees the first run's batches again."""
    before = run(write_recipe({**CASCADE, "steps": 30}), tmp_path / "run", footage, cache)
    recipe = write_recipe({**CASCADE, "steps": 2}, start=str(tmp_path / "run"))
    after = run(recipe, tmp_path / "after", footage, cache)
    for first, second in zip(before, after, strict=False):
        assert second["loss"] < first["loss"]
    (started,) = (entry for entry in log_of(tmp_path / "run") if entry.get("event") == "start")
    assert (started["clips"], started["images"], started["skipped"]) == (2, 2, 2)


def test_a_generator_alone_needs_no_fields(write_recipe, tmp_path, footage, cache):
    run(write_recipe({**CASCADE, "steps": 1}), tmp_path / "run", footage, cache)
    stage = {"kind": "generator", "steps": 2, "frames": 2, "longest": 4}
    recipe = write_recipe(stage, start=str(tmp_path / "run"))
    before, after = tmp_path / "run", tmp_path / "after"
    assert len(run(recipe, after, footage, tmp_path / "cache")) == 2
    assert list((tmp_path / "cache").rglob("frames.npy")) and not list((tmp_path / "cache").rglob("motion_*"))
    weights = [read_checkpoint(folder).part("ema.") for folder in (before, after)]
    changed = {name for name, value in weights[0].items() if not torch.equal(value, weights[1][name])}
    assert changed and all(name.startswith("generator.") for name in changed)


def test_an_entropy_stage_changes_nothing_else(write_recipe, tmp_path, footage, cache):
    before, after = tmp_path / "run", tmp_path / "after"
    run(write_recipe({**CASCADE, "steps": 1}), before, footage, cache)
    recipe = write_recipe({"kind": "entropy", "steps": 2, "longest": 4}, start=str(before))
    assert len(run(recipe, after, footage, tmp_path / "cache")) == 2
    assert not list((tmp_path / "cache").rglob("motion_*"))
    found = [read_checkpoint(folder) for folder in (before, after)]
    weights = [checkpoint.part("ema.") for checkpoint in found]
    changed = {name for name, value in weights[0].items() if not torch.equal(value, weights[1][name])}
    assert "entropy.frequencies" in changed
    assert all(name.startswith("entropy.") for name in changed)
    assert found[1].progress.pixels == 0 and found[1].progress.history[-1]["losses"] == {}
    # What it learns from is what it began with: the model has moved since.
    shutil.rmtree(tmp_path / "cache" / "symbols")
    longer = write_recipe({"kind": "entropy", "steps": 3, "longest": 4}, start=str(before))
    stopped = read_checkpoint(after)
    stopped.progress.stage, stopped.progress.stage_steps, stopped.progress.coded = 0, 2, "another"
    stopped.tensors["sampler"] = torch.zeros(4, 1, dtype=torch.int64)
    stopped.write(after / CHECKPOINT)
    with pytest.raises(InputError, match="what the stage learnt from is not in"):
        run(longer, after, footage, tmp_path / "cache", resume=True)
    # What is trained by Gaussians' prices from here has their tables again.
    run(write_recipe({**CASCADE, "steps": 1}, start=str(after)), tmp_path / "codec", footage, cache)
    assert not read_checkpoint(tmp_path / "codec").tensors["ema.entropy.frequencies"].any()


GATHERING = """
import torch
from s2vc.training.processes import Processes
processes = Processes()
for rows in (
    torch.full((2, 1, 3), bool(processes.rank)),
    torch.full((2, 5), processes.rank - 300, dtype=torch.int16),
    torch.full((2, 3), processes.rank / 3),
):
    both = processes.gathered(rows)
    mine = 2 * processes.rank
    assert len(both) == 4 and both.dtype == rows.dtype and torch.equal(both[mine : mine + 2], rows)
    assert not torch.equal(both[:2], both[2:])
processes.close()
"""


def test_processes_gather_rows_of_any_type(in_processes):
    """A checkpoint of two processes has what origins carry: flags and 16-bit numbers."""
    in_processes(2, GATHERING)


@pytest.mark.slow
def test_two_processes_train_as_one(write_recipe, tmp_path, footage, cache, mini, curve_of):
    """The same global batch: the loss curves agree to 1e-4 over fifty steps.

    From weights that are no knife edge: a fresh entropy model's table indices are whole numbers, and the sign
    of a gradient of 1e-9 decides whether they are rounded down to the one below.
    """
    losses = {"l1": 1.0, "reference_l1": 0.5, "temporal": 0.3}
    recipe = write_recipe(
        {**CASCADE, "steps": 50, "losses": losses, "learning_rate": 2e-5, "muon_learning_rate": 2e-4},
        start=str(mini),
    )
    curves = [curve_of(count, recipe, tmp_path / f"of{count}", footage, cache) for count in (1, 2)]
    assert len(curves[0]) == 50
    for figure, tolerance in (("loss", 1e-4), ("gradient", 1e-2)):
        one, two = ([step[figure] for step in curve] for curve in curves)
        np.testing.assert_allclose(one, two, rtol=tolerance)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_term(
    write_recipe, tmp_path, footage, cache, monkeypatch, in_pieces
):
    recipe, out = write_recipe({**CASCADE, "losses": {"temporal": 0.5}}), tmp_path / "run"
    in_pieces(2)
    run(recipe, out, footage, cache)
    good = (out / CHECKPOINT).read_bytes()
    in_pieces(10**6)
    plain = losses.temporal_term

    def poisoned(terms, stage, *rest):
        plain(terms, stage, *rest)
        terms.add("temporal", stage.losses.temporal, torch.tensor(float("nan")))

    monkeypatch.setattr(losses, "temporal_term", poisoned)
    with pytest.raises(S2vcError, match=r"stage cascade, step 2: the loss is not finite in temporal: "):
        run(recipe, out, footage, cache, resume=True)
    assert (out / CHECKPOINT).read_bytes() == good


def test_what_does_not_fit_is_refused_by_name(write_recipe, tmp_path, footage, cache, in_pieces, capsys):
    out = tmp_path / "run"
    in_pieces(1)
    run(write_recipe(CASCADE), out, footage, cache)
    with pytest.raises(InputError, match="holds a run already"):
        run(write_recipe(CASCADE), out, footage, cache)
    capsys.readouterr()
    other = write_recipe(CASCADE, data={"clips": ["clips"], "scales": [1.0], "steps": [1]})
    run(other, out, footage, cache, resume=True)
    assert "the footage is not what" in capsys.readouterr().err
    with pytest.raises(InputError, match="stands in stage cascade"):
        run(write_recipe({**CASCADE, "name": "other"}), out, footage, cache, resume=True)
    with pytest.raises(InputError, match="had batch 4 and crop 64"):
        run(write_recipe({**CASCADE, "batch": 2}), out, footage, cache, resume=True)
    with pytest.raises(ModelError, match="of another geometry \\(latent 16 instead of 224"):
        run(write_recipe(CASCADE, model={}), tmp_path / "new", footage, cache, start=str(out))


def test_a_run_of_before_counted_tables_can_be_started_from(write_recipe, tmp_path, footage, cache):
    recipe = write_recipe({**CASCADE, "steps": 1})
    run(recipe, tmp_path / "old", footage, cache)
    old = read_checkpoint(tmp_path / "old")
    for part in ("model", "ema"):
        del old.tensors[f"{part}.entropy.frequencies"]
    old.write(tmp_path / "old" / CHECKPOINT)
    run(recipe, tmp_path / "new", footage, cache, start=str(tmp_path / "old"))


def test_a_run_starts_from_a_model(write_recipe, tmp_path, footage, cache, mini):
    recipe, out = write_recipe({**CASCADE, "steps": 1}, start=str(mini)), tmp_path / "run"
    run(recipe, out, footage, cache)
    assert read_checkpoint(out).progress.history[0]["model"] == "mini-1"


def test_tokens_learn_a_teachers_features(write_recipe, tmp_path, footage, monkeypatch):
    class Mean(torch.nn.Module):
        width = 3

        def forward(self, pictures):
            return torch.nn.functional.avg_pool2d(pictures, 16)

    monkeypatch.setattr("s2vc.perceptual.teachers.load_teacher", lambda name: Mean())
    keys = {"kind": "cascade", "steps": 3, "frames": 2, "longest": 8, "losses": {"semantic": 0.5}}
    recipe, out = write_recipe(keys, teacher="mean"), tmp_path / "run"
    seen = run(recipe, out, footage, tmp_path / "cache")
    assert any("semantic" in figures for figures in seen)
    found = read_checkpoint(out)
    assert found.part("aux.projection.")
    # The features are cached: another run needs no teacher, and goes on with the projection.
    monkeypatch.setattr("s2vc.perceptual.teachers.load_teacher", None)
    still = write_recipe({**keys, "steps": 1, "learning_rate": 1e-12}, teacher="mean")
    run(still, tmp_path / "next", footage, tmp_path / "cache", start=str(out))
    kept = read_checkpoint(tmp_path / "next").part("aux.projection.")
    torch.testing.assert_close(kept, found.part("aux.projection."))


def test_a_part_begins_anew(write_recipe, tmp_path, footage, cache, mini):
    """Also where a model's pixels are not followed to their origins, and the run's are."""
    quiet = {**CASCADE, "steps": 1, "learning_rate": 1e-12, "muon_learning_rate": 1e-12}
    geometry = ModelFile.open(mini).config
    recipe = write_recipe(quiet, start=str(mini), restart=["generator"], model={**geometry, "origins": 1})
    run(recipe, tmp_path / "run", footage, cache)
    found = read_checkpoint(tmp_path / "run")
    assert found.config["origins"] == 1
    without = write_recipe(quiet, start=str(mini), model=geometry)
    with pytest.raises(ModelError, match=r"another geometry \(origins 1 instead of 0"):
        run(without, tmp_path / "run", footage, cache, resume=True)
    given = read_weights(mini).part("ema.")
    for part in ("model.", "ema."):
        taken = found.part(part)
        torch.testing.assert_close(taken["codec.mean0.weight"], given["codec.mean0.weight"])
        assert given["generator.out.weight"].any()
        assert not taken["generator.out.weight"].abs().max() > 1e-6  # new ones are zero


def test_an_ablation_does_without_its_parts(write_recipe, tmp_path, footage, cache, mini):
    recipe = write_recipe(
        {**CASCADE, "steps": 2},
        start=str(mini),
        drop=["csg", "tcg", "motion"],
        evaluate={"clips": ["clips/a.mkv"], "frames": 3, "qualities": [30]},
    )
    run(recipe, tmp_path / "run", footage, cache)
    found = read_checkpoint(tmp_path / "run")
    silent = ["generator.attention.out.weight", *(f"generator.guidance.{n}.out.weight" for n in range(3))]
    for part in ("model.", "ema."):
        assert not any(found.tensors[part + name].any() for name in silent)
    assert found.tensors["ema.generator.out.weight"].any()
    assert [entry["frames"] for entry in log_of(tmp_path / "run") if entry.get("event") == "evaluation"] == [
        3
    ]
