"""``s2vc info``: what an .s2vc file says of itself."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import options, output
from .guard import end_damaged, guarded


@guarded
def info(
    source: Annotated[str, typer.Argument(metavar="FILE", help="An .s2vc file, or - for stdin.")],
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Say what is in an .s2vc file; needs no model and no torch."""
    from .. import api

    facts = output.plain(api.info(source))
    if json:
        output.print_json(facts)
    else:
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            if value is not None:
                print(f"{name.replace('_', ' '):{width}}  {_text(value)}")
    if facts["damaged"]:
        end_damaged(facts["damaged"])


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_text(item)}" for name, item in value.items())
    if isinstance(value, list):
        return "; ".join(_text(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
