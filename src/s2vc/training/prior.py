"""The generator as a diffusion model of pictures, and what it is good for later (TRAINING §2; DESIGN §5).

In the ``prior`` stage a noised picture stands in the reference picture's place and the feature is zero; the
network says the picture (x0-prediction). It is not told the noise's σ: it sees it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.generator import TinyGenerator
from s2vc.training.recipe import Stage

SPREAD = 64.0  # of pictures about their mean, in levels (σ_data of Karras et al. 2022)


def noise_levels(stage: Stage, uniform: Tensor) -> Tensor:
    """σ (B,) in levels from numbers in [0, 1): even in the logarithm between the stage's ends."""
    return stage.noise_low * torch.exp(uniform * math.log(stage.noise_high / stage.noise_low))


def denoise(generator: TinyGenerator, noisy: Tensor) -> Tensor:
    """Pictures (N, 3, h, w) in levels from noised ones, as a frame without a past and without a feature."""
    count, _, height, width = noisy.shape
    device = noisy.device
    feature = torch.zeros(count, 1, generator.config.width8, height // 8, width // 8, device=device)
    intra = torch.ones(count, 1, dtype=torch.bool, device=device)
    levels = generator.empty_levels(count, height, width, device)
    x0, _ = generator(feature, noisy[:, None], intra, levels)
    return x0[:, 0]


def denoising_loss(generator: TinyGenerator, pictures: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Squared error of x0 with the weights of Karras et al. (2022), a mean over the batch.

    pictures: levels (B, 3, h, w); sigma (B,); noise: standard normal, as pictures.
    """
    level = sigma[:, None, None, None]
    error = (denoise(generator, pictures + level * noise) - pictures).square().mean((1, 2, 3))
    return ((sigma**2 + SPREAD**2) / (sigma * SPREAD) ** 2 * error).mean()


def frozen_copy(config: TinyConfig, weights: dict[str, Tensor], device: torch.device) -> TinyGenerator:
    """A generator with these weights that learns nothing: the real score of DMD."""
    generator = TinyGenerator(config)
    generator.load_state_dict(weights)
    return generator.to(device, memory_format=torch.channels_last).requires_grad_(False).eval()  # type: ignore[call-overload]


def prior_weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
