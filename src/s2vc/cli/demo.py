"""``s2vc demo``: real footage there and back, with figures and a strip to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options, output
from .guard import guarded, warn


@guarded
def demo(
    source: Annotated[
        str | None, typer.Argument(metavar="[INPUT]", help="A video (default: the extra demo's clip).")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the files go.")] = Path(
        "demo-out"
    ),
    model: options.ModelName = "tiny",
    quality: Annotated[int, typer.Option(min=0, max=63, help="Higher is better, and larger.")] = 32,
    frames: Annotated[int, typer.Option(min=1, metavar="N", help="Frames to code.")] = 96,
    scale: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Code at this size (default: 240 lines where the input has more)."),
    ] = None,
    device: options.Device = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Encode and decode real footage, print sizes, quality and speed, write pictures beside x265's."""
    options.check_device(device)
    size = options.parse_size(scale, "--scale")

    from ..bench.demo import report, run

    result = run(
        source,
        out,
        model=model,
        quality=quality,
        frames=frames,
        scale=size,
        device=device,
        say=(lambda line: None) if quiet else output.say,
    )
    for message in result.warnings:
        warn(message)
    if json:
        output.print_json(result)
    elif not quiet:
        print(report(result))
