"""DISTS (Ding et al., TPAMI 2020): structure and texture similarity on VGG-16."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from s2vc.errors import ModelError
from s2vc.perceptual.backbones import VGG16Features
from s2vc.perceptual.comparison import by_place, hann_pool, moments
from s2vc.perceptual.weights import load_weights

WEIGHTS_NAME = "dists_alpha_beta"
_SMALL = 1e-6  # c1 = c2 of the paper


class DISTS(nn.Module):
    """Distance of two batches of pictures; 0 for equal ones.

    VGG-16 with Hann-weighted L2 pooling in place of max pooling; the picture itself is the first of six
    feature maps. Pictures are taken at their own size (the reference code's command line scales the short
    side to 256 first). Statistics are computed in float32 also under autocast.
    """

    channels = (3, *VGG16Features.tap_channels)
    alpha: Tensor
    beta: Tensor
    window: Tensor

    def __init__(self, weights_dir: str | Path | None = None, *, pretrained: bool = True) -> None:
        super().__init__()
        self.backbone = VGG16Features(weights_dir, pretrained=pretrained)
        hann = torch.tensor([0.5, 1.0, 0.5])
        self.register_buffer("window", (hann[:, None] * hann / hann.sum() ** 2)[None, None], persistent=False)
        count = sum(self.channels)
        stored = load_weights(WEIGHTS_NAME, weights_dir) if pretrained else {}
        for name in ("alpha", "beta"):
            weight = stored.get(name) if pretrained else 0.1 + 0.01 * torch.randn(1, count, 1, 1)
            if weight is None or weight.shape != (1, count, 1, 1):
                raise ModelError(
                    f"{WEIGHTS_NAME}.safetensors has no fitting {name}: use the weights of DISTS_pytorch"
                )
            self.register_buffer(name, weight)

    def _pool(self, x: Tensor) -> Tensor:
        return hann_pool(x, self.window)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """The picture and the five taps' activations; for a source that is compared more than once."""
        return [pictures, *self.backbone.run_stages(self.backbone.normalise(pictures), self._pool)]

    def distance(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """Distance (N,) of what ``features`` returned for two batches."""
        total = self.alpha.sum() + self.beta.sum()
        alphas = (self.alpha.view(-1) / total).split(self.channels)
        betas = (self.beta.view(-1) / total).split(self.channels)
        similarity = first[0].new_zeros(first[0].shape[0], dtype=torch.float32)
        for x, y, alpha, beta in zip(first, second, alphas, betas, strict=True):
            x_mean, y_mean, x_variance, y_variance, covariance = moments(by_place(x), by_place(y))
            texture = (2 * x_mean * y_mean + _SMALL) / (x_mean.square() + y_mean.square() + _SMALL)
            structure = (2 * covariance + _SMALL) / (x_variance + y_variance + _SMALL)
            similarity = similarity + (alpha * texture).sum(1) + (beta * structure).sum(1)
        return 1 - similarity

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Float RGB (N, 3, H, W) in [0, 1], twice -> distance of each pair, float32 (N,)."""
        return self.distance(self.features(x), self.features(y))
