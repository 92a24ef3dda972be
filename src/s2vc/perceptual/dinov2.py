"""DINOv2 ViT-S/14 (Oquab et al., TMLR 2024): the trunk's first eight blocks as a frozen teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2vc.errors import ModelError
from s2vc.perceptual.backbones import IMAGENET_MEAN, IMAGENET_STD
from s2vc.perceptual.weights import load_weights

WEIGHTS_NAME = "dinov2s14_saliency_blocks0-7"
PATCH = 14
WIDTH = 384
_HEADS = 6
_DEPTH = 8


class _LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((WIDTH,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(count, tokens, 3, _HEADS, WIDTH // _HEADS).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(count, tokens, WIDTH))


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = _Attention()
        self.ls1, self.ls2 = _LayerScale(), _LayerScale()
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, 4 * WIDTH), "fc2": nn.Linear(4 * WIDTH, WIDTH)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x)))))


class DinoV2Small(nn.Module):
    """Patch tokens behind chosen blocks, as feature maps of 384 channels at 1/14.

    The weights to be had are not the released ones but a fine-tuning for saliency, cut behind the eighth
    block; metrics on it are named after the network and say which file they used. Blocks are numbered 0 to 7
    as in the file (block 7 is the eighth). Maps are the residual stream itself; ``normalised`` is what to
    compare. About 72 kMAC a pixel for all eight.
    """

    cls_token: Tensor
    pos_embed: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        weights_dir: str | Path | None = None,
        *,
        blocks: Sequence[int] = (5, 7),
        pretrained: bool = True,
    ) -> None:
        """``blocks``: whose outputs are returned, ascending. ``pretrained=False``: random, for tests."""
        super().__init__()
        if not blocks or sorted(set(blocks)) != list(blocks) or not 0 <= blocks[0] <= blocks[-1] < _DEPTH:
            raise ValueError(f"the DINOv2 trunk has no blocks {blocks!r}: name some of 0 to 7, ascending")
        self.wanted = tuple(blocks)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, PATCH, PATCH)})
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 37 * 37 + 1, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(_Block() for _ in range(self.wanted[-1] + 1))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        if pretrained:
            stored = load_weights(WEIGHTS_NAME, weights_dir)
            try:
                self.load_state_dict({key: stored[key] for key in self.state_dict()})
            except (KeyError, RuntimeError) as error:
                raise ModelError(
                    f"{WEIGHTS_NAME}.safetensors does not fit the DINOv2 ViT-S/14 trunk: fetch the file again"
                ) from error
        self.requires_grad_(False)
        self.eval()

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Position embeddings of the patches, (1, rows · columns, WIDTH), from those of 37 × 37."""
        grid = self.pos_embed[:, 1:]
        if (rows, columns) == (37, 37):
            return grid
        grid = grid.reshape(1, 37, 37, WIDTH).permute(0, 3, 1, 2)
        return functional.interpolate(grid, (rows, columns), mode="bicubic").flatten(2).transpose(1, 2)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Float RGB (N, 3, H, W) in [0, 1], sides multiples of 14 -> maps (N, 384, H/14, W/14).

        One map a chosen block, the shallowest first. Raises ValueError for other sides.
        """
        if pictures.shape[2] % PATCH or pictures.shape[3] % PATCH:
            raise ValueError(f"sides of {tuple(pictures.shape)} are no multiples of {PATCH}")
        x = self.patch_embed["proj"]((pictures - self.mean) / self.std)
        rows, columns = x.shape[2:]
        x = x.flatten(2).transpose(1, 2) + self._positions(rows, columns)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], 1, WIDTH)
        x = torch.cat([first.to(x.dtype), x], 1)
        outputs = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.wanted:
                outputs.append(x[:, 1:].transpose(1, 2).unflatten(2, (rows, columns)))
        return outputs

    @staticmethod
    def normalised(features: Tensor) -> Tensor:
        """Maps (N, 384, h, w) with each position's channels at mean 0 and variance 1."""
        return functional.layer_norm(features.movedim(1, -1), (WIDTH,)).movedim(-1, 1)
