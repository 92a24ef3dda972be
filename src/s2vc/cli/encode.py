"""``s2vc encode``: a video file, a pipe or pictures into an .s2vc file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import TargetError
from . import options, output
from .guard import end_damaged, guarded, warn

if TYPE_CHECKING:
    from ..api import EncodePlan


@guarded
def encode(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Video file, PNG folder or pattern, or - for y4m on stdin.")
    ],
    target: Annotated[
        str | None, typer.Argument(metavar="OUT.s2vc", help="The file to write, or - for stdout.")
    ] = None,
    model: options.ModelName = "tiny",
    quality: Annotated[
        int | None, typer.Option(min=0, max=63, help="Higher is better, and larger (default: 32).")
    ] = None,
    bitrate: options.Bitrate = None,
    target_size: options.TargetSize = None,
    bpp: options.BitsAPixel = None,
    max_bitrate: options.MaxBitrate = None,
    bufsize: options.BufferSize = None,
    passes: options.Passes = None,
    quality_target: options.QualityTarget = None,
    strict: options.Strict = False,
    plan: options.Plan = False,
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
    adapt: Annotated[
        bool,
        typer.Option("--adapt", help="Fit the generator to each scene: sharper, and far slower."),
    ] = False,
    audio: Annotated[
        str, typer.Option(metavar="copy|opus|none", help="Keep the sound as it is, code it anew, or drop it.")
    ] = "copy",
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    offload: options.Offload = False,
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
    if target is None and not plan:
        raise typer.BadParameter("missing: name the file to write", param_hint="OUT.s2vc")
    options.check_stdout_free(target or "", json)
    options.check_device(device)
    options.check_choice(audio, ("copy", "opus", "none"), "--audio")
    interval = options.parse_keyint(keyint)
    shortest = options.parse_keyint(min_keyint, "--min-keyint")
    size = options.parse_size(scale, "--scale")
    begin = options.parse_time(start, "--start")
    length = options.parse_time(duration, "--duration")
    wishes: dict[str, object] = {
        "--bitrate": bitrate,
        "--target-size": target_size,
        "--bpp": bpp,
        "--target": quality_target,
    }
    options.check_wishes(quality, wishes, max_bitrate, bufsize, passes)
    if adapt:
        excluding = {
            "--low-delay": low_delay,
            "--resume": resume,
            "--recon": recon,
            "--max-bitrate": max_bitrate,
            "--target": quality_target,
            "--plan": plan,
        }
        options.check_alone("--adapt", excluding)
    common: dict[str, Any] = {
        "model": model,
        "quality": 32 if quality is None else quality,
        "keyint": interval,
        "device": device,
        "start": begin,
        "duration": length,
        "frames": frames,
        "scale": size,
        "threads": threads,
        "bitrate": options.parse_bits(bitrate, "--bitrate"),
        "target_size": options.parse_bytes(target_size, "--target-size"),
        "bpp": options.check_positive(bpp, "--bpp"),
        "quality_target": options.parse_target(quality_target),
    }
    running = options.running(model, dtype, offload)
    highest = options.parse_bits(max_bitrate, "--max-bitrate")
    buffer = options.parse_bits(bufsize, "--bufsize")

    from .. import api

    if running:
        common["model"] = api.load(model, device, **running)
    if plan or target is None:
        return _say_plan(api.plan(source, **common), json, strict)
    with output.Progress("encode", quiet=quiet) as progress:
        result = api.encode(
            source,
            target,
            **common,
            min_keyint=shortest,
            low_delay=low_delay,
            resume=resume,
            audio=audio,
            recon=recon,
            overwrite=overwrite,
            max_bitrate=highest,
            bufsize=buffer,
            passes=passes,
            strict=strict,
            adapt=adapt,
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
        output.say(f"model {model}, device {device}, {result.seconds:.1f} s")
    if result.damaged:
        end_damaged(result.damaged)


def _say_plan(found: EncodePlan, json: bool, strict: bool) -> None:
    """The estimate, one line, or one object on stdout."""
    if json:
        output.print_json(found)
    else:
        value = "" if found.value is None else f", {found.metric} {found.value:.4g}"
        print(
            f"quality {found.quality}: about {output.size_text(found.bytes)}, {found.bpp:.4f} bpp, "
            f"{found.kbps:.1f} kbit/s{value}, {found.frames} frames"
        )
    if not found.met:
        if strict:
            raise TargetError("what was asked for cannot be met: choose something nearer to the estimate")
        warn("what was asked for cannot be met: this is the nearest")
