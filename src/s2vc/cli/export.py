"""``s2vc export``: a training checkpoint into a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options, output
from .guard import guarded


@guarded
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint or a run's folder.")],
    target: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The model file (of base: folder) to write.")
    ],
    model_id: Annotated[
        str | None, typer.Option("--id", metavar="NAME", help="The model's id (default: the file's name).")
    ] = None,
    average: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OTHER",
            help="Another run or model behind the same codec (may be repeated): the generator is the mean.",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write a model file from a training checkpoint."""
    from ..training.export import export as write

    described = write(checkpoint, target, average=average or (), model_id=model_id, overwrite=overwrite)
    if not quiet:
        output.say(f"{target}: {described}")
