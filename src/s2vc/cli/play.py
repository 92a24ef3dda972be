"""``s2vc play``: an .s2vc file in a window."""

from __future__ import annotations

import typer

from . import options, output
from .guard import guarded


@guarded
def play(
    source: options.Stored,
    start: options.Start = None,
    conceal: options.Conceal = False,
    model: options.ModelPlace = None,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    offload: options.Offload = False,
    vae: options.LightVae = None,
    threads: options.Threads = None,
    debug: options.Debug = False,
) -> None:
    """Play an .s2vc file with mpv or ffplay; type a time to go there."""
    options.check_device(device)
    options.running(model, dtype, offload, vae)
    begin = options.parse_time(start, "--start")
    more = ["--device", device]
    more += ["--conceal"] * conceal + ["--offload"] * offload
    for option, value in (("--model", model), ("--dtype", dtype), ("--vae", vae), ("--threads", threads)):
        if value is not None:
            more += [option, str(value)]

    from ..api.playing import play as play_file

    code = play_file(source, start=begin, options=more, say=output.say)
    if code:
        raise typer.Exit(code)
