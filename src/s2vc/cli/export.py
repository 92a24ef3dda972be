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
    target: Annotated[Path, typer.Argument(metavar="MODEL", help="The model file to write.")],
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write a model file from a training checkpoint."""
    from .. import training

    written = training.export(checkpoint, target, overwrite=overwrite)
    if not quiet:
        output.say(f"{target}: {written}")
