"""Stages of ``base``: one rate point; I-frames first, then P-frames behind the picture codec as it is."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from s2vc.errors import InputError
from s2vc.training import losses as terms_of
from s2vc.training.base_networks import BaseNetworks
from s2vc.training.base_realism import (
    CRITIC_ADVERSARIAL,
    MATCHED,
    Critic,
    adversarial_term,
    denoising_term,
    judging_term,
    matching_term,
    timesteps,
)
from s2vc.training.base_unroll import BaseFrames, BaseState, initial_base_state
from s2vc.training.codec_stage import FootageStage
from s2vc.training.recipe import Stage
from s2vc.training.sampler import Batch
from s2vc.training.stage import Context, Shown
from s2vc.training.streams import Purpose, StepStreams, on_device
from s2vc.training.unroll import Noise

MULTIPLE = 64  # pixels of a CSG token


class BaseStage(FootageStage):
    """What the kinds of ``base`` share."""

    model: BaseNetworks
    frames_kind: ClassVar[str]  # whose adapters learn; the other frames' stand still
    latents: Tensor  # of the step's pictures (B, T, 4, h/8, w/8)

    def __init__(self, context: Context, stage: Stage, number: int) -> None:
        if stage.crop % MULTIPLE:
            raise InputError(f"stage {stage.name}: base wants a crop that is a multiple of {MULTIPLE}")
        super().__init__(context, stage, number)
        mine = stage.batch // self.processes.count
        self.state = initial_base_state(self.model, mine, stage.crop, stage.crop, self.device)
        self.frames = BaseFrames(
            self.model,
            autocast=context.progress.autocast,
            cascade=stage.kind != "inter",
            checkpointing=stage.checkpointing,
        )

    def _state_of(self, tensors: dict[str, Tensor]) -> BaseState:
        return BaseState.of(tensors)

    def _choose_parameters(self) -> None:
        super()._choose_parameters()
        for name, parameter in self.model.adapters.named_parameters():
            if not name.startswith(f"{self.frames_kind}."):
                parameter.requires_grad_(False)

    def _noise(self, streams: StepStreams) -> Noise:
        stage, config = self.stage, self.model.config
        at16, at64 = stage.crop // 16, stage.crop // 64
        latent = max(config.intra.latent, config.inter.latent)
        shapes = ((stage.frames, latent, at16, at16), (stage.frames, config.inter.hyper, at64, at64))
        uniform = streams.uniform(Purpose.ROUNDING, *shapes)
        return Noise(uniform[0] - 0.5, uniform[1] - 0.5)

    def _terms(self, batch: Batch, streams: StepStreams) -> tuple[terms_of.Terms, terms_of.Seen | None]:
        stage, context, losses = self.stage, self.context, self.stage.losses
        pictures = on_device(batch.pictures, self.device).float()
        assert isinstance(self.state, BaseState)
        result = self.frames(pictures, batch.intra, batch.reset, self._noise(streams), self.state)
        self.state, self.latents = result.state, result.latents
        self.shown = Shown(pictures, result.reference, result.x0.detach())
        quality = on_device(batch.quality, self.device)
        terms = terms_of.codec_terms(stage, result, pictures, batch, quality, context.progress.stage_steps)
        if losses.flicker:
            terms_of.flicker_term(terms, stage, result.x0, pictures, batch.intra)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=context.progress.autocast):
            if losses.semantic:
                tokens, projection = result.tokens.flatten(0, 1), context.auxiliary["projection"]
                terms_of.semantic_term(terms, stage, lambda rows: tokens[rows], projection, batch)
            if self.flow is not None:
                terms_of.motion_term(terms, stage, self.flow, result, pictures, batch, streams)
            return terms, self._seen_terms(terms, result.x0, pictures, batch.slots, streams)


class BaseIntraStage(BaseStage):
    """The picture codec, its adapters, and what both kinds of frames enter and leave the U-Net by."""

    trains: ClassVar = ["intra", "lora", "conv_in", "vae_reduction"]
    frames_kind: ClassVar = "intra"


class BaseInterStage(BaseStage):
    """``inter`` and ``cascade``: the P-frame codec, TCG and the generator's other adapters."""

    trains: ClassVar = ["inter", "lora", "tcg", "vae_reduction"]
    frames_kind: ClassVar = "inter"

    @classmethod
    def prepare(cls, stage: Stage, model: BaseNetworks, ema: dict[str, Tensor]) -> None:
        """P-frames' adapters that have learnt nothing begin as I-frames' (ARCHITECTURE §14.3)."""
        weights = model.state_dict()
        theirs = [name for name in weights if name.startswith("adapters.inter.")]
        if any(weights[name].any() for name in theirs if name.endswith(".up")):
            return
        for held in (weights, ema):
            for name in theirs:
                held[name].copy_(held[name.replace(".inter.", ".intra.", 1)])


class BaseRealismStage(BaseStage):
    """The generator alone, with Stable Diffusion and a critic; the codec stands still."""

    def _make_critics(self) -> None:
        auxiliary, stable = self.context.auxiliary, self.context.stable
        assert stable is not None
        self.stable = stable
        self.real = stable.unet().to(self.device).requires_grad_(False).eval()
        if "critic" not in auxiliary:
            auxiliary["critic"] = Critic(stable.unet()).to(self.device)
        critic = auxiliary["critic"]
        assert isinstance(critic, Critic)
        if self.stage.checkpointing:
            critic.unet.enable_gradient_checkpointing()
        self.critic = critic

    def _critic_optimisers(self) -> dict[str, torch.optim.Optimizer]:
        rate = self.stage.learning_rate
        return {
            "critic": torch.optim.AdamW(
                self.critic.parameters(), lr=rate, betas=(0.9, 0.999), weight_decay=self.stage.weight_decay
            )
        }

    def _set_rates(self, share: float) -> None:
        super()._set_rates(share)
        warm = min(1.0, (self.context.progress.stage_steps + 1) / max(1, self.stage.warmup_steps))
        for group in self.critics["critic"].param_groups:
            group["lr"] = self.stage.learning_rate * warm

    def _realism_terms(self, terms: terms_of.Terms, seen: terms_of.Seen, streams: StepStreams) -> None:
        # Frozen until the model has learnt: what checkpoints leave out is computed again in the gradient.
        self.critic.requires_grad_(False)
        losses, latents = self.stage.losses, self.latents.flatten(0, 1)[seen.frames].float()
        shape = tuple(latents.shape[1:])
        uniform = [u[seen.rows] for u in streams.uniform(Purpose.SIGMA, (), ())]
        noise = [n[seen.rows] for n in streams.normal(Purpose.NOISE, shape, shape)]
        if losses.dmd:
            steps = timesteps(uniform[0], *MATCHED)
            value = matching_term(self.stable, self.real, self.critic, latents, steps, noise[0])
            terms.add("dmd", losses.dmd, value, seen.share)
        if losses.adversarial:
            value = adversarial_term(self.stable, self.critic, latents, timesteps(uniform[1]), noise[1])
            terms.add("adversarial", losses.adversarial, value, seen.share)

    def _critic_loss(self, name: str, seen: terms_of.Seen, streams: StepStreams) -> Tensor:
        self.critic.requires_grad_(True)
        latents = self.latents.detach().flatten(0, 1)[seen.frames].float()
        shape = tuple(latents.shape[1:])
        uniform = [u[seen.rows] for u in streams.uniform(Purpose.CRITIC_SIGMA, (), ())]
        noise = [n[seen.rows] for n in streams.normal(Purpose.CRITIC_NOISE, shape, shape)]
        loss = denoising_term(self.stable, self.critic, latents, timesteps(uniform[0]), noise[0])
        if self.stage.losses.adversarial:
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                real = self.model.vae.encode(2 * seen.real - 1)
            steps = timesteps(uniform[1])
            judging = judging_term(self.stable, self.critic, latents, real, steps, noise[1])
            loss = loss + CRITIC_ADVERSARIAL * judging
        return loss


class BaseIntraRealismStage(BaseRealismStage):
    """Of I-frames."""

    trains: ClassVar = ["lora", "conv_in", "vae_reduction"]
    frames_kind: ClassVar = "intra"


class BaseInterRealismStage(BaseRealismStage):
    """Of P-frames."""

    trains: ClassVar = ["lora", "tcg", "vae_reduction"]
    frames_kind: ClassVar = "inter"
