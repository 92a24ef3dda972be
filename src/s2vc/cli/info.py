"""``s2vc info``: what an .s2vc file says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options, output
from .guard import end_damaged, guarded


@guarded
def info(
    source: options.Stored,
    frames: Annotated[bool, typer.Option("--frames", help="A table of the frames, too.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Plot the frames' sizes and qualities.")
    ] = None,
    model: options.ModelPlace = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Say what is in an .s2vc file; needs no model and no torch. A base model names the rate point, too."""
    from .. import api

    result = api.info(source, frame_list=frames or plot is not None, model=model)
    if plot is not None:
        from ..api.plots import plot_frames

        plot_frames(result.frame_list or [], plot, title=str(source), overwrite=overwrite)
    facts = output.plain(result)
    listed = facts.pop("frame_list", None)
    if json:
        output.print_json({**facts, "frame_list": listed} if frames else facts)
    else:
        if facts["profile"] and facts["points"] is None:
            facts["points"] = "give --model to name them"
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            if value is not None:
                print(f"{name.replace('_', ' '):{width}}  {_text(value)}")
        if frames:
            _print_table(listed)
    if facts["damaged"]:
        end_damaged(facts["damaged"])


def _print_table(frames: list[dict[str, Any]]) -> None:
    """A line a frame; ``*`` where a chunk begins."""
    print(f"\n{'frame':>7}   {'seconds':>10}  kind     quality  {'bytes':>7}")
    for frame in frames:
        kind = "I" if frame["kind"] == "I" else "P reset" if frame["reset"] else "P"
        print(
            f"{frame['number']:>7} {'*' if frame['opens'] else ' '} {frame['time']:>10.3f}  {kind:<7}  "
            f"{frame['quality']:>7}  {frame['bytes']:>7}"
        )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        said = [f"{name.replace('_', ' ')} {_text(item)}" for name, item in value.items() if item != ""]
        return ", ".join(said) or "none"
    if isinstance(value, list):
        return "; ".join(_text(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
