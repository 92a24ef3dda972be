"""Semantic teachers: ours from safetensors, and transformers' from a folder of the same format."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from s2vc.errors import ModelError
from s2vc.perceptual.teachers import load_teacher

PICTURE = torch.rand(1, 3, 50, 70, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "size"), [("efficientnet_lite0", (4, 5)), ("dinov2_small", (4, 5))])
def test_teachers_of_our_own(weights_dir, name, size):
    teacher = load_teacher(name, weights_dir)
    assert teacher(PICTURE).shape == (1, teacher.width, *size)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["Dinov2", "DINOv3ViT"])
def test_a_folder_of_transformers(tmp_path, family):
    transformers = pytest.importorskip("transformers", reason="the extra train is not installed")
    patch = {"Dinov2": 14, "DINOv3ViT": 16}[family]
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": patch}
    extra = {} if family == "Dinov2" else {"intermediate_size": 32, "num_register_tokens": 4}
    torch.manual_seed(0)
    network = getattr(transformers, f"{family}Model")(
        getattr(transformers, f"{family}Config")(image_size=4 * patch, **small, **extra)
    )
    network.save_pretrained(tmp_path / "teacher")
    teacher = load_teacher(str(tmp_path / "teacher"))
    features = teacher(PICTURE)
    assert features.shape == (1, 16, round(50 / patch), round(70 / patch))
    assert not any(p.requires_grad for p in teacher.parameters())
    # What is behind the class and register tokens is a map: what stands left shows left.
    changed = PICTURE.clone()
    changed[..., :patch] = 0
    difference = (teacher(changed) - features).abs().sum((0, 1, 2))
    assert difference[0] == difference.max()


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("You are trying to access a gated repo. 401 Client Error", "is gated: accept its terms at"),
        ("We couldn't connect to 'https://huggingface.co'", "is not in the cache and cannot be fetched"),
    ],
)
def test_a_teacher_that_cannot_be_had(monkeypatch, raised, said):
    class AutoModel:
        @staticmethod
        def from_pretrained(name: str) -> None:
            raise OSError(raised)

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoModel=AutoModel))
    with pytest.raises(ModelError, match=said):
        load_teacher("facebook/dinov3-vits16-pretrain-lvd1689m")


def test_an_unknown_name():
    with pytest.raises(ModelError, match="there is no teacher resnet: one of efficientnet_lite0"):
        load_teacher("resnet")
