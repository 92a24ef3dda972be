"""Recipes: a YAML list of stages, checked before anything starts (TRAINING §2)."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from s2vc.errors import InputError
from s2vc.nn.tiny.config import TinyConfig

Kind = Literal["vae", "prior", "intra", "inter", "cascade", "entropy", "generator", "realism"]
KINDS: tuple[Kind, ...] = (
    "vae",
    "prior",
    "intra",
    "inter",
    "cascade",
    "entropy",
    "generator",
    "realism",
)  # in their order
CODEC_KINDS = ("intra", "inter", "cascade")
CODED_KINDS = ("entropy", "generator")  # which learn from what the encoder made of the footage

# Parts that a stage can train or freeze, as prefixes of parameter names.
PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "tiny": {
        "codec": ("codec.",),
        "transform": ("codec.transform.",),
        "entropy": ("entropy.",),
        "generator": ("generator.",),
        "csg": ("generator.semantic.", "generator.attention."),
        "tcg": ("generator.guidance.",),
    },
    "base": {
        "vae": ("vae.",),
        "intra": ("intra.",),
        "inter": ("inter.",),
        "unet": ("generator.unet.",),
        "lora": ("adapters.",),  # those of the stage's kind of frames
        "conv_in": ("generator.unet.conv_in.",),
        "vae_reduction": ("generator.reduction.",),
        "csg": ("intra.tokens.", "inter.token_head."),
        "tcg": ("generator.fusions.",),
    },
}

# What a stage trains at most where the rest of the model stands still.
ALONE: dict[Kind, tuple[str, ...]] = {"entropy": ("entropy",), "generator": ("generator", "csg", "tcg")}

Weight = Annotated[float, Field(ge=0)]


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind[0] in "aei" else f"a {kind}"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Losses(_Strict):
    """Weights of the terms; a term of weight 0 is not computed. Pictures are in [0, 1] in all of them."""

    l1: Weight = 1.0  # shown picture
    reference_l1: Weight = 0.5  # reference picture
    lpips_vgg: Weight = 0.0
    lpips_alex: Weight = 0.0
    dists: Weight = 0.0
    semantic: Weight = 0.0  # CSG tokens against the teacher's features (α of TRAINING §1)
    temporal: Weight = 0.0  # motion-compensated frame differences against the source's
    flicker: Weight = 0.0  # what a shown picture's error changes from frame to frame
    motion: Weight = 0.0  # SPyNet's flow against the source's (β of TRAINING §1)
    adversarial: Weight = 0.0  # patch discriminator; base: diffusion GAN
    dmd: Weight = 0.0  # distribution matching: the prior, and what is shown now

    @property
    def used(self) -> list[str]:
        return [name for name in type(self).model_fields if getattr(self, name) > 0]


class Stage(_Strict):
    """One stage: what it trains, on what, by which losses, for how long (``minutes`` or ``steps``)."""

    name: str
    kind: Kind
    minutes: float | None = Field(None, gt=0)  # of training on this machine, evaluation not counted
    steps: int | None = Field(None, ge=1)

    batch: int = Field(12, ge=1)  # over all processes
    frames: int = Field(4, ge=1)  # that gradients see at once
    crop: int = Field(128, ge=32, multiple_of=16)
    longest: int = Field(32, ge=1)  # frames of a sequence, buffers carried from step to step
    passages: int = Field(1, ge=1)  # that coded stages code of each clip and photograph, drawn anew each time
    short_share: float = Field(0.5, gt=0, le=1)  # of what is seen: sequences that end with their first step
    still_share: float = Field(0.2, ge=0, le=1)  # of sequences made of photographs

    train: list[str] = Field([])  # parts; empty: all that the stage's kind touches
    freeze: list[str] = Field([])  # parts of these that stay as they are
    optimiser: Literal["muon", "adamw"] = "muon"
    learning_rate: float = Field(1e-3, gt=0)
    muon_learning_rate: float = Field(0.01, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(2.0, gt=0)  # of the gradient's norm
    warmup_steps: int = Field(50, ge=0)
    final_share: float = Field(0.02, ge=0, le=1)  # of the learning rate, at the cosine's end

    lambda_low: float = Field(4.0, gt=0)  # λ of quality 0
    lambda_high: float = Field(0.04, gt=0)  # λ of quality 63
    lambda_warmup_steps: int = Field(0, ge=0)  # λ rises with the square of the step
    intra_weight: float = Field(0.35, gt=0)  # of an I-frame's bits
    hierarchy: list[float] = Field([1.0], min_length=1)  # of P-frames' distortion, in turn
    losses: Losses = Losses()
    perceptual_scales: list[Literal[1, 2, 4]] = Field([1], min_length=1)
    seen_every: int = Field(2, ge=1)  # one frame of every n-th sequence goes through the costly networks
    psnr_floor: float = Field(0.7, gt=0)  # dB that realism may cost before its terms are switched off
    critic_steps: int = Field(1, ge=1)  # realism: steps of the critics to each of the model's

    noise_low: float = Field(2.0, gt=0)  # prior: σ in levels, drawn between them evenly in the logarithm
    noise_high: float = Field(120.0, gt=0)
    checkpointing: bool = False  # activations are computed twice rather than kept

    @property
    def terms(self) -> list[str]:
        """Terms of its loss beside the rate."""
        return [] if self.kind == "entropy" else self.losses.used

    @property
    def pixels(self) -> int:
        """Pixels that a step trains on; of symbols alone, none."""
        return 0 if self.kind == "entropy" else self.batch * self.frames * self.crop**2

    @model_validator(mode="after")
    def _sound(self) -> Stage:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps")
        if self.kind in ("prior", "vae") and self.frames != 1:
            raise ValueError(f"a {self.kind} stage sees single pictures: give frames 1")
        if self.kind == "intra" and (self.frames, self.longest) != (1, 1):
            raise ValueError("an intra stage sees I-frames only: give frames 1 and longest 1")
        if self.kind in ("inter", "cascade") and self.frames < 2:
            raise ValueError(f"a {self.kind} stage needs frames 2 or more")
        if not {*self.train} <= {*ALONE.get(self.kind, self.train)}:
            parts = ", ".join(ALONE[self.kind])
            raise ValueError(f"{_a(self.kind)} stage trains of {parts}: all else stands still")
        if self.kind == "entropy" and self.losses != Losses():
            raise ValueError("an entropy stage has the rate alone: give it no losses")
        if self.kind == "entropy" and "entropy" in self.freeze:
            raise ValueError("an entropy stage that freezes entropy trains nothing")
        if self.kind != "entropy" and self.longest < self.frames:
            raise ValueError(f"longest {self.longest} is less than frames {self.frames}")
        if self.kind not in CODED_KINDS and self.passages > 1:
            raise ValueError(f"passages are what {' and '.join(CODED_KINDS)} stages code: leave them out")
        if self.noise_high <= self.noise_low:
            raise ValueError("noise_high must be above noise_low")
        return self


class Data(_Strict):
    """Folders and shards under the data folder that ``s2vc train`` is given."""

    clips: list[str] = Field([])  # folders of video files
    sequences: list[str] = Field([])  # folders of folders of pictures (Vimeo-90k's layout)
    images: list[str] = Field([])  # folders of photographs
    shards: list[str] = Field([])  # patterns of tar files made by s2vc pack
    scales: list[float] = Field([1.0, 0.6], min_length=1)
    steps: list[Literal[1, 2, 3]] = Field([1, 2], min_length=1)  # frame skipping
    in_memory: bool = False
    notes: str = ""  # what the model's card says of data and licences

    @model_validator(mode="after")
    def _sound(self) -> Data:
        if not (self.clips or self.sequences or self.shards):
            raise ValueError("name clips, sequences or shards")
        if any(not 0.2 <= scale <= 1 for scale in self.scales):
            raise ValueError("scales lie between 0.2 and 1")
        return self


class Evaluate(_Strict):
    """Coded bytes and decoded pictures of some clips while training goes on."""

    clips: list[str] = Field(min_length=1)  # under the data folder
    qualities: list[Annotated[int, Field(ge=0, le=63)]] = Field([16, 40], min_length=1)
    frames: int = Field(33, ge=1)
    every_minutes: float = Field(30.0, gt=0)
    metrics: list[Literal["psnr", "lpips_alex", "lpips_vgg", "dists"]] = Field(["psnr"], min_length=1)


class Recipe(_Strict):
    """A training run: its preset, data and stages in order."""

    preset: Literal["tiny", "base"] = "tiny"
    model: dict[str, int] = Field({})  # widths of TinyConfig other than the default
    start: str | None = None  # a model's id or path, or a run, to begin from
    prior: str | None = None  # base: Stable Diffusion, what realism holds the most likely pictures to be
    restart: list[Literal["codec", "generator"]] = Field([])  # parts that do not take over what start gives
    drop: list[Literal["csg", "tcg", "motion"]] = Field([])  # what an ablation does without, in tiny
    data: Data
    seed: int = Field(1, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    teacher: str | None = None  # of the semantic term: a name or id that s2vc.perceptual.teachers knows
    tensorboard: bool = False
    evaluate: Evaluate | None = None
    stages: list[Stage] = Field(min_length=1)


class _Impossible(Exception):
    """What only the recipe as a whole shows, with the place it is at."""

    def __init__(self, message: str, *place: int | str) -> None:
        super().__init__(message)
        self.place = place


def _check_whole(recipe: Recipe) -> None:
    known = {f.name for f in fields(TinyConfig)} if recipe.preset == "tiny" else set()
    for name in recipe.model:
        if name not in known:
            what = f"there are {', '.join(sorted(known))}" if known else f"{recipe.preset} has none to choose"
            raise _Impossible(f"{name} is no width of {recipe.preset}; {what}", "model", name)
    seen: list[Stage] = []
    if recipe.drop and recipe.preset != "tiny":
        raise _Impossible(f"{recipe.preset} can drop nothing", "drop")
    if recipe.preset == "base":
        if not recipe.start:
            raise _Impossible(
                "base begins from a run, a model folder or Stable Diffusion's: give start", "preset"
            )
        for key in ("compile", "evaluate"):
            if getattr(recipe, key):
                raise _Impossible(f"{key} is for tiny", key)
    elif recipe.prior:
        raise _Impossible("prior is for base: of tiny a prior stage is one", "prior")
    if recipe.restart and (recipe.preset != "tiny" or not recipe.start):
        raise _Impossible("restart takes new weights for parts of tiny that start would give", "restart")
    for number, stage in enumerate(recipe.stages):
        place = ("stages", number)
        _check_stage(recipe, stage, seen, place)
        seen.append(stage)
    used = {name for stage in recipe.stages for name in stage.losses.used}
    if "lpips_alex" in used and used & {"lpips_vgg", "dists"}:
        raise _Impossible(
            "lpips_alex beside lpips_vgg or dists leaves no witness: train on one of AlexNet and VGG-16",
            "stages",
        )


def _check_stage(recipe: Recipe, stage: Stage, before: list[Stage], place: tuple[int | str, ...]) -> None:
    if stage.name in [s.name for s in before]:
        raise _Impossible(f"two stages are named {stage.name}", *place, "name")
    if stage.kind == "vae" and recipe.preset == "tiny":
        raise _Impossible("tiny has no autoencoder to train", *place, "kind")
    for earlier in before:
        if KINDS.index(earlier.kind) > KINDS.index(stage.kind):
            raise _Impossible(
                f"{_a(stage.kind)} stage cannot follow {_a(earlier.kind)} stage ({earlier.name}): "
                f"the order is {', '.join(KINDS)}",
                *place,
                "kind",
            )
    kinds = [s.kind for s in before]
    trained = recipe.start or set(kinds) & set(CODEC_KINDS)
    if KINDS.index(stage.kind) > KINDS.index("cascade") and not trained:
        what = f"{_a(stage.kind)} stage needs a trained codec: put a stage before it, or start from a run"
        raise _Impossible(what, *place, "kind")
    parts = PARTS[recipe.preset]
    for key in ("train", "freeze"):
        for part in getattr(stage, key):
            if part not in parts:
                what = f"{part} is no part of {recipe.preset}; there are {', '.join(parts)}"
                raise _Impossible(what, *place, key)
    losses = stage.losses
    if recipe.preset == "base" and losses.temporal:
        raise _Impossible(
            "temporal reads motion fields, which base has none of", *place, "losses", "temporal"
        )
    if stage.kind != "realism" and (losses.adversarial or losses.dmd):
        raise _Impossible("adversarial and dmd belong into a realism stage", *place, "losses")
    if stage.kind == "realism" and recipe.preset == "base":
        if not recipe.prior:
            what = "realism of base needs Stable Diffusion: give the recipe a prior"
            raise _Impossible(what, *place, "kind")
        if stage.frames < 2 and stage.longest > 1:
            what = "realism of base is of I-frames (longest 1) or needs frames 2 or more"
            raise _Impossible(what, *place, "frames")
        if not (losses.dmd or losses.adversarial):
            raise _Impossible("realism of base is dmd or adversarial: give it one", *place, "losses")
    elif stage.critic_steps > 1:
        raise _Impossible("critic_steps is for realism of base", *place, "critic_steps")
    if losses.dmd and not recipe.start and "prior" not in kinds:
        what = "dmd needs a prior stage before it, or start from a run that had one"
        raise _Impossible(what, *place, "losses", "dmd")
    if stage.kind in CODED_KINDS and "motion" in recipe.drop:
        what = f"{_a(stage.kind)} stage learns from files, whose encoder searches motion: take it out of drop"
        raise _Impossible(what, *place, "kind")
    if stage.kind == "generator":
        for name in ("semantic", "temporal", "motion"):
            if getattr(losses, name):
                raise _Impossible(f"{name} has no place in a generator stage", *place, "losses", name)
    for name in ("temporal", "flicker", "motion"):
        if getattr(losses, name) and stage.frames < 2:
            what = f"{name} compares neighbours: it needs frames 2 or more"
            raise _Impossible(what, *place, "losses", name)
    if losses.semantic and not recipe.teacher:
        raise _Impossible("semantic needs a teacher in the recipe", *place, "losses", "semantic")


def load_recipe(path: Path, start: str | None = None) -> Recipe:
    """Read and check a recipe, with another ``start`` where one is given.

    Raises InputError that names the key, with its line where it has one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot read recipe {path} ({reason}): check the name") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        recipe = Recipe.model_validate(content)
        if start is not None:
            recipe = recipe.model_copy(update={"start": start})
        _check_whole(recipe)
    except ValidationError as error:
        first = error.errors()[0]
        unknown = first["type"] == "extra_forbidden"
        message = "there is no such key" if unknown else first["msg"].removeprefix("Value error, ")
        raise _refusal(path, node, first["loc"], message) from error
    except _Impossible as error:
        raise _refusal(path, node, error.place, str(error)) from error
    return recipe


def _refusal(path: Path, node: yaml.Node | None, place: tuple[int | str, ...], message: str) -> InputError:
    key = ".".join(str(part) for part in place) or "recipe"
    line = _line(node, place)
    return InputError(f"{path}:{line}: {key}: {message}" if line else f"{path}: {key}: {message}")


def _line(node: yaml.Node | None, path: tuple[int | str, ...]) -> int | None:
    """Line of the deepest node on ``path`` that the file has."""
    line = node.start_mark.line + 1 if node is not None else None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
