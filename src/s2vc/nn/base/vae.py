"""The autoencoder (ARCHITECTURE §8): Stable Diffusion's, its middle attention in windows."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DecoderTiny
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D
from torch import Tensor, nn

from s2vc.nn.base.config import LATENT, VaeConfig


def attend_in_windows(attention: nn.Module, x: Tensor, window: int) -> Tensor:
    """``attention`` on windows of ``window`` x ``window`` positions of (B, C, H, W), each for itself.

    Windows at the right and bottom edges are what is left. Norms inside ``attention`` see one window.
    """

    def attend(region: Tensor) -> Tensor:
        batch, channels, height, width = region.shape
        rows, columns = min(window, height), min(window, width)
        down, across = height // rows, width // columns
        tiles = region.reshape(batch, channels, down, rows, across, columns).permute(0, 2, 4, 1, 3, 5)
        tiles = attention(tiles.reshape(-1, channels, rows, columns).contiguous())
        tiles = tiles.reshape(batch, down, across, channels, rows, columns).permute(0, 3, 1, 4, 2, 5)
        return tiles.reshape(region.shape)

    def whole_and_rest(size: int) -> list[int]:
        return [part for part in (size - size % window, size % window) if part]

    strips = x.split(whole_and_rest(x.shape[2]), dim=2)
    return torch.cat(
        [
            torch.cat([attend(r) for r in strip.split(whole_and_rest(x.shape[3]), dim=3)], dim=3)
            for strip in strips
        ],
        dim=2,
    )


class Vae(nn.Module):
    """Pictures in [-1, 1] (B, 3, H, W) <-> scaled latents (B, 4, H/8, W/8); H and W multiples of 8."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        depth = len(config.widths)
        self.autoencoder = AutoencoderKL(
            block_out_channels=config.widths,
            down_block_types=("DownEncoderBlock2D",) * depth,
            up_block_types=("UpDecoderBlock2D",) * depth,
            layers_per_block=2,
            latent_channels=LATENT,
        )

    def _middle(self, block: UNetMidBlock2D, x: Tensor) -> Tensor:
        first, second = block.resnets
        x = attend_in_windows(block.attentions[0], first(x, None), self.config.window)
        return second(x, None)

    def moments(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, each (B, 4, H/8, W/8), not scaled."""
        encoder = self.autoencoder.encoder
        x = encoder.conv_in(picture)
        for block in encoder.down_blocks:
            x = block(x)
        x = encoder.conv_norm_out(self._middle(encoder.mid_block, x))
        mean, log_variance = self.autoencoder.quant_conv(encoder.conv_out(encoder.conv_act(x))).chunk(
            2, dim=1
        )
        return mean, log_variance

    def encode(self, picture: Tensor, noise: Tensor | None = None) -> Tensor:
        """The scaled latent of a picture: the posterior's mode, or with standard normal ``noise`` a sample.

        The published encoder samples, which makes its bits a matter of chance; ours takes the mode.
        """
        mean, log_variance = self.moments(picture)
        if noise is not None:
            mean = mean + torch.exp(0.5 * log_variance.clamp(-30, 20)) * noise
        return mean * self.config.scale

    def decode(self, latent: Tensor) -> Tensor:
        """Pictures, float32 and not clamped, of scaled latents."""
        decoder = self.autoencoder.decoder
        latent = (latent / self.config.scale).to(self.autoencoder.dtype)
        x = decoder.conv_in(self.autoencoder.post_quant_conv(latent))
        x = self._middle(decoder.mid_block, x)
        for block in decoder.up_blocks:
            x = block(x)
        return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x))).float()


class LightDecoder(nn.Module):
    """In the place of ``Vae.decode``: the decoder of a tiny autoencoder for the same latents (TAESD)."""

    def __init__(self, decoder: DecoderTiny) -> None:
        super().__init__()
        self.decoder = decoder

    def decode(self, latent: Tensor) -> Tensor:
        """Pictures, float32 and not clamped, of scaled latents."""
        dtype = next(self.decoder.parameters()).dtype
        return self.decoder(latent.to(dtype)).float()
