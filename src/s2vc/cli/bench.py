"""``s2vc bench``: codecs against each other, and how fast this one is here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options, output
from .guard import guarded

app = typer.Typer(help="Measure: quality against size, and speed.", no_args_is_help=True)

Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Weights of LPIPS and DISTS (default: the folder S2VC_WEIGHTS_DIR names)."
    ),
]
Folders = Annotated[list[Path], typer.Argument(metavar="DIR…", help="Folders of results of `bench run`.")]


@app.command("run")
@guarded
def run(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="Clips, codecs, points and metrics.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="One JSON a result goes here.")],
    weights_dir: Weights = None,
    device: options.Device = "cpu",
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Keep the coded files, too.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="CODEC", help="Run only this codec of the spec (repeatable).")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="Run s2vc with this model, not the spec's.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, metavar="N", help="Clips coded and measured side by side.")
    ] = 1,
    debug: options.Debug = False,
) -> None:
    """Code clips at several points with several codecs and measure what comes back; results found stand."""
    options.check_device(device)

    from ..bench import run_bench

    run_bench(
        spec,
        out,
        weights_dir=weights_dir,
        device=device,
        keep_files=keep_files,
        only=only or (),
        model=model,
        workers=workers,
    )


@app.command("table")
@guarded
def table(folders: Folders, json: options.Json = False, debug: options.Debug = False) -> None:
    """Means over the clips, point by point."""
    from ..bench import summarise_bench

    facts, text = summarise_bench(folders)
    output.print_json(facts) if json else print(text)


@app.command("compare")
@guarded
def compare(
    folders: Folders,
    anchor: Annotated[
        list[str] | None,
        typer.Option(metavar="CODEC", help="Against which codec (repeatable; default x265)."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="In which metric (repeatable; default dists).")
    ] = None,
    rates: Annotated[
        str | None, typer.Option(metavar="LOW-HIGH", help="Only between these bits a pixel.")
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """BD-rates of all codecs against one, clip by clip, then averaged."""
    between = options.parse_range(rates, "--rates")

    from ..bench import compare_bench

    facts, text = compare_bench(folders, anchor or ("x265",), metric or ("dists",), between)
    output.print_json(facts) if json else print(text)


@app.command("report")
@guarded
def report(
    folders: Folders,
    out: options.PageFolder = Path("report"),
    clips: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the clips are (default: the folder S2VC_DATA_DIR names)."),
    ] = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write a page with plots, tables and a player of the pictures that `bench run --keep-files` kept."""
    from ..bench.report import write_report

    page = write_report(folders, out, clips=clips, say=(lambda line: None) if quiet else output.say)
    if not quiet:
        output.say(f"{page}: open it in a browser")


@app.command("drift")
@guarded
def drift(
    source: Annotated[Path, typer.Argument(metavar="CLIP|FILE.s2vc", help="What to code, or a coded file.")],
    model: options.ModelName = "tiny",
    quality: Annotated[
        list[int] | None, typer.Option(min=0, max=63, help="Code at this quality (repeatable; default 32).")
    ] = None,
    frames: options.Frames = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,…",
            help="An arithmetic to decode under (repeatable): threads=N, onednn=on|off, coretype=NAME, "
            "instructions=native|avx2|sse41, dtype=float32|bfloat16. The first encodes.",
        ),
    ] = None,
    each_encodes: Annotated[
        bool, typer.Option("--each-encodes", help="Every setting encodes, too; all decode each file.")
    ] = False,
    palindrome: Annotated[
        int, typer.Option(min=0, metavar="N", help="Play the clip forward and backward N times.")
    ] = 0,
    adapt: Annotated[
        bool,
        typer.Option("--adapt", help="Encode with --adapt; pictures are compared with the first setting's."),
    ] = False,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Metrics by pass (default lpips-vgg).")
    ] = None,
    step: Annotated[int, typer.Option(min=1, metavar="N", help="Every N-th frame of a pass counts.")] = 1,
    weights_dir: Weights = None,
    out: options.Report = None,
    debug: options.Debug = False,
) -> None:
    """How far pictures of different arithmetics part over time, and what repeated content loses."""
    from ..bench import run_drift

    run_drift(
        source,
        out,
        model=model,
        qualities=quality or (32,),
        frames=frames,
        settings=setting or (),
        each_encodes=each_encodes,
        palindrome=palindrome,
        adapt=adapt,
        metrics=metric or ("lpips-vgg",),
        step=step,
        weights_dir=weights_dir,
    )


@app.command("speed")
@guarded
def speed(
    clip: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Footage, scaled to 426x240 (default: drawn).")
    ] = None,
    model: options.ModelName = "tiny",
    quality: Annotated[int, typer.Option(min=0, max=63, help="The quality to code at.")] = 32,
    threads: options.Threads = None,
    frames: Annotated[int, typer.Option(min=1, metavar="N", help="Frames to time.")] = 100,
    long_frames: Annotated[
        int, typer.Option(min=0, metavar="N", help="Frames of the run whose memory is compared; 0: none.")
    ] = 400,
    out: options.Report = None,
    debug: options.Debug = False,
) -> None:
    """Time the networks and everything else, as ratios to a convolution measured in the same run."""
    from ..bench import run_speed

    run_speed(
        out,
        clip=clip,
        model=model,
        quality=quality,
        threads=threads,
        frames=frames,
        long_frames=long_frames,
    )
