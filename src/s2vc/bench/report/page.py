"""From data to one HTML file: styles, scripts and data are inside it, and it opens from ``file://``.

Everything a result or a file's name brings in goes one of two ways, and both are safe with any character:
through Jinja with escaping on, or as JSON that is packed to base64 and set by the scripts as text, never as
HTML.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from s2vc.bench.results import make_folder
from s2vc.errors import OutputError

GENERATOR = "s2vc page"
_MARK = f'<meta name="generator" content="{GENERATOR}">'


def check_target(folder: Path) -> Path:
    """The page's path, its folder made. Raises OutputError where another's index.html would be lost."""
    page = folder / "index.html"
    try:
        head = page.read_text(encoding="utf-8", errors="replace")[:2000] if page.exists() else _MARK
    except OSError as error:
        raise OutputError(f"{page} cannot be read: {error.strerror}") from error
    if _MARK not in head:
        raise OutputError(f"{page} is no page of s2vc: name another folder with --out")
    make_folder(folder)
    return page


def write_page(
    page: Path, scripts: list[str], data: Mapping[str, Any], packed: Mapping[str, bytes], **context: Any
) -> None:
    """Render ``page.html.j2`` with ``context`` and write it whole.

    ``scripts`` are names of assets, run in order. ``data`` (JSON values) and ``packed`` (bytes) are what the
    scripts find by name. Raises OutputError.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    assets = files("s2vc.bench.report") / "assets"

    def asset(name: str) -> str:
        return (assets / name).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    blocks = {name: pack(dump(value)) for name, value in data.items()}
    blocks |= {name: pack(content) for name, content in packed.items()}
    text = environment.from_string(asset("page.html.j2")).render(
        mark=Markup(_MARK),
        style=Markup(asset("style.css")),
        scripts=[Markup(asset(name)) for name in scripts],
        blocks=blocks,
        **context,
    )
    part = page.with_name(f".{page.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(page)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{page} cannot be written: {error.strerror}") from error


def pack(content: bytes) -> str:
    """gzip and base64: small, and nothing in it can end a script element. The same for the same content."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")


def dump(value: Any) -> bytes:
    """JSON as a browser reads it: what is no number is null."""
    return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        errors="replace"
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def plotly() -> bytes:
    """plotly.js as the package brings it: the page needs no network."""
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    return get_plotlyjs().encode()
