"""``s2vc bench``: codecs against each other, and how fast this one is here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .guard import guarded

app = typer.Typer(help="Measure: quality against size, and speed.", no_args_is_help=True)


@app.command("run")
@guarded
def run(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="Clips, codecs, points and metrics.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="One JSON a result goes here.")],
    debug: options.Debug = False,
) -> None:
    """Code clips at several points with several codecs and measure what comes back."""
    from ..bench import run_bench

    run_bench(spec, out)


@app.command("speed")
@guarded
def speed(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the JSON here, too.")
    ] = None,
    debug: options.Debug = False,
) -> None:
    """Time the networks and everything else, as ratios to a convolution measured in the same run."""
    from ..bench import run_speed

    run_speed(out)
