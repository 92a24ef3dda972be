"""Which class runs which kind of stage."""

from __future__ import annotations

from s2vc.training.codec_stage import CodecStage, PriorStage, RealismStage
from s2vc.training.entropy_stage import EntropyStage
from s2vc.training.generator_stage import GeneratorStage
from s2vc.training.recipe import Kind
from s2vc.training.stage import StageRun

STAGES: dict[Kind, type[StageRun]] = {
    "prior": PriorStage,
    "intra": CodecStage,
    "inter": CodecStage,
    "cascade": CodecStage,
    "entropy": EntropyStage,
    "generator": GeneratorStage,
    "realism": RealismStage,
}
