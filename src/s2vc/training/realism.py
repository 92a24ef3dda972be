"""Realism: a patch discriminator, and distribution matching against the prior (DMD2, Yin et al. 2024).

Both look at single shown pictures. Each has a network of its own that learns beside the codec: the
discriminator, and the *fake score*, a denoiser of what the codec shows now. The *real score* is the prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from s2vc.nn.tiny.generator import TinyGenerator
from s2vc.training.prior import denoise, denoising_loss

CRITIC_RATE = 2e-4  # of both critics, AdamW
BASELINE_STEPS = 100  # whose PSNR later steps are held against
GUARD_DECAY = 0.99


class Discriminator(nn.Module):
    """Real or shown, patch by patch: pictures (N, 3, h, w) in [0, 1] -> (N, 1, h/8, w/8). 3 kMAC a pixel."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        layers = [
            nn.Conv2d(12, width, 3, stride=2, padding=1),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.Conv2d(2 * width, 1, 1),
        ]
        self.layers = nn.ModuleList([spectral_norm(layer) for layer in layers])

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.pixel_unshuffle(2 * pictures - 1, 2)
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), 0.2)
        return self.layers[-1](x).float()


def adversarial_loss(discriminator: Discriminator, shown: Tensor) -> Tensor:
    """The generator's side of the hinge loss."""
    return -discriminator(shown).mean()


def discriminator_loss(discriminator: Discriminator, shown: Tensor, real: Tensor) -> Tensor:
    """The discriminator's side; ``shown`` gets no gradient."""
    return F.relu(1 - discriminator(real)).mean() + F.relu(1 + discriminator(shown.detach())).mean()


def distribution_loss(
    real: TinyGenerator, fake: TinyGenerator, shown: Tensor, sigma: Tensor, noise: Tensor
) -> Tensor:
    """Moves shown pictures where the real score sees more of them and the fake score fewer.

    shown: (N, 3, h, w) in [0, 1]; sigma (N,) in levels; noise: standard normal.
    """
    with torch.no_grad():
        noisy = 255 * shown + sigma[:, None, None, None] * noise
        x0_real, x0_fake = (denoise(network, noisy) / 255 for network in (real, fake))
    return matching_loss(shown, x0_real, x0_fake)


def matching_loss(shown: Tensor, x0_real: Tensor, x0_fake: Tensor) -> Tensor:
    """Of what two scores made of the same noise about ``shown``, all (N, C, h, w).

    Its gradient is (x0_fake − x0_real) / mean |x − x0_real| for each picture, by the number of values.
    """
    with torch.no_grad():
        size = (shown - x0_real).abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-3)
        target = shown - (x0_fake - x0_real) / size
    return 0.5 * (shown - target).square().mean()


def fake_score_loss(fake: TinyGenerator, shown: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """The fake score learns to denoise what is shown now."""
    return denoising_loss(fake, 255 * shown.detach(), sigma, noise)


@dataclass
class Guard:
    """Switches realism off where it costs too much PSNR (TRAINING §6); part of the checkpoint."""

    steps: int = 0
    baseline: float = 0.0
    average: float = 0.0
    off: bool = False

    def see(self, psnr: float, floor: float) -> bool:
        """Take a step's PSNR; True at the step that switches realism off."""
        self.steps += 1
        if self.steps <= BASELINE_STEPS:
            self.baseline += (psnr - self.baseline) / self.steps
            self.average = self.baseline
            return False
        self.average = GUARD_DECAY * self.average + (1 - GUARD_DECAY) * psnr
        if self.off or self.average >= self.baseline - floor:
            return False
        self.off = True
        return True
