"""``s2vc train``: a recipe into weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .guard import guarded


@guarded
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train, stage by stage.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Checkpoints and logs go here.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in DIR.")] = False,
    budget: Annotated[
        float | None, typer.Option(min=0, metavar="MINUTES", help="Stop after so many; --resume goes on.")
    ] = None,
    debug: options.Debug = False,
) -> None:
    """Train a model by a recipe; stops and goes on exactly."""
    from .. import training

    training.run(recipe, out, resume=resume, budget=budget)
