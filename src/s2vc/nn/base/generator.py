"""The one-step generator (ARCHITECTURE §6, §7): a Stable Diffusion U-Net, guided by CSG tokens and by TCG."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from s2vc.nn.base.blocks import Reduction, WideDepthConvBlock
from s2vc.nn.base.config import LATENT, GeneratorConfig

TIMESTEP, TIMESTEPS = 999, 1000
FUSED_LEVELS = 3


def alphas_cumprod() -> Tensor:
    """The scheduler's float32 table of 1000 entries: betas evenly spaced in their square roots."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float32) ** 2
    return torch.cumprod(1 - betas, dim=0)


def denoise(noisy: Tensor, noise: Tensor) -> Tensor:
    """x0 of x_T and the predicted noise at the last timestep, in float64 (ARCHITECTURE §6)."""
    kept = alphas_cumprod()[TIMESTEP].double().item()
    return (noisy.double() - (1 - kept) ** 0.5 * noise.double()) / kept**0.5


def guidance(block: nn.Module, context: Tensor) -> dict[str, Tensor]:
    """Only blocks with cross-attention take tokens."""
    return {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}


class TemporalFusion(nn.Module):
    """Temporal consistency guidance of one level: x + W0·fuse(x, previous frame's features)."""

    def __init__(self, width: int, motion: int) -> None:
        super().__init__()
        half = width // 2
        self.motion = motion
        self.reduce = WideDepthConvBlock(width, half)
        self.previous = nn.Sequential(
            WideDepthConvBlock(half + motion), WideDepthConvBlock(half + motion, half)
        )
        self.fuse = nn.Sequential(WideDepthConvBlock(width + half), WideDepthConvBlock(width + half, width))
        self.exit = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor, previous: Tensor) -> Tensor:
        """Both (B, width, H, W); ``previous`` is the level's output before fusion, one frame earlier."""
        reduced = self.reduce(previous)
        # Where a motion branch once fed; the layers mix these channels, so they cannot be left out.
        motion = reduced.new_zeros(reduced.shape[0], self.motion, *reduced.shape[2:])
        moved = self.previous(torch.cat([reduced, motion], dim=1))
        return x + self.exit(self.fuse(torch.cat([x, moved], dim=1)))


class Generator(nn.Module):
    """Decoded features and CSG tokens -> x0. Adapters are merged into the weights (``adapters.merge``).

    ``temporal``: with TCG, as P frames have it; I frames go without. U-Net and TCG may be of a shorter dtype
    than float32; ``reduction`` may not, for x0 has its errors 14.6 times over.
    """

    def __init__(self, config: GeneratorConfig, temporal: bool) -> None:
        super().__init__()
        self.config = config
        self.reduction = Reduction(config.input, LATENT)
        self.unet = UNet2DConditionModel(
            in_channels=config.input,
            out_channels=LATENT,
            block_out_channels=config.widths,
            cross_attention_dim=config.token,
            attention_head_dim=config.heads,
        )
        self.fusions = nn.ModuleList(
            [TemporalFusion(width, config.motion) for width in config.widths[:FUSED_LEVELS]]
            if temporal
            else []
        )

    def forward(
        self,
        features: Tensor,
        tokens: Tensor,
        previous: Sequence[Tensor] | None = None,
        films: int = 1,
    ) -> tuple[Tensor, list[Tensor]]:
        """x0 of T consecutive frames of some films in one batch, time by time.

        ``features``: float32 (T·films, input, h, w), h and w multiples of 8. ``tokens``: (T·films, token,
        h/8, w/8). ``previous``: what the call for the frames before returned, each (films, width, …). Without
        it the first three frames are not what they would be; frames after them are.
        Returns x0, float32 (T·films, 4, h, w), and the last frames' features for the next call.
        """
        time, context = self._conditions(tokens)
        levels = len(self.unet.down_blocks)
        x, skips, buffered = self._down(features, time, context, previous, levels, films)
        x = self.unet.mid_block(x, time, encoder_hidden_states=context)
        for block in self.unet.up_blocks:
            states = tuple(skips[-len(block.resnets) :])
            del skips[-len(block.resnets) :]
            x = block(x, states, temb=time, **guidance(block, context))
        noise = self.unet.conv_out(self.unet.conv_act(self.unet.conv_norm_out(x)))
        with torch.autocast(features.device.type, enabled=False):  # while training
            return denoise(self.reduction(features.float()), noise).float(), buffered

    def buffer(
        self, features: Tensor, tokens: Tensor, previous: Sequence[Tensor], levels: int
    ) -> list[Tensor]:
        """Features of the first ``levels`` levels only: all that an encoder needs two to four frames
        before a reset (ARCHITECTURE §10.2). ``previous`` needs one level less."""
        time, context = self._conditions(tokens)
        return self._down(features, time, context, previous, levels)[2]

    def _conditions(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        steps = torch.full((tokens.shape[0],), TIMESTEP, device=tokens.device)
        time = self.unet.time_embedding(self.unet.time_proj(steps).to(self.unet.dtype))
        return time, tokens.to(self.unet.dtype).flatten(2).transpose(1, 2)

    def _down(
        self,
        features: Tensor,
        time: Tensor,
        context: Tensor,
        previous: Sequence[Tensor] | None,
        levels: int,
        films: int = 1,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The first ``levels`` down blocks: (main path, skips, last frames' features before fusion)."""
        x = self.unet.conv_in(features.to(self.unet.dtype))
        skips, buffered = [x], []
        for level, block in enumerate(self.unet.down_blocks[:levels]):
            x, states = block(x, temb=time, **guidance(block, context))
            skips += states
            if level < FUSED_LEVELS:
                buffered.append(x[-films:])
                if self.fusions and level + 1 < levels:
                    first = previous[level] if previous else torch.zeros_like(x[:films])
                    x = self.fusions[level](x, torch.cat([first, x[:-films]]))
        return x, skips, buffered
