"""Which class runs which kind of stage of which preset."""

from __future__ import annotations

from s2vc.errors import InputError
from s2vc.training.codec_stage import CodecStage, PriorStage, RealismStage
from s2vc.training.entropy_stage import EntropyStage
from s2vc.training.generator_stage import GeneratorStage
from s2vc.training.recipe import Kind, Recipe, Stage
from s2vc.training.stage import StageRun

TINY: dict[Kind, type[StageRun]] = {
    "prior": PriorStage,
    "intra": CodecStage,
    "inter": CodecStage,
    "cascade": CodecStage,
    "entropy": EntropyStage,
    "generator": GeneratorStage,
    "realism": RealismStage,
}


def stages_of(recipe: Recipe) -> list[type[StageRun]]:
    """A recipe's stages' classes. InputError where this version cannot run one."""
    if recipe.preset == "tiny":
        return [TINY[stage.kind] for stage in recipe.stages]
    from s2vc.training import base_stage  # it needs diffusers

    def of_base(stage: Stage) -> type[StageRun]:
        if stage.kind == "realism":
            alone = stage.longest == 1
            return base_stage.BaseIntraRealismStage if alone else base_stage.BaseInterRealismStage
        if stage.kind == "intra":
            return base_stage.BaseIntraStage
        if stage.kind in ("inter", "cascade"):
            return base_stage.BaseInterStage
        raise InputError(
            f"stage {stage.name}: of base intra, inter, cascade and realism stages are trained, no "
            f"{stage.kind} stage: take it out of the recipe"
        )

    return [of_base(stage) for stage in recipe.stages]
