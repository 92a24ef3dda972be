"""The ``adaptation`` stage: codes of films, learnt with the basis that they share."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from s2vc.entropy.tables import default_scales
from s2vc.errors import InputError
from s2vc.models.files import ModelFile
from s2vc.training.adaptation_stage import BASIS, INDEX, SCALE, AdaptationStage
from s2vc.training.checkpoint import CHECKPOINT, read_checkpoint, read_weights
from s2vc.training.export import export
from s2vc.training.loop import train
from s2vc.training.recipe import load_recipe

STAGE = {"kind": "adaptation", "steps": 6, "frames": 2, "longest": 8, "losses": {"flicker": 0.3}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, footage, cache):
    """A run of six steps behind ``mini``, its figures, and the model that it began from."""
    folder = tmp_path_factory.mktemp("adaptation")

    def start(write_recipe, mini, name="run", **how) -> tuple[Path, list[dict]]:
        widths = ModelFile.open(mini).config
        recipe = write_recipe(STAGE, model={**widths, "codes": 4}, start=str(mini))
        seen: list[dict] = []
        out = folder / name
        train(recipe, out, data=footage, cache=cache, watch=lambda _, f: seen.append(f), **how)
        return out, seen

    return start


def test_only_the_basis_moves_and_a_file_s_symbols_stay(trained, write_recipe, mini, tmp_path):
    out, _ = trained(write_recipe, mini)
    codes = read_checkpoint(out).part("aux.codes.")["weight"]
    assert codes.shape[1] == 4 and len(codes.unique(dim=0)) > 1
    before, after = read_weights(mini).part("ema."), read_checkpoint(out).part("ema.")
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert set(after) - set(before) == {BASIS, SCALE, INDEX}
    assert torch.equal(after[BASIS], after[BASIS].round()) and after[BASIS].abs().amax(1).eq(127).all()
    export(out, tmp_path / "adapted.safetensors")
    model, plain = ModelFile.open(tmp_path / "adapted.safetensors"), ModelFile.open(mini)
    arrays = model.tensors("")
    assert arrays[BASIS].dtype == np.int8 and arrays["entropy.codes.index"].dtype == np.uint8
    assert all(np.array_equal(value, arrays[name]) for name, value in plain.tensors("").items())
    # and it can be gone on from
    again = read_weights(tmp_path / "adapted.safetensors").part("ema.")
    assert all(torch.equal(again[name].half(), after[name].half()) for name in (BASIS, SCALE, INDEX))


def test_a_stopped_run_goes_on_exactly(trained, write_recipe, mini, monkeypatch):
    from s2vc.training import processes

    whole, _ = trained(write_recipe, mini, "whole")
    left = [3]

    def spent(self, flag):
        left[0] -= 1
        return left[0] < 0

    with monkeypatch.context() as patch:
        patch.setattr(processes.Processes, "any", spent)
        trained(write_recipe, mini, "pieces", budget_minutes=1e-9)
    assert read_checkpoint(whole.parent / "pieces").progress.steps < 6
    pieces, _ = trained(write_recipe, mini, "pieces", resume=True)
    first, second = read_checkpoint(whole / CHECKPOINT), read_checkpoint(pieces / CHECKPOINT)
    assert [k for k, v in first.tensors.items() if not torch.equal(v, second.tensors[k])] == []


def test_the_basis_is_turned_without_changing_what_codes_do():
    """Codes in whole units of the turned basis give what each passage had learnt, but for rounding."""
    random = torch.Generator().manual_seed(1)
    codes, basis = torch.randn(40, 6, generator=random), torch.randn(6, 30, generator=random)
    learnt = codes @ basis
    stage = AdaptationStage.__new__(AdaptationStage)

    stage.context = SimpleNamespace(auxiliary={"codes": torch.nn.Embedding(40, 6, _weight=codes)})
    ema = {BASIS: basis.clone(), SCALE: torch.ones(6), INDEX: torch.ones(6)}
    stage.finish(ema)
    unit = ema[SCALE][:, None] * ema[BASIS]
    found = torch.linalg.lstsq(unit.T, learnt.T).solution.T
    error = (found.round() @ unit - learnt).square().mean() / learnt.square().mean()
    assert error < 0.02
    spread = found.square().mean(0).sqrt()
    assert (spread.diff() < 0.1).all()  # the largest first
    told = torch.from_numpy(default_scales()[ema[INDEX].int().numpy() - 1]).float()
    assert torch.allclose(told, spread, rtol=0.06)


@pytest.mark.parametrize(
    ("stage", "keys", "says"),
    [
        (STAGE, {}, "needs codes under the recipe's model"),
        ({**STAGE, "train": ["generator"]}, {"codes": 4}, "an adaptation stage trains of adaptation"),
        (
            {**STAGE, "losses": {"semantic": 1.0}},
            {"codes": 4},
            "semantic has no place in an adaptation",
        ),
        ({**STAGE, "kind": "generator", "train": ["adaptation"]}, {"codes": 4}, "stage trains of"),
    ],
)
def test_what_has_no_place_is_refused(stage, keys, says, write_recipe, mini):
    with pytest.raises(InputError, match=says):
        load_recipe(write_recipe(stage, model=keys, start=str(mini)))
