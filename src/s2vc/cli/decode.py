"""``s2vc decode``: an .s2vc file into a video file, a pipe or pictures."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options, output
from .guard import end_damaged, end_differing, guarded, warn


@guarded
def decode(
    source: options.Stored,
    target: Annotated[
        str,
        typer.Argument(metavar="OUT", help=".mp4, .mkv, .y4m, a folder or pattern of PNG, or - for y4m."),
    ],
    start: options.Start = None,
    duration: options.Duration = None,
    frames: options.Frames = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="FFV1 in .mkv: every pixel kept.")] = False,
    conceal: options.Conceal = False,
    model: options.ModelPlace = None,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    offload: options.Offload = False,
    vae: options.LightVae = None,
    threads: options.Threads = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Decode an .s2vc file into a video."""
    options.check_extent(duration, frames)
    options.check_stdout_free(target, json)
    options.check_device(device)
    begin = options.parse_time(start, "--start")
    length = options.parse_time(duration, "--duration")

    running = options.running(model, dtype, offload, vae)

    from .. import api

    with output.Progress("decode", quiet=quiet) as progress:
        result = api.decode(
            source,
            target,
            model=api.load(model, device, **running) if model and running else model,
            start=begin,
            duration=length,
            frames=frames,
            lossless=lossless,
            conceal=conceal,
            device=device,
            overwrite=overwrite,
            threads=threads,
            progress=progress,
        )
    for message in result.warnings:
        warn(message)
    if json:
        output.print_json(result)
    if not quiet:
        speed = result.frames / max(result.seconds, 1e-6)
        output.say(f"{target}: {result.frames} frames, {speed:.1f} frames/s")
    if verbose:
        output.say(f"device {device}, {result.seconds:.1f} s")
    if result.differs:
        if result.damaged:
            warn(result.damaged)
        end_differing(result.differs)
    if result.damaged:
        end_damaged(result.damaged)
