"""Footage as the encoder left it."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from s2vc.errors import InputError
from s2vc.models.files import ModelFile
from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.model import TinyModel
from s2vc.training import coded as module
from s2vc.training.checkpoint import read_weights
from s2vc.training.coded import LOOK_BACK, CodedClip, CodedSampler, code_passages, code_pictures, coded_name
from s2vc.training.evaluate import code
from s2vc.training.footage import Clip


@pytest.fixture(scope="module")
def model(mini) -> TinyModel:
    found = read_weights(mini)
    model = TinyModel(TinyConfig(**found.config))
    model.load_state_dict(found.part("ema."))
    return model.eval()


@pytest.fixture(scope="module")
def library(scene) -> list[Clip]:
    return [Clip(name, np.stack(scene(count, 80, 64)), {}) for name, count in (("a", 14), ("b", 9))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("coded")


def coded_by(library, model, folder, share=(0, 1), wait=lambda: None, passages=1):
    processes = SimpleNamespace(share=share, wait=wait)
    found = code_passages(
        library,
        model,
        folder,
        code_pictures,
        name=coded_name(model),
        longest=12,
        passages=passages,
        seed=3,
        processes=processes,
    )
    return [CodedClip(**arrays) for arrays in found]


@torch.inference_mode()
def test_it_is_what_a_decoder_shows(library, model, folder, mini):
    clips = coded_by(library, model, folder)
    clips.sort(key=lambda clip: -len(clip.pictures))
    assert [len(clip.pictures) for clip in clips] == [12, 9]
    qualities = {path.name.split("-")[0]: int(path.name.split("-")[5]) for path in folder.iterdir()}
    for name, clip in zip("ab", clips, strict=True):
        assert clip.intra.tolist() == [True] + [False] * (len(clip.pictures) - 1)
        _, shown = code(ModelFile.open(mini), np.array(clip.pictures), qualities[name])
        x0, _ = model.generator(
            torch.from_numpy(np.array(clip.features)).float()[None],
            torch.from_numpy(np.array(clip.reference)).float()[None],
            torch.from_numpy(np.array(clip.intra))[None],
            model.generator.empty_levels(1, 64, 80),
        )
        mine = x0[0].round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
        assert np.abs(mine - shown).max() <= 1


def test_what_is_coded_is_augmented(library, mini, tmp_path, monkeypatch):
    for share in ("MIRROR_SHARE", "LIGHT_SHARE"):
        monkeypatch.setattr(f"s2vc.training.augment.{share}", 1.0)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    module._open(mini)
    frames = library[0].frames[:3]
    for number in (1, 2):
        module._code(code_pictures, frames, 3, 20, tmp_path / str(number), np.random.default_rng(number))
    one, other = (np.load(tmp_path / str(number) / "pictures.npy") for number in (1, 2))
    assert not np.array_equal(one, frames) and not np.array_equal(one, other)


def test_passages_of_a_clip_are_drawn_each_for_itself(library, model, folder):
    """The first ones are those of a stage that has one a clip."""
    clips = coded_by(library, model, folder, passages=3)
    assert len(clips) == 6
    for number, one in enumerate(coded_by(library, model, folder)):
        first, *others = clips[3 * number : 3 * number + 3]
        np.testing.assert_array_equal(first.features, one.features)
        for a, b in ((first, others[0]), (first, others[1]), others):
            assert not np.array_equal(a.features, b.features)


def test_it_is_coded_once_and_in_shares(library, model, tmp_path, monkeypatch):
    changed = TinyModel(model.config)
    changed.load_state_dict(model.state_dict())
    weight = next(changed.codec.parameters()).detach()
    weight[0] = 0

    def other():
        assert len(list(tmp_path.iterdir())) == 1
        coded_by(library, changed, tmp_path, share=(0, 2))

    assert len(coded_by(library, changed, tmp_path, share=(1, 2), wait=other)) == 2

    def never(*arguments, **more):
        raise AssertionError

    monkeypatch.setattr(module, "_code_all", never)
    coded_by(library, changed, tmp_path)
    # What the generator has learnt since does not matter, nor which zero it is.
    torch.nn.init.ones_(changed.generator.out.weight)
    weight[0] = -0.0
    coded_by(library, changed, tmp_path)
    weight[0] = 1
    with pytest.raises(AssertionError):
        coded_by(library, changed, tmp_path)


@torch.inference_mode()
def test_a_window_sees_the_past_that_matters(library, model, folder):
    """Pictures of a window are those of the whole clip, wherever it begins."""
    (clip,) = (clip for clip in coded_by(library, model, folder) if len(clip.pictures) == 9)
    sampler = CodedSampler([clip], slots=range(6), frames=2, crop=64, seed=1, stage=0)
    batch = sampler.next()
    starts = set()
    for slot in range(6):
        window = batch.pictures[slot].permute(0, 2, 3, 1).numpy()
        for left in (0, 16):
            found = [
                t
                for t in range(8)
                if np.array_equal(clip.pictures[t : t + 2, :, left : left + 64], window[-2:])
            ]
            if found:
                break
        (start,) = found
        starts.add(start)
        columns, columns8 = slice(left, left + 64), slice(left // 8, left // 8 + 8)
        whole, _ = model.generator(
            torch.from_numpy(np.array(clip.features[..., columns8])).float()[None],
            torch.from_numpy(np.array(clip.reference[..., columns])).float()[None],
            torch.from_numpy(np.array(clip.intra))[None],
            model.generator.empty_levels(1, 64, 64),
        )
        x0, _ = model.generator(
            batch.feature[slot : slot + 1],
            batch.reference[slot : slot + 1],
            torch.from_numpy(batch.intra[slot : slot + 1]),
            model.generator.empty_levels(1, 64, 64),
        )
        torch.testing.assert_close(x0[0, LOOK_BACK:], whole[0, start : start + 2], atol=0.01, rtol=0)
    assert len(starts) > 1


def test_a_restored_sampler_goes_on(library, model, folder):
    clips = coded_by(library, model, folder)
    first, second = (CodedSampler(clips, slots=[4, 7], frames=3, crop=48, seed=1, stage=0) for _ in range(2))
    first.next()
    second.restore(first.state())
    a, b = first.next(), second.next()
    assert torch.equal(a.feature, b.feature) and torch.equal(a.pictures, b.pictures)


def test_a_photograph_is_filmed_and_drawn_as_often_as_asked(library, model, folder, tmp_path, scene):
    photograph = tmp_path / "harbour.png"
    cv2.imwrite(str(photograph), scene(1, 300, 260)[0])
    clips = coded_by(library, model, folder)
    (still,) = coded_by([photograph], model, folder)
    assert still.pictures.shape == (12, 224, 224, 3) and still.intra.tolist() == [True] + [False] * 11
    assert len(np.unique(still.pictures[0].reshape(-1, 3), axis=0)) > 100
    (tmp_path / "other").mkdir()
    namesake = tmp_path / "other" / photograph.name
    cv2.imwrite(str(namesake), scene(2, 300, 260)[1])
    one, two = coded_by([photograph, namesake], model, folder)
    assert not np.array_equal(one.pictures, two.pictures)
    # The camera's frames come out of the same draws again.
    (again,) = coded_by([photograph], model, tmp_path / "again")
    np.testing.assert_array_equal(again.pictures, still.pictures)
    sampler = CodedSampler(
        clips, slots=[0], frames=2, crop=48, seed=1, stage=0, stills=[still], still_share=0.25
    )
    assert sampler.weights[-1] == 0.25 and sampler.weights.sum() == pytest.approx(1)
    alone = CodedSampler([], slots=[0], frames=2, crop=48, seed=1, stage=0, stills=[still], still_share=0.25)
    assert alone.weights.tolist() == [1]
    with pytest.raises(InputError, match="smaller crop"):
        CodedSampler([], slots=[0], frames=2, crop=240, seed=1, stage=0, stills=[still], still_share=0.25)
