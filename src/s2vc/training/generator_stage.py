"""The ``generator`` stage: the generator alone, on what the encoder itself made of the footage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from s2vc.nn.tiny.model import TinyModel
from s2vc.training import losses as terms_of
from s2vc.training.coded import LOOK_BACK, CodedBatch, CodedClip, CodedSampler, code_pictures
from s2vc.training.stage import Shown, StageRun
from s2vc.training.streams import StepStreams, on_device


class GeneratorStage(StageRun):
    """See the module."""

    model: TinyModel
    trains: ClassVar = ["generator"]

    def _make_sampler(self, slots: Sequence[int]) -> CodedSampler:
        stage, seed = self.stage, self.context.recipe.seed
        library = self.context.library
        images = library.images if stage.still_share else []
        clips, stills = (
            [CodedClip(**arrays) for arrays in self._coded("coded", code_pictures, sources)]
            for sources in (library.clips, images)
        )
        return CodedSampler(
            clips,
            stills=stills,
            still_share=stage.still_share,
            slots=slots,
            frames=stage.frames,
            crop=stage.crop,
            seed=seed,
            stage=self.number,
        )

    def _terms(self, batch: CodedBatch, streams: StepStreams) -> tuple[terms_of.Terms, None]:
        stage, autocast = self.stage, self.context.progress.autocast
        intra = on_device(batch.intra, self.device)
        feature, reference, pictures = (
            t.to(self.device) for t in (batch.feature, batch.reference, batch.pictures)
        )
        levels = self.model.generator.empty_levels(len(pictures), stage.crop, stage.crop, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            x0, _ = self.model.generator(feature, reference, intra, levels)
        x0, reference, pictures = (t[:, LOOK_BACK:] for t in (x0, reference, pictures))
        self.shown = Shown(pictures, reference, x0.detach())
        terms = terms_of.generator_terms(stage, x0, reference, pictures)
        if stage.losses.flicker:
            terms_of.flicker_term(terms, stage, x0, pictures, batch.intra[:, LOOK_BACK:])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            self._seen_terms(terms, x0, pictures, batch.slots, streams)
        return terms, None
