"""``s2vc encode``: a video file, a pipe or pictures into an .s2vc file."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options, output
from .guard import end_damaged, guarded, warn


@guarded
def encode(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Video file, PNG folder or pattern, or - for y4m on stdin.")
    ],
    target: Annotated[str, typer.Argument(metavar="OUT.s2vc", help="The file to write, or - for stdout.")],
    model: Annotated[str, typer.Option(metavar="NAME|PATH", help="The model.")] = "tiny",
    quality: Annotated[int, typer.Option(min=0, max=63, help="Higher is better, and larger.")] = 32,
    keyint: Annotated[
        str | None,
        typer.Option(
            metavar="auto|N|10s",
            help="I-frames every N frames or seconds; auto (the default): at scene cuts, and every 10 s.",
        ),
    ] = None,
    min_keyint: Annotated[
        str | None,
        typer.Option(metavar="N|0.5s", help="With auto: no I-frame for a cut nearer to the last (0.5s)."),
    ] = None,
    low_delay: Annotated[
        bool, typer.Option("--low-delay", help="Each frame leaves at once, for live use; a little larger.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on where a run was stopped; its work waits in OUT.s2vc.part."),
    ] = False,
    audio: Annotated[
        str, typer.Option(metavar="copy|opus|none", help="Keep the sound as it is, code it anew, or drop it.")
    ] = "copy",
    device: options.Device = "auto",
    threads: options.Threads = None,
    start: options.Start = None,
    duration: options.Duration = None,
    frames: options.Frames = None,
    scale: Annotated[
        str | None, typer.Option(metavar="WxH", help="Scale the pictures before they are coded.")
    ] = None,
    recon: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the pictures that a decoder will show, too (slower)."),
    ] = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Encode a video into an .s2vc file."""
    options.check_extent(duration, frames)
    options.check_stdout_free(target, json)
    options.check_device(device)
    options.check_choice(audio, ("copy", "opus", "none"), "--audio")
    interval = options.parse_keyint(keyint)
    shortest = options.parse_keyint(min_keyint, "--min-keyint")
    size = options.parse_size(scale, "--scale")
    begin = options.parse_time(start, "--start")
    length = options.parse_time(duration, "--duration")

    from .. import api

    with output.Progress("encode", quiet=quiet) as progress:
        result = api.encode(
            source,
            target,
            model=model,
            quality=quality,
            keyint=interval,
            min_keyint=shortest,
            low_delay=low_delay,
            resume=resume,
            audio=audio,
            device=device,
            start=begin,
            duration=length,
            frames=frames,
            scale=size,
            recon=recon,
            overwrite=overwrite,
            threads=threads,
            progress=progress,
        )
    for message in result.warnings:
        warn(message)
    if json:
        output.print_json(result)
    if not quiet:
        video = ""
        if result.video_bytes < result.bytes:
            video = f" (video {result.video_bpp:.4f} bpp, {result.video_kbps:.1f} kbit/s)"
        output.say(
            f"{target}: {result.frames} frames, {output.size_text(result.bytes)}, {result.bpp:.4f} bpp, "
            f"{result.kbps:.1f} kbit/s{video}, {result.frames / max(result.seconds, 1e-6):.1f} frames/s"
        )
    if verbose:
        output.say(f"model {model}, quality {quality}, device {device}, {result.seconds:.1f} s")
    if result.damaged:
        end_damaged(result.damaged)
