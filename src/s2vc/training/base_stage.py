"""Stages of ``base``: one rate point; I-frames first, then P-frames behind the picture codec as it is."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from s2vc.errors import InputError
from s2vc.training import losses as terms_of
from s2vc.training.base_networks import BaseNetworks
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
        self.state = result.state
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
