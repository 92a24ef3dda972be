"""``tiny``'s conditional codec: one frame, given a reference picture and a feature buffer (DESIGN §5).

I-frames go through the same networks against a grey reference and an empty buffer (MLVC, PEERS): one codec
fewer. Pictures are float32 (B, 3, H, W) in 8-bit levels 0..255, H and W multiples of 16. Networks see them as
(level − 128) / 64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2vc.nn.blocks import Downsample, ResBlock, Upsample, activation, patch, round_through, unpatch
from s2vc.nn.lapped import LappedTransform
from s2vc.nn.motion import LEVEL, motion_compensate, warp_features
from s2vc.nn.origin import Origin, follow, no_origin, settle
from s2vc.nn.tiny.config import TinyConfig

GREY = 128.0
PICTURE_SCALE = 1 / 64
COARSEST_STEP, FINEST_STEP = 128.0, 16.0  # quantiser steps of quality 0 and 63 before training, in levels


@dataclass
class Buffer:
    """What the decoder remembers of the past.

    reference: float32 (B, 3, H, W), levels 0..255 in quarters. feature: float32 (B, width8, H/8, W/8).
    origin: where its pixels came from, in a model that asks. codes: float (K,), what the generator is adapted
    by since the last I-frame, where that said so; no network here reads them.
    """

    reference: Tensor
    feature: Tensor
    origin: Origin | None = None
    codes: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """All but codes by name, for :meth:`of`."""
        origin = {} if self.origin is None else vars(self.origin)
        return {"reference": self.reference, "feature": self.feature, **origin}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Buffer:
        rest = {k: v for k, v in tensors.items() if k not in ("reference", "feature")}
        return cls(tensors["reference"], tensors["feature"], Origin(**rest) if rest else None)


@dataclass
class Context:
    """A frame's prediction, made from the buffer and the motion field before anything else is read."""

    prediction: Tensor  # (B, 3, H, W) levels, motion-compensated
    at8: Tensor  # (B, width8, H/8, W/8)
    at16: Tensor  # (B, width16, H/16, W/16)
    origin: Origin | None = None  # as far as the motion field alone tells


def scaled(picture: Tensor) -> Tensor:
    return (picture - GREY) * PICTURE_SCALE


class QualityCurve(nn.Module):
    """Per-channel logarithms of a quantiser step, for intra and inter, interpolated between knots."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        knots = torch.linspace(0, 1, config.knots)[:, None]
        ratio = torch.tensor(FINEST_STEP / COARSEST_STEP).log()
        curve = torch.tensor(COARSEST_STEP).log() + knots * ratio
        self.log_step = nn.Parameter(curve.expand(2, config.knots, config.latent).clone())

    def forward(self, intra: Tensor, quality: Tensor) -> Tensor:
        """Steps (B, C, 1, 1) for intra flags and qualities 0..63 (B,)."""
        knots = self.log_step.shape[1]
        position = quality.float() * ((knots - 1) / 63)
        low = position.floor().clamp(max=knots - 2).long()
        share = (position - low)[:, None]
        curve = self.log_step[intra.long()]
        rows = torch.arange(len(low), device=low.device)
        step = curve[rows, low] * (1 - share) + curve[rows, low + 1] * share
        return step.exp()[..., None, None]


class TinyCodec(nn.Module):
    """Analysis, hyperprior, means, synthesis and buffer update."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = c = config
        self.transform = LappedTransform(c.latent)
        self.encoder_step = QualityCurve(c)
        self.decoder_step = QualityCurve(c)

        # Temporal context (ARCHITECTURE §5: feature_adaptor, feature_extractor).
        self.condition = nn.Linear(3, c.width8)
        self.context_in = nn.Conv2d(192 + c.width8, c.width8, 1)
        self.context_body = nn.Sequential(ResBlock(c.width8), ResBlock(c.width8))
        self.context_down = Downsample(c.width8, c.width16)

        # Analysis: what the transform of the residual misses.
        self.encoder_in = nn.Conv2d(192 + 192 + c.width8, c.width8, 1)
        self.encoder_body = nn.Sequential(ResBlock(c.width8), ResBlock(c.width8))
        self.encoder_down = Downsample(c.width8, c.width16)
        self.encoder_body16 = ResBlock(c.width16)
        self.encoder_out = nn.Conv2d(c.width16, c.latent, 1)

        # Hyperprior and means.
        self.hyper_in = nn.Conv2d(c.latent + c.width16, c.prior16, 1)
        self.hyper_down = nn.Sequential(Downsample(c.prior16, c.prior16), nn.LeakyReLU(0.1))
        self.hyper_out = Downsample(c.prior16, c.hyper)
        self.hyper_up1 = Upsample(c.hyper, c.prior16)
        self.hyper_up2 = Upsample(c.prior16, c.prior16)
        self.prior_in = nn.Conv2d(c.prior16 + c.width16, c.prior16, 1)
        self.prior_body = nn.Sequential(ResBlock(c.prior16), ResBlock(c.prior16))
        self.mean0 = nn.Conv2d(c.prior16, c.latent, 1)
        self.second_in = nn.Conv2d(c.prior16 + c.latent, c.prior16, 1)
        self.second_body = ResBlock(c.prior16)
        self.mean1 = nn.Conv2d(c.prior16, c.latent, 1)

        # Synthesis.
        self.decoder_in = nn.Conv2d(c.latent + c.width16, c.width16, 1)
        self.decoder_body16 = nn.Sequential(ResBlock(c.width16), ResBlock(c.width16))
        self.decoder_up = Upsample(c.width16, c.width8)
        self.decoder_picture = nn.Conv2d(192, c.width8, 1)
        self.decoder_body = nn.Sequential(ResBlock(c.width8), ResBlock(c.width8))
        self.reference_out = nn.Conv2d(c.width8, 192, 1)

        for zero in (self.encoder_out, self.mean0, self.mean1, self.reference_out):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)  # type: ignore[arg-type]

    def empty_buffer(self, batch: int, height: int, width: int, device: torch.device | None = None) -> Buffer:
        """What stands before an I-frame: a grey reference and no features."""
        return Buffer(
            torch.full((batch, 3, height, width), GREY, device=device),
            torch.zeros(batch, self.config.width8, height // 8, width // 8, device=device),
            no_origin(batch, height, width, device) if self.config.origins else None,
        )

    def context(
        self, buffer: Buffer, motion: Tensor, intra: Tensor, reset: Tensor, quality: Tensor
    ) -> Context:
        """Prediction and context.

        motion: integer (B, H/16, W/16, 2), quarter pixels, zero in I-frames. intra, reset: bool (B,); in both
        cases the feature buffer is read as zero. quality: (B,) in 0..63.
        """
        prediction = motion_compensate(buffer.reference, motion)
        origin = None
        if buffer.origin is not None:
            sharper, origin = follow(buffer.origin, motion)
            origin.intact &= ~intra[:, None, None, None]
            # Gradients go the way of the last picture: what they would find at the origin differs by a blur.
            prediction = prediction + (sharper - prediction).detach() * origin.intact
        keep = (~(intra | reset)).float()[:, None, None, None]
        feature = warp_features(buffer.feature, motion) * keep
        condition = torch.stack([intra.float(), reset.float(), quality.float() / 32 - 1], 1)
        at8 = self.context_in(torch.cat([patch(scaled(prediction), 8), feature], 1))
        at8 = self.context_body(at8 + self.condition(condition)[..., None, None])
        return Context(prediction, at8, self.context_down(activation(at8)), origin)

    def analyse(self, picture: Tensor, context: Context, intra: Tensor, quality: Tensor) -> Tensor:
        """Latents y (B, latent, H/16, W/16) in units of the quantiser step, not yet rounded."""
        residual = picture - context.prediction
        with torch.autocast(picture.device.type, enabled=False):
            linear = self.transform(residual)
        seen = torch.cat([patch(scaled(picture), 8), patch(residual * PICTURE_SCALE, 8), context.at8], 1)
        hidden = self.encoder_body(self.encoder_in(seen))
        hidden = self.encoder_body16(self.encoder_down(activation(hidden)))
        correction = self.encoder_out(activation(hidden)).float() / PICTURE_SCALE
        return (linear + correction) / self.encoder_step(intra, quality)

    def hyper_analyse(self, y: Tensor, context: Context) -> Tensor:
        """Hyperlatent z (B, hyper, ceil(H/64), ceil(W/64)), not yet rounded."""
        hidden = self.hyper_in(torch.cat([y / 4, context.at16], 1))
        return self.hyper_out(self.hyper_down(activation(hidden))).float()

    def prior(self, z: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Means of pass 0 (B, latent, H/16, W/16) and the hidden state pass 1 goes on from."""
        _, _, height, width = context.at16.shape
        half = context.at16[..., : -(-height // 2), : -(-width // 2)]
        hidden = self.hyper_up2(activation(self.hyper_up1(z, half)), context.at16)
        hidden = self.prior_body(self.prior_in(torch.cat([hidden, context.at16], 1)))
        return self.mean0(activation(hidden)).float(), hidden

    def second_mean(self, hidden: Tensor, first: Tensor) -> Tensor:
        """Means of pass 1 given pass 0's decoded latents (zero at pass 1's positions)."""
        hidden = self.second_body(self.second_in(torch.cat([activation(hidden), first / 4], 1)))
        return self.mean1(activation(hidden)).float()

    def synthesise(
        self, y: Tensor, coded: Tensor, context: Context, intra: Tensor, quality: Tensor
    ) -> tuple[Buffer, Tensor]:
        """Decoded latents -> the buffer after this frame, and the reference picture before rounding.

        coded: bool (B, 1, H/16, W/16), where a latent's symbol is not zero. In P-frames all else but these
        blocks and their neighbours is the prediction itself: a network that may touch what nobody coded
        wears it away, frame by frame.
        """
        with torch.autocast(y.device.type, enabled=False):
            gate = F.max_pool2d((coded | intra[:, None, None, None]).float(), 3, stride=1, padding=1)
            y = y * gate
            levels = y * self.decoder_step(intra, quality)
            plain = context.prediction + self.transform.inverse(levels)
        hidden = self.decoder_in(torch.cat([y / 4, context.at16], 1))
        hidden = self.decoder_body16(hidden)
        hidden = self.decoder_up(activation(hidden), context.at8)
        hidden = hidden + context.at8 + self.decoder_picture(patch(scaled(plain), 8))
        feature = self.decoder_body(hidden)
        correction = unpatch(self.reference_out(activation(feature)).float(), 8) / PICTURE_SCALE
        share = F.interpolate(gate, scale_factor=16.0, mode="bilinear")
        exact = plain + correction * share
        # Where machines round differently, motion filters spread the difference until it is about as large
        # as the step everywhere: a quarter of a level, then, not a whole one (docs/decisions.md).
        reference = round_through(exact.clamp(0, 255) * LEVEL) / LEVEL
        origin = context.origin
        if origin is not None:
            origin = settle(origin, reference.detach(), share > 0, intra, quality)
        return Buffer(reference, feature.float(), origin), exact
