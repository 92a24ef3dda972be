"""The I-frame codec (ARCHITECTURE §4): analysis, hyperprior with FSQ, four-pass y, synthesis.

Scales in brackets are parts of the padded picture: 1/8 of (H, W) is (H/8, W/8).
"""

from __future__ import annotations

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from s2vc.nn.base.blocks import DepthConvBlock, NormResBlock, SelfAttention, UpsampledResidual
from s2vc.nn.base.config import LATENT, IntraConfig
from s2vc.nn.base.prior import ScalarQuantiser

TIMESTEP = 999
PASSES = 4


class AnalysisUNet(nn.Module):
    """The analysis transform's U-Net: a diffusers UNet2DModel entered at 1/16 through three blocks.

    Its time is fixed; its middle block is the semantic map.
    """

    def __init__(self, config: IntraConfig) -> None:
        super().__init__()
        width = config.unet[0]
        self.entrance = nn.Sequential(
            NormResBlock(config.fused, width),
            NormResBlock(width),
            NormResBlock(width),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
        )
        self.unet = UNet2DModel(
            in_channels=width,
            out_channels=width,
            block_out_channels=config.unet,
            layers_per_block=2,
            down_block_types=("AttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=config.head,
        )
        # The entrance is this convolution's replacement.
        self.unet.conv_in = nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, fused, 1/8) -> (map (B, unet[0], 1/16), semantic map (B, unet[-1], 1/64))."""
        unet = self.unet
        time = unet.time_proj(torch.full((x.shape[0],), TIMESTEP, device=x.device))
        time = unet.time_embedding(time.to(x.dtype))
        x = self.entrance(x)
        skips = [x]
        for block in unet.down_blocks:
            x, states = block(hidden_states=x, temb=time)
            skips += states
        x = semantic = unet.mid_block(x, time)
        for block in unet.up_blocks:
            states = tuple(skips[-len(block.resnets) :])
            del skips[-len(block.resnets) :]
            x = block(x, states, time)
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(x))), semantic


class Analysis(nn.Module):
    """Picture and its autoencoder latent -> y and the semantic map."""

    def __init__(self, config: IntraConfig) -> None:
        super().__init__()
        width = config.unet[0]
        self.embedding = nn.Conv2d(3, config.embedding, 8, stride=8)
        self.fusion = nn.Conv2d(config.embedding + LATENT, config.fused, 1)
        self.unet = AnalysisUNet(config)
        self.transform = nn.Sequential(
            NormResBlock(width),
            SelfAttention(width),
            NormResBlock(width),
            DepthConvBlock(width),
            DepthConvBlock(width, config.latent),
        )

    def forward(self, picture: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        fused = self.fusion(torch.cat([self.embedding(picture), latent], dim=1))
        inner, semantic = self.unet(fused)
        return self.transform(inner), semantic


class HyperAnalysis(nn.Module):
    """y and the semantic map -> z before its quantiser."""

    def __init__(self, config: IntraConfig) -> None:
        super().__init__()
        latent, (first, second) = config.latent, config.hyper
        self.reduce = nn.Sequential(
            DepthConvBlock(latent),
            nn.Conv2d(latent, latent, 3, stride=2, padding=1),
            DepthConvBlock(latent),
            nn.Conv2d(latent, latent, 3, stride=2, padding=1),
        )
        self.fusion = nn.Sequential(
            DepthConvBlock(latent + config.unet[-1], first),
            SelfAttention(first),
            DepthConvBlock(first, second),
            SelfAttention(second),
            DepthConvBlock(second),
            nn.Conv2d(second, len(config.levels), 1),
        )

    def forward(self, y: Tensor, semantic: Tensor) -> Tensor:
        return self.fusion(torch.cat([self.reduce(y), semantic], dim=1))


class HyperSynthesis(nn.Module):
    """Codes of z -> what both the prior of y and the CSG tokens start from."""

    def __init__(self, config: IntraConfig) -> None:
        super().__init__()
        latent = config.latent
        self.entrance = nn.Conv2d(len(config.levels), latent, 1)
        self.prior = nn.Sequential(
            DepthConvBlock(latent),
            UpsampledResidual(latent, latent),
            DepthConvBlock(latent),
            UpsampledResidual(latent, latent),
            DepthConvBlock(latent),
        )

    def forward(self, codes: Tensor) -> Tensor:
        """(B, D, 1/64) -> (B, latent, 1/64)."""
        return F.leaky_relu(self.entrance(codes), 0.01)


class Synthesis(nn.Module):
    """y and CSG tokens -> the generator's input."""

    def __init__(self, config: IntraConfig) -> None:
        super().__init__()
        wide, narrow = config.internal, config.internal // 2
        self.entrance = nn.Sequential(DepthConvBlock(config.latent, wide), DepthConvBlock(wide))
        self.body = nn.Sequential(
            NormResBlock(wide),
            NormResBlock(wide),
            NormResBlock(wide),
            nn.Conv2d(wide, 4 * wide, 1),
            nn.PixelShuffle(2),
            nn.Conv2d(wide, narrow, 3, padding=1),
            NormResBlock(narrow),
            NormResBlock(narrow),
            NormResBlock(narrow),
        )
        self.tokens = nn.Sequential(
            UpsampledResidual(config.token, wide),
            DepthConvBlock(wide),
            UpsampledResidual(wide, narrow),
            DepthConvBlock(narrow),
            UpsampledResidual(narrow, narrow),
        )
        self.exit = DepthConvBlock(2 * narrow, config.output)

    def forward(self, y: Tensor, tokens: Tensor) -> Tensor:
        decoded = self.body(self.entrance(y))
        return self.exit(torch.cat([decoded, self.tokens(tokens)], dim=1))


class IntraCodec(nn.Module):
    """Everything an I frame needs between its picture and the generator.

    Order of use: ``analysis``, ``hyper_analysis``, ``quantiser``; then on both sides ``hyper_synthesis``,
    ``first_parameters``, ``next_parameters`` pass by pass, ``tokens``, ``synthesis``.
    """

    def __init__(self, config: IntraConfig) -> None:
        super().__init__()
        latent, token = config.latent, config.token
        self.config = config
        self.quantiser = ScalarQuantiser(config.levels)
        self.analysis = Analysis(config)
        self.hyper_analysis = HyperAnalysis(config)
        self.hyper_synthesis = HyperSynthesis(config)
        self.prior = nn.Sequential(DepthConvBlock(latent, 2 * latent), DepthConvBlock(2 * latent))
        self.common = nn.Conv2d(2 * latent, latent, 1)
        self.pass_adaptors = nn.ModuleList([DepthConvBlock(2 * latent) for _ in range(1, PASSES)])
        self.spatial_prior = nn.Sequential(*[DepthConvBlock(2 * latent) for _ in range(3)])
        self.tokens = nn.Sequential(
            DepthConvBlock(latent, token),
            NormResBlock(token),
            SelfAttention(token),
            SelfAttention(token),
            NormResBlock(token),
            SelfAttention(token),
            SelfAttention(token),
            DepthConvBlock(token),
        )
        self.synthesis = Synthesis(config)

    def first_parameters(self, hyper: Tensor) -> tuple[Tensor, Tensor]:
        """From the hyper synthesis (B, latent, 1/64): what pass 0 reads, and what later passes share.

        Returns (scales and means (B, 2·latent, 1/16), common (B, latent, 1/16)).
        """
        parameters = self.prior(self.hyper_synthesis.prior(hyper))
        return parameters, self.common(parameters)

    def next_parameters(self, number: int, decoded: Tensor, common: Tensor) -> Tensor:
        """Scales and means (B, 2·latent, 1/16) of pass ``number`` (1 to 3) given y of the passes before."""
        return self.spatial_prior(self.pass_adaptors[number - 1](torch.cat([decoded, common], dim=1)))
