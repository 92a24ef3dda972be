"""SPyNet (Ranjan and Black, CVPR 2017): optical flow from coarse to fine, for losses; never in reports."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2vc.errors import ModelError
from s2vc.perceptual.backbones import IMAGENET_MEAN, IMAGENET_STD
from s2vc.perceptual.weights import load_weights

WEIGHTS_NAME = "spynet_basicvsr_reds"
_LEVELS = 6
_WIDTHS = (8, 32, 64, 32, 16, 2)


def warp(pictures: Tensor, flow: Tensor) -> Tensor:
    """``pictures`` (N, C, H, W) read at each position plus ``flow`` (N, 2, H, W; pixels, x then y).

    Bilinear; positions outside take the nearest edge. Gradients flow to both.
    """
    height, width = pictures.shape[2:]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype).view(1, -1, 1)
    x = torch.arange(width, device=flow.device, dtype=flow.dtype).view(1, 1, -1)
    across = 2 * (x + flow[:, 0]) / max(width - 1, 1) - 1
    down = 2 * (y + flow[:, 1]) / max(height - 1, 1) - 1
    grid = torch.stack([across, down], -1).to(pictures.dtype)
    return functional.grid_sample(pictures, grid, padding_mode="border", align_corners=True)


class _Level(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(_WIDTHS):
            layers += [nn.Conv2d(inputs, outputs, 7, padding=3), nn.ReLU(inplace=True)]
        self.basic_module = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.basic_module(x)


class SPyNet(nn.Module):
    """Flow of pairs of pictures; the weights are BasicVSR's (REDS4), good to some 15 pixels of motion."""

    mean: Tensor
    std: Tensor

    def __init__(self, weights_dir: str | Path | None = None, *, pretrained: bool = True) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList(_Level() for _ in range(_LEVELS))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        if pretrained:
            try:
                self.load_state_dict(load_weights(WEIGHTS_NAME, weights_dir))
            except RuntimeError as error:
                raise ModelError(
                    f"{WEIGHTS_NAME}.safetensors does not fit SPyNet: use BasicVSR's (REDS4)"
                ) from error
        self.requires_grad_(False)
        self.eval()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Float RGB (N, 3, H, W) in [0, 1], twice -> flow (N, 2, H, W) in pixels, x then y.

        ``warp(second, flow)`` looks like ``first``. Sides are padded to multiples of 32 by their edges.
        """
        height, width = first.shape[2:]
        padding = (0, -width % 32, 0, -height % 32)
        pyramids = []
        for pictures in (first, second):
            level = functional.pad((pictures - self.mean) / self.std, padding, mode="replicate")
            pyramid = [level]
            for _ in range(_LEVELS - 1):
                level = functional.avg_pool2d(level, 2)
                pyramid.insert(0, level)
            pyramids.append(pyramid)
        coarsest = pyramids[0][0]
        flow = coarsest.new_zeros(coarsest.shape[0], 2, *coarsest.shape[2:])
        for number, (a, b) in enumerate(zip(*pyramids, strict=True)):
            if number:
                flow = 2 * functional.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            flow = flow + self.basic_module[number](torch.cat([a, warp(b, flow), flow], 1))
        return flow[:, :, :height, :width]
