"""The P-frame codec (ARCHITECTURE §5): conditional coding on a feature buffer, two-pass y in steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2vc.nn.base.blocks import (
    ConvFFN,
    DepthConvBlock,
    ResBlock,
    SelfAttention,
    StridedResidual,
    UpsampledResidual,
    WideDepthConvBlock,
)
from s2vc.nn.base.config import LATENT, InterConfig
from s2vc.nn.base.prior import FactorisedPrior

LIMIT = 128
"""Symbols of y and z are held to [-LIMIT, LIMIT - 1]."""
SMALLEST_STEP = 0.5


def _trunk(width: int) -> nn.Sequential:
    """Six blocks from twice the feature width to the feature width: the body of encoder and decoder."""
    middle = 3 * width // 2
    return nn.Sequential(
        WideDepthConvBlock(2 * width, middle),
        WideDepthConvBlock(middle),
        WideDepthConvBlock(middle),
        WideDepthConvBlock(middle, width),
        WideDepthConvBlock(width),
        WideDepthConvBlock(width),
    )


def _context(width: int) -> nn.Sequential:
    return nn.Sequential(*[WideDepthConvBlock(width) for _ in range(3)])


class Analysis(nn.Module):
    """Embedded picture and context -> y."""

    def __init__(self, config: InterConfig) -> None:
        super().__init__()
        width = config.feature
        self.trunk = _trunk(width)
        self.exit = nn.Sequential(
            StridedResidual(width, width), ResBlock(width), nn.Conv2d(width, config.latent, 1)
        )

    def forward(self, embedded: Tensor, context: Tensor) -> Tensor:
        return self.exit(self.trunk(torch.cat([embedded, context], dim=1)))


class Synthesis(nn.Module):
    """y and context -> the frame's feature, which is also the next feature buffer."""

    def __init__(self, config: InterConfig) -> None:
        super().__init__()
        width = config.feature
        self.entrance = nn.Sequential(
            nn.Conv2d(config.latent, width, 1), ResBlock(width), UpsampledResidual(width, width)
        )
        self.trunk = _trunk(width)

    def forward(self, y: Tensor, context: Tensor) -> Tensor:
        return self.trunk(torch.cat([self.entrance(y), context], dim=1))


class TokenHead(nn.Module):
    """A frame's feature (1/8) -> its CSG tokens as a map (1/64)."""

    def __init__(self, config: InterConfig) -> None:
        super().__init__()
        middle, token = 3 * config.feature // 2, config.token
        self.reduce = nn.Sequential(
            StridedResidual(config.feature, middle), StridedResidual(middle, middle), ResBlock(middle)
        )
        self.attend = nn.Sequential(
            nn.Conv2d(middle, token, 2, stride=2),
            SelfAttention(token),
            ConvFFN(token),
            SelfAttention(token),
            ConvFFN(token),
        )

    def forward(self, feature: Tensor) -> Tensor:
        return self.attend(self.reduce(feature))


class InterCodec(nn.Module):
    """Everything a P frame needs between its picture and the generator.

    The buffer's entry is a feature (B, feature, 1/8), or at a reset the previous frame's x0 (B, 4, 1/8).
    """

    def __init__(self, config: InterConfig) -> None:
        super().__init__()
        width, latent, hyper = config.feature, config.latent, config.hyper
        self.config = config
        self.embedding = nn.Conv2d(3, width, 8, stride=8)
        self.feature_adaptor = ResBlock(width)
        self.reset_adaptor = ResBlock(LATENT, width)
        self.context = _context(width)
        self.prior_context = _context(width)
        self.analysis = Analysis(config)
        self.hyper_prior = FactorisedPrior(hyper)
        self.hyper_analysis = nn.Sequential(
            DepthConvBlock(latent),
            DepthConvBlock(latent),
            StridedResidual(latent, latent),
            StridedResidual(latent, latent),
            nn.Conv2d(latent, hyper, 1),
        )
        self.hyper_synthesis = nn.Sequential(
            nn.Conv2d(hyper, latent, 1),
            UpsampledResidual(latent, latent),
            UpsampledResidual(latent, latent),
            DepthConvBlock(latent),
            DepthConvBlock(latent),
        )
        self.temporal_prior = nn.Sequential(StridedResidual(width, 2 * latent), DepthConvBlock(2 * latent))
        self.prior = nn.Sequential(*[DepthConvBlock(3 * latent) for _ in range(3)])
        self.spatial_prior = nn.Sequential(
            DepthConvBlock(4 * latent, 3 * latent),
            DepthConvBlock(3 * latent),
            DepthConvBlock(3 * latent, 2 * latent),
        )
        self.synthesis = Synthesis(config)
        self.pixel_head = nn.Sequential(ResBlock(width), ResBlock(width), ResBlock(width, config.output))
        self.token_head = TokenHead(config)

    def contexts(self, buffered: Tensor, reset: bool) -> tuple[Tensor, Tensor]:
        """Contexts (B, feature, 1/8) of the two transforms and of the prior."""
        adapted = self.reset_adaptor(buffered) if reset else self.feature_adaptor(buffered)
        context = self.context(adapted)
        return context, self.prior_context(context)

    def first_parameters(self, z: Tensor, prior_context: Tensor) -> Tensor:
        """Step sizes, scales and means of pass 0 (B, 3·latent, 1/16), from z's symbols (B, hyper, 1/64)."""
        return self.prior(torch.cat([self.hyper_synthesis(z), self.temporal_prior(prior_context)], dim=1))

    def steps(self, parameters: Tensor) -> Tensor:
        """Step sizes of y (B, latent, 1/16), at least 0.5."""
        return parameters[:, : self.config.latent].clamp(min=SMALLEST_STEP)

    def next_parameters(self, decoded: Tensor, parameters: Tensor) -> Tensor:
        """Scales and means of pass 1 (B, 2·latent, 1/16) given pass 0's y, still divided by its steps."""
        return self.spatial_prior(torch.cat([decoded, parameters], dim=1))
