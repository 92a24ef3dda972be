"""``s2vc verify``: read every symbol, check every checksum."""

from __future__ import annotations

from . import options, output
from .guard import end_damaged, guarded


@guarded
def verify(
    source: options.Stored,
    model: options.ModelPlace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Read every symbol of an .s2vc file and check every checksum, without torch; exit 3 on damage."""
    from .. import api

    result = api.verify(source, model=model)
    if json:
        output.print_json(result)
    if result.damaged:
        end_damaged(result.damaged)
    if not quiet:
        output.say(f"{source}: {result.frames} frames, every symbol read, every checksum right")
