"""Which class runs which kind of stage of which preset."""

from __future__ import annotations

from s2vc.errors import InputError
from s2vc.training.codec_stage import CodecStage, PriorStage, RealismStage
from s2vc.training.entropy_stage import EntropyStage
from s2vc.training.generator_stage import GeneratorStage
from s2vc.training.recipe import Kind, Recipe
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
    from s2vc.training.base_stage import BaseInterStage, BaseIntraStage  # they need diffusers

    known: dict[Kind, type[StageRun]] = {
        "intra": BaseIntraStage,
        "inter": BaseInterStage,
        "cascade": BaseInterStage,
    }
    for stage in recipe.stages:
        if stage.kind not in known:
            raise InputError(
                f"stage {stage.name}: of base this version trains {', '.join(known)} stages, no {stage.kind} "
                "stage: take it out of the recipe"
            )
    return [known[stage.kind] for stage in recipe.stages]
