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
    data: Annotated[
        Path, typer.Option(metavar="DIR", envvar="S2VC_DATA_DIR", help="The footage that the recipe names.")
    ],
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Decoded footage is kept here (default: OUT/cache).")
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="RUN|MODEL", help="Begin from another run's weights, or a model's.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in DIR.")] = False,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Stop after 90m, 2h or 45s; --resume goes on."),
    ] = None,
    debug: options.Debug = False,
) -> None:
    """Train a model by a recipe; stops and goes on exactly."""
    seconds = options.parse_time(budget, "--budget")
    from ..training.loop import train as run_recipe

    run_recipe(
        recipe,
        out,
        data=data,
        cache=cache or out / "cache",
        resume=resume,
        start=start,
        budget_minutes=None if seconds is None else float(seconds / 60),
    )
