"""``tiny``'s one-step generator: a small U-Net with CSG tokens and TCG (DESIGN §5; paper §3.2, §3.3).

It sees the decoder's feature and the reference picture and predicts x0 = reference + correction in one step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from s2vc.nn.blocks import (
    CrossAttention,
    Downsample,
    PointwiseBlock,
    ResBlock,
    Upsample,
    activation,
    patch,
    unpatch,
)
from s2vc.nn.tiny.codec import PICTURE_SCALE, scaled
from s2vc.nn.tiny.config import TinyConfig

Levels = tuple[Tensor, Tensor, Tensor]
Body = tuple[Tensor, Tensor]


class TemporalGuidance(nn.Module):
    """TCG: x + W0 · f(x, the previous frame's x at this level), W0 zero at the start (ARCHITECTURE §7)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.join = nn.Conv2d(2 * width, width // 2, 1)
        self.conv = nn.Conv2d(width // 2, width // 2, 3, padding=1)
        self.out = nn.Conv2d(width // 2, width, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, previous: Tensor, guided: Tensor) -> Tensor:
        """guided: float (N, 1, 1, 1), 0 where a frame has no past (I-frames), else 1."""
        hidden = self.conv(activation(self.join(torch.cat([x, previous], 1))))
        return x + self.out(activation(hidden)) * guided


class SemanticHead(nn.Module):
    """CSG tokens (N, token, ceil(H/64), ceil(W/64)) from the decoder's feature at 1/8."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        c = config
        self.layers = nn.ModuleList(
            [Downsample(c.width8, c.width8), Downsample(c.width8, c.unet32), Downsample(c.unet32, c.token)]
        )

    def forward(self, feature: Tensor) -> Tensor:
        for layer in self.layers:
            feature = layer(activation(feature))
        return feature


class TinyGenerator(nn.Module):
    """U-Net over a window of T frames at once; TCG shifts each level's features by one frame."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        c = config
        self.config = c
        self.semantic = SemanticHead(c)
        self.conv_in = nn.Conv2d(c.width8 + 192, c.width8, 1)
        self.down8 = ResBlock(c.width8)
        self.to16 = Downsample(c.width8, c.unet16)
        self.down16 = ResBlock(c.unet16)
        self.to32 = Downsample(c.unet16, c.unet32)
        self.down32 = ResBlock(c.unet32)
        self.attention = CrossAttention(c.unet32, c.token, heads=4)
        self.middle = ResBlock(c.unet32)
        self.guidance = nn.ModuleList([TemporalGuidance(w) for w in (c.width8, c.unet16, c.unet32)])
        self.from32 = Upsample(c.unet32, c.unet16)
        self.skip16 = nn.Conv2d(2 * c.unet16, c.unet16, 1)
        self.up16 = ResBlock(c.unet16)
        self.from16 = Upsample(c.unet16, c.width8)
        self.skip8 = nn.Conv2d(2 * c.width8, c.width8, 1)
        self.up8 = ResBlock(c.width8)
        self.render_in = Upsample(c.width8, c.renderer)
        self.render_picture = nn.Conv2d(48, c.renderer, 1)
        self.render = nn.Sequential(PointwiseBlock(c.renderer), PointwiseBlock(c.renderer))
        self.out = nn.Conv2d(c.renderer, 48, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def empty_levels(self, batch: int, height: int, width: int, device: torch.device | None = None) -> Levels:
        """The diffusion buffer before a first frame: zeros (B, C, …) at 1/8, 1/16 and 1/32 of the picture."""
        c = self.config
        h8, w8 = height // 8, width // 8
        h16, w16 = -(-h8 // 2), -(-w8 // 2)
        h32, w32 = -(-h16 // 2), -(-w16 // 2)
        return (
            torch.zeros(batch, c.width8, h8, w8, device=device),
            torch.zeros(batch, c.unet16, h16, w16, device=device),
            torch.zeros(batch, c.unet32, h32, w32, device=device),
        )

    def _render(self, x: Tensor, picture: Tensor) -> Tensor:
        """Correction (N, 3, H, W) in levels from the body's features at 1/8, renderer at 1/4."""
        fine = patch(picture, 4)
        hidden = self.render(self.render_in(x, fine) + self.render_picture(fine))
        return unpatch(self.out(activation(hidden)).float(), 4) / PICTURE_SCALE

    def forward(
        self, feature: Tensor, reference: Tensor, intra: Tensor, previous: Sequence[Tensor]
    ) -> tuple[Tensor, Levels]:
        """Pictures of T frames.

        feature: (B, T, width8, H/8, W/8); reference: (B, T, 3, H, W) levels; intra: bool (B, T), frames
        without a past; previous: the diffusion buffer, three levels of (B, C, h, w), as the last call
        returned it.
        Returns x0 (B, T, 3, H, W) float32 in levels, not clamped, and the buffer for the next window.
        """
        body, levels = self.body(feature, reference, intra, previous)
        return self.draw(body, reference), levels

    def body(
        self, feature: Tensor, reference: Tensor, intra: Tensor, previous: Sequence[Tensor]
    ) -> tuple[Body, Levels]:
        """All before the layers that codes adapt, and the buffer.

        What ``draw`` goes on from: (B T, 2 unet16, H/16, W/16) and (B T, width8, H/8, W/8).
        """
        batch, frames = intra.shape
        guided = (~intra).float().reshape(-1, 1, 1, 1)
        kept: list[Tensor] = []

        def guide(level: int, x: Tensor) -> Tensor:
            stacked = x.reshape(batch, frames, *x.shape[1:])
            kept.append(stacked[:, -1])
            shifted = torch.cat([previous[level].to(x.dtype)[:, None], stacked[:, :-1]], 1)
            return self.guidance[level](x, shifted.reshape(x.shape), guided)  # type: ignore[no-any-return]

        flat = feature.flatten(0, 1)
        picture = scaled(reference.flatten(0, 1))
        tokens = self.semantic(flat)
        skip8 = self.down8(self.conv_in(torch.cat([flat, patch(picture, 8)], 1)))
        x = guide(0, skip8)
        skip16 = self.down16(self.to16(activation(x)))
        x = guide(1, skip16)
        x = guide(2, self.down32(self.to32(activation(x))))
        x = self.middle(self.attention(x, tokens))
        joined = torch.cat([self.from32(activation(x), skip16), skip16], 1)
        return (joined, skip8), (kept[0].float(), kept[1].float(), kept[2].float())

    def draw(self, body: Body, reference: Tensor) -> Tensor:
        """x0 (B, T, 3, H, W) float32 from ``body``'s output and reference pictures (B, T, 3, H, W)."""
        picture = scaled(reference.flatten(0, 1))
        joined, skip8 = body
        x = self.up16(self.skip16(joined))
        x = self.up8(self.skip8(torch.cat([self.from16(activation(x), skip8), skip8], 1)))
        # Pointwise layers at 1/4 wait for memory; on a CPU one frame at a time stays in the cache.
        x = activation(x)
        at_once = 1 if x.device.type == "cpu" else len(x)
        pairs = zip(x.split(at_once), picture.split(at_once), strict=True)
        correction = torch.cat([self._render(*pair) for pair in pairs])
        return reference + correction.reshape(reference.shape)
