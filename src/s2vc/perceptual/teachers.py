"""Semantic teachers: networks whose features CSG tokens are taught to tell (paper §3.2).

Two are ours to load from plain safetensors: ``efficientnet_lite0`` and ``dinov2_small``. Every other name is
an id or a folder of transformers (extra ``train``), such as ``facebook/dinov3-vits16-pretrain-lvd1689m`` or
``facebook/dinov2-small``: its files come from Hugging Face's cache, or are downloaded into it where that is
allowed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2vc.errors import ModelError
from s2vc.perceptual.backbones import IMAGENET_MEAN, IMAGENET_STD
from s2vc.perceptual.dinov2 import PATCH, DinoV2Small
from s2vc.perceptual.efficientnet import EfficientNetLite0

BLOCK = {"efficientnet_lite0": 10, "dinov2_small": 7}  # whose output is taught
NAMES = tuple(BLOCK)


class Teacher(nn.Module):
    """Frozen features of pictures: ``width`` channels, a map as fine as the network's own."""

    width: int

    def forward(self, pictures: Tensor) -> Tensor:
        """Float RGB (N, 3, H, W) in [0, 1], any sides of 32 pixels and more -> (N, width, h, w)."""
        raise NotImplementedError


class _EfficientNet(Teacher):
    """Block 10: 112 channels at 1/16; 5 kMAC a pixel."""

    width = 112

    def __init__(self, weights_dir: str | Path | None) -> None:
        super().__init__()
        self.network = EfficientNetLite0(weights_dir, blocks=(BLOCK["efficientnet_lite0"],))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.network(pictures)[-1]


class _DinoV2(Teacher):
    """The eighth block: 384 channels at 1/14; 72 kMAC a pixel."""

    width = 384

    def __init__(self, weights_dir: str | Path | None) -> None:
        super().__init__()
        self.network = DinoV2Small(weights_dir, blocks=(BLOCK["dinov2_small"],))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.network.normalised(self.network(_fitted(pictures, PATCH))[-1])


class TransformersTeacher(Teacher):
    """A vision transformer of transformers: its patch tokens, without class and register tokens."""

    def __init__(self, network: Any) -> None:
        """``network``: a DINOv2 or DINOv3 model, as ``AutoModel.from_pretrained`` gives it."""
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        config = network.config
        self.width, self.patch = int(config.hidden_size), int(config.patch_size)
        self.extra = 1 + int(getattr(config, "num_register_tokens", 0) or 0)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        fitted = _fitted(pictures, self.patch)
        rows, columns = (side // self.patch for side in fitted.shape[2:])
        normalised = (fitted - self.get_buffer("mean")) / self.get_buffer("std")
        tokens = self.network(pixel_values=normalised).last_hidden_state[:, self.extra :]
        return tokens.transpose(1, 2).unflatten(2, (rows, columns))


def _fitted(pictures: Tensor, patch: int) -> Tensor:
    """Resized so that both sides are multiples of a patch: features keep their places."""
    size = [max(patch, round(side / patch) * patch) for side in pictures.shape[2:]]
    if size == list(pictures.shape[2:]):
        return pictures
    return F.interpolate(pictures, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def load_teacher(name: str, weights_dir: str | Path | None = None) -> Teacher:
    """A teacher by name, by an id of transformers, or by a folder that transformers can read.

    ``weights_dir``: where the two of our own are looked for (``find_weights``). Raises ModelError that says
    how to come by what is missing.
    """
    if name == "efficientnet_lite0":
        return _EfficientNet(weights_dir).requires_grad_(False).eval()
    if name == "dinov2_small":
        return _DinoV2(weights_dir).requires_grad_(False).eval()
    if "/" not in name:
        raise ModelError(
            f"there is no teacher {name}: one of {', '.join(NAMES)}, or an id such as facebook/dinov2-small"
        )
    return TransformersTeacher(_pretrained(name))


def _pretrained(name: str) -> Any:
    from transformers import AutoModel

    try:
        return AutoModel.from_pretrained(name)
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        if "gated" in text or "401" in text or "403" in text:
            raise ModelError(
                f"teacher {name} is gated: accept its terms at https://huggingface.co/{name}, "
                "then log in with 'hf auth login'"
            ) from None
        raise ModelError(
            f"teacher {name} is not in the cache and cannot be fetched ({text[:120]}): "
            "check the id, or copy its folder here and name that"
        ) from None
