"""Stages over sequences of footage: the codec unrolled over some frames, or single pictures for the prior."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from s2vc.errors import InputError
from s2vc.nn.tiny.generator import TinyGenerator
from s2vc.nn.tiny.model import TinyModel
from s2vc.training import losses as terms_of
from s2vc.training.feed import Feed
from s2vc.training.prior import denoising_loss, frozen_copy, noise_levels, prior_weights
from s2vc.training.realism import (
    CRITIC_RATE,
    Discriminator,
    adversarial_loss,
    discriminator_loss,
    distribution_loss,
    fake_score_loss,
)
from s2vc.training.recipe import Stage
from s2vc.training.sampler import Batch, Sampler
from s2vc.training.stage import Context, Shown, StageRun
from s2vc.training.streams import Purpose, StepStreams, on_device
from s2vc.training.tables import FREQUENCIES
from s2vc.training.unroll import Frames, Noise, State, captured, initial_state, noise_shapes, unroll


class FootageStage(StageRun):
    """What learns from sequences of footage."""

    def _make_sampler(self, slots: Sequence[int]) -> Sampler | Feed:
        context, stage = self.context, self.stage

        def make(slots: Sequence[int]) -> Sampler:
            return Sampler(
                context.library,
                slots=slots,
                frames=stage.frames,
                crop=stage.crop,
                longest=stage.longest,
                short_share=stage.short_share,
                still_share=stage.still_share,
                reset_period=self.model.reset_period,
                seed=context.recipe.seed,
                stage=self.number,
                features=context.features if stage.losses.semantic else None,
            )

        sampler = make(slots)  # here, so that what is wrong with the footage is said here
        if self.device.type == "cpu":
            return sampler
        return Feed(make, slots, workers=max(1, (os.cpu_count() or 1) // self.processes.count - 1))


class CodecStage(FootageStage):
    """``intra``, ``inter`` and ``cascade``."""

    model: TinyModel
    trains: ClassVar = ["codec", "entropy", "generator"]

    def __init__(self, context: Context, stage: Stage, number: int) -> None:
        super().__init__(context, stage, number)
        mine = stage.batch // self.processes.count
        self.state = initial_state(self.model, mine, stage.crop, stage.crop, self.device)
        self.frames: nn.Module | None = None  # made at the first step

    @classmethod
    def prepare(cls, stage: Stage, model: TinyModel, ema: dict[str, Tensor]) -> None:
        """A codec is trained by Gaussians' prices: an ``entropy`` stage counts its tables again."""
        if "entropy" in (stage.train or cls.trains) and "entropy" not in stage.freeze:
            model.entropy.frequencies.zero_()
            ema[FREQUENCIES].zero_()

    def _terms(self, batch: Batch, streams: StepStreams) -> tuple[terms_of.Terms, terms_of.Seen | None]:
        stage, context, losses = self.stage, self.context, self.stage.losses
        if "motion" in context.recipe.drop:
            batch.motion[:] = 0
        pictures = on_device(batch.pictures, self.device).float()
        autocast = context.progress.autocast
        uniform = streams.uniform(Purpose.ROUNDING, *noise_shapes(self.model, stage.frames, stage.crop))
        fields = (batch.motion, batch.intra, batch.reset, batch.quality)
        motion, intra, reset, quality = (on_device(field, self.device) for field in fields)
        noise = Noise(uniform[0] - 0.5, uniform[1] - 0.5)
        assert isinstance(self.state, State)
        given = (pictures, motion, intra, reset, quality, noise, self.state)
        if self.frames is None:
            frames = Frames(
                self.model,
                autocast=autocast,
                cascade=stage.kind != "inter",
                checkpointing=stage.checkpointing,
                code=context.code,
            )
            self.frames = frames if self.device.type == "cpu" else captured(frames, *given)
        result = unroll(self.frames, *given)
        self.state = result.state
        self.shown = Shown(pictures, result.reference.detach(), result.x0.detach())
        terms = terms_of.codec_terms(stage, result, pictures, batch, quality, context.progress.stage_steps)
        if losses.temporal:
            terms_of.temporal_term(terms, stage, result, pictures, batch)
        if losses.flicker:
            terms_of.flicker_term(terms, stage, result.x0, pictures, batch.intra)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            if losses.semantic:
                projection = context.auxiliary["projection"]
                features, semantic = result.feature.flatten(0, 1), self.model.generator.semantic
                terms_of.semantic_term(terms, stage, lambda f: semantic(features[f]), projection, batch)
            if self.flow is not None:
                terms_of.motion_term(terms, stage, self.flow, result, pictures, batch, streams)
            seen = self._seen_terms(terms, result.x0, pictures, batch.slots, streams)
        return terms, seen


class RealismStage(CodecStage):
    """The generator alone, with critics; the codec stands still."""

    trains: ClassVar = ["generator"]

    def _make_critics(self) -> None:
        losses, auxiliary, device = self.stage.losses, self.context.auxiliary, self.device
        if losses.adversarial and "discriminator" not in auxiliary:
            auxiliary["discriminator"] = Discriminator().to(device)
        if losses.dmd:
            if "prior" not in auxiliary:
                raise InputError(
                    f"stage {self.stage.name}: dmd needs a prior, and the run it started from has none: "
                    "put a prior stage into its recipe"
                )
            if "fake" not in auxiliary:
                weights = prior_weights(auxiliary["prior"])
                auxiliary["fake"] = frozen_copy(self.model.config, weights, device).requires_grad_(True)

    def _critic_optimisers(self) -> dict[str, torch.optim.Optimizer]:
        losses = self.stage.losses
        return {
            name: torch.optim.AdamW(
                self.context.auxiliary[name].parameters(), lr=CRITIC_RATE, betas=(0.5, 0.99)
            )
            for name, used in (("discriminator", losses.adversarial), ("fake", losses.dmd))
            if used
        }

    def _realism_terms(self, terms: terms_of.Terms, seen: terms_of.Seen, streams: StepStreams) -> None:
        losses, auxiliary = self.stage.losses, self.context.auxiliary
        if losses.adversarial:
            discriminator = auxiliary["discriminator"].requires_grad_(False)
            assert isinstance(discriminator, Discriminator)
            value = adversarial_loss(discriminator, seen.shown)
            terms.add("adversarial", losses.adversarial, value, seen.share)
            discriminator.requires_grad_(True)
        if losses.dmd:
            real, fake = auxiliary["prior"], auxiliary["fake"]
            assert isinstance(real, TinyGenerator) and isinstance(fake, TinyGenerator)
            sigma, noise = self._diffusion(seen, streams, Purpose.SIGMA, Purpose.NOISE)
            value = distribution_loss(real, fake, seen.shown, sigma, noise)
            terms.add("dmd", losses.dmd, value, seen.share)

    def _critic_loss(self, name: str, seen: terms_of.Seen, streams: StepStreams) -> Tensor:
        network = self.context.auxiliary[name]
        if isinstance(network, Discriminator):
            return discriminator_loss(network, seen.shown, seen.real)
        assert isinstance(network, TinyGenerator)
        sigma, noise = self._diffusion(seen, streams, Purpose.CRITIC_SIGMA, Purpose.CRITIC_NOISE)
        return fake_score_loss(network, seen.shown, sigma, noise)

    def _diffusion(
        self, seen: terms_of.Seen, streams: StepStreams, level: Purpose, noise: Purpose
    ) -> tuple[Tensor, Tensor]:
        (uniform,) = streams.uniform(level, ())
        (normal,) = streams.normal(noise, tuple(seen.shown.shape[1:]))
        return noise_levels(self.stage, uniform[seen.rows]), normal[seen.rows]


class PriorStage(FootageStage):
    """The U-Net as a denoiser of pictures."""

    model: TinyModel
    trains: ClassVar = ["generator"]

    def _names(self) -> list[str]:
        return ["denoising"]

    def _terms(self, batch: Batch, streams: StepStreams) -> tuple[terms_of.Terms, None]:
        pictures = on_device(batch.pictures[:, 0], self.device).float()
        (uniform,) = streams.uniform(Purpose.SIGMA, ())
        (noise,) = streams.normal(Purpose.NOISE, tuple(pictures.shape[1:]))
        terms = terms_of.Terms({}, {})
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.context.progress.autocast):
            sigma = noise_levels(self.stage, uniform)
            terms.add("denoising", 1.0, denoising_loss(self.model.generator, pictures, sigma, noise))
        return terms, None
