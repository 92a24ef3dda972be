"""The ``adaptation`` stage: in which directions films pull the generator apart (s2vc.nn.tiny.adaptation).

Every coded passage has codes of its own, which are learnt with the basis that all of them share (an
auto-decoder, Park et al. 2019); what is left of the generator stands still. At the end the basis is turned so
that codes are uncorrelated, and scaled so that they are whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from s2vc.entropy.tables import default_scales
from s2vc.training.coded import LOOK_BACK, CodedBatch, CodedSampler
from s2vc.training.generator_stage import GeneratorStage
from s2vc.training.recipe import Stage

FIRST = 0.08  # of the basis before training, standard deviation
RATE = 0.25  # of codes, whose steps are as long whatever the gradient
ERROR = 0.01  # of what codes change, squared, by being whole numbers
BASIS, SCALE, INDEX = "generator.adaptation.basis", "generator.adaptation.scale", "entropy.codes_index"


class AdaptationStage(GeneratorStage):
    """See the module."""

    trains: ClassVar = ["adaptation"]

    @classmethod
    def prepare(cls, stage: Stage, model: Any, ema: dict[str, Tensor]) -> None:
        super().prepare(stage, model, ema)
        if not ema[BASIS].any():  # from there no gradient leads away
            random = torch.Generator().manual_seed(0)
            ema[BASIS].copy_(FIRST * torch.randn(ema[BASIS].shape, generator=random))
        ema[BASIS].mul_(ema[SCALE][:, None])
        ema[SCALE].fill_(1)
        model.load_state_dict(ema)

    def _make_sampler(self, slots: Sequence[int]) -> CodedSampler:
        sampler = super()._make_sampler(slots)
        codes, auxiliary = self.model.config.codes, self.context.auxiliary
        shape = (len(sampler.clips), codes)
        found = auxiliary.get("codes")
        if not isinstance(found, nn.Embedding) or tuple(found.weight.shape) != shape:
            auxiliary["codes"] = nn.Embedding(*shape, _weight=torch.zeros(shape)).to(self.device)
        return sampler

    def _more_optimisers(self, rate: Callable[[float], float | Tensor]) -> dict[str, torch.optim.Optimizer]:
        codes, graphed = self.context.auxiliary["codes"].parameters(), self.device.type != "cpu"
        return {"codes": torch.optim.Adam(codes, lr=rate(RATE), betas=(0.8, 0.95), capturable=graphed)}

    def _drawn(self, batch: CodedBatch, feature: Tensor, reference: Tensor, intra: Tensor) -> Tensor:
        generator, embedding = self.model.generator, self.context.auxiliary["codes"]
        assert generator.adaptation is not None and isinstance(embedding, nn.Embedding)
        drawn = []
        side = self.stage.crop
        for row, clip in enumerate(batch.clips):
            weights = generator.adaptation.weights(generator, embedding.weight[clip])
            levels = generator.empty_levels(1, side, side, self.device)
            window = [part[row : row + 1] for part in (feature, reference, intra)]
            with torch.no_grad():
                past = (part[:, :LOOK_BACK] for part in window)
                _, levels = functional_call(generator, weights, (*past, levels))
            now = (part[:, LOOK_BACK:] for part in window)
            drawn.append(functional_call(generator, weights, (*now, levels))[0])
        return torch.cat(drawn)

    def finish(self, ema: dict[str, Tensor]) -> None:
        """Turn the basis to the directions in which passages differ most; codes become whole numbers."""
        embedding = self.context.auxiliary["codes"]
        assert isinstance(embedding, nn.Embedding)
        codes = embedding.weight.detach()
        _, values, directions = torch.linalg.svd(codes @ ema[BASIS], full_matrices=False)
        count = codes.shape[1]
        spread = torch.zeros(count, device=codes.device)
        turned = torch.zeros_like(ema[BASIS])
        found = min(count, len(values))  # fewer passages than codes span fewer directions
        spread[:found] = values[:found] / len(codes) ** 0.5
        turned[:found] = directions[:found]
        unit = (12 * ERROR * spread.square().mean()).sqrt().clamp(min=1e-6)
        peak = turned.abs().amax(1).clamp(min=1e-6)
        ema[BASIS].copy_((turned / peak[:, None] * 127).round())
        ema[SCALE].copy_(unit * peak / 127)
        steps = np.log(np.maximum((spread / unit).cpu().numpy(), 1e-3))
        tables = 1 + np.abs(np.log(default_scales()) - steps[:, None]).argmin(1)
        ema[INDEX].copy_(torch.from_numpy(tables))
