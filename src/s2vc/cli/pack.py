"""``s2vc pack``: footage into shards for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options, output
from .guard import guarded, warn


@guarded
def pack(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE…", help="Videos, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The shards' folder.")],
    scale: Annotated[
        list[float] | None, typer.Option(min=0.2, max=1, help="Sizes to keep (give it again for more).")
    ] = None,
    step: Annotated[
        list[int] | None,
        typer.Option(min=1, max=3, help="Frames to step by (give it again for more)."),
    ] = None,
    shortest: Annotated[int, typer.Option(min=2, help="Leave out scenes of fewer frames.")] = 8,
    longest: Annotated[int, typer.Option(min=2, help="Split scenes of more frames.")] = 96,
    shard_size: Annotated[
        int, typer.Option(min=1, metavar="MB", help="Begin a new shard at this size.")
    ] = 1024,
    keep_all: Annotated[
        bool, typer.Option("--keep-all", help="Keep flat, blurred and blocky scenes too.")
    ] = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Pack footage into shards: split at scene cuts, decoded, with its motion searched."""
    from ..training.pack import pack as write

    packed = write(
        sources,
        out,
        scales=scale or [1.0],
        steps=step or [1],
        shortest=shortest,
        longest=longest,
        shard_bytes=shard_size << 20,
        keep_all=keep_all,
        warn=warn,
    )
    if not quiet:
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(packed.dropped.items())) or "none"
        output.say(
            f"{out}: {packed.scenes} scenes, {packed.frames} frames in {packed.shards} shards; "
            f"left out: {dropped}; clips skipped: {packed.skipped}"
        )
