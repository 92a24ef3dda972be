"""``s2vc view``: a page with a player of two files, to compare them frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options, output
from .guard import guarded


@guarded
def view(
    a: Annotated[Path, typer.Argument(metavar="A", help="A video or an .s2vc file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    source: Annotated[
        Path | None, typer.Option("--source", "-s", metavar="FILE", help="What both were made from.")
    ] = None,
    out: options.PageFolder = Path("view"),
    frames: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many frames of each.")] = 300,
    model: options.ModelPlace = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write a page that shows two files in step, split by a wipe; it opens without a server."""
    options.check_device(device)

    from ..bench.report import write_view

    say = (lambda line: None) if quiet else output.say
    page = write_view(a, b, out, source=source, frames=frames, model=model, device=device, say=say)
    say(f"{page}: open it in a browser")
