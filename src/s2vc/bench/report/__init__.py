"""Pages to look at: the report of folders of results, and a player for two files.

A page is ``index.html`` with everything in it but pictures, which lie in ``media`` beside it and are loaded
when they are looked at. It needs no server and no network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from s2vc import __version__
from s2vc.bench.report.data import (
    find_kept,
    frame_figures,
    measured_tables,
    report_data,
    settings_tables,
)
from s2vc.bench.report.page import check_target, dump, plotly, write_page
from s2vc.bench.report.sides import Say, add_pictures, view_sides
from s2vc.bench.report.trained import trained_metrics
from s2vc.bench.results import Result, load_results
from s2vc.errors import InputError


def write_report(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    clips: str | Path | None = None,
    say: Say = lambda line: None,
) -> Path:
    """Write the report of ``folders`` (of ``s2vc bench run``) to ``out``/index.html; the page's path.

    ``clips``: where the sources are looked for by name and digest; None: the folder that S2VC_DATA_DIR names.
    Pictures come from files that runs kept, and those made before are used again. ``say`` gets a line for
    each clip that is being prepared. Raises InputError for folders without sound results, OutputError where
    nothing can be written.
    """
    places = [Path(folder) for folder in folders]
    results = load_results(*places)
    page = check_target(Path(out))
    data = report_data(places, results)
    add_pictures(data, results, find_kept(places), page.parent, clips, say)
    figures = frame_figures(results)
    by_clip: dict[int, dict[int, Any]] = {}
    for index, point in enumerate(data["points"]):
        by_clip.setdefault(point["clip"], {})[index] = figures[index]
    failed = [result for result in results if "error" in result]
    write_page(
        page,
        ["common.js", "player.js", "plots.js", "tables.js", "report.js"],
        {"data": data},
        {"plotly": plotly()} | {f"frames-{clip}": dump(one) for clip, one in by_clip.items()},
        kind="report",
        title=_title(results),
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        settings=settings_tables(results),
        measured=measured_tables(results),
        failed=failed,
        counts={"clips": len(data["clips"]), "results": len(results) - len(failed), "failed": len(failed)},
        unknown_models=_unknown_models(results),
    )
    return page


def write_view(
    a: str | Path,
    b: str | Path,
    out: str | Path,
    *,
    source: str | Path | None = None,
    frames: int | None = None,
    model: str | None = None,
    device: str = "auto",
    say: Say = lambda line: None,
) -> Path:
    """Write a player of two files (videos or ``.s2vc``) to ``out``/index.html; the page's path.

    ``source`` is a third, shown beside them; ``frames``: at most so many of each; ``model``: of ``.s2vc``
    files whose model the package has not. Frames are paired by their index, as the bench does; the rate is
    the first file's that has one. Raises InputError where a file cannot be read, OutputError where nothing
    can be written.
    """
    named = {"source": source, "a": a, "b": b}
    paths = {side: Path(path) for side, path in named.items() if path is not None}
    for path in paths.values():
        if not path.exists():
            raise InputError(f"no file {path}: check the name")
    page = check_target(Path(out))
    sides = view_sides(paths, page.parent, frames, model, device, say)
    write_page(
        page,
        ["common.js", "player.js", "view.js"],
        {"data": sides},
        {},
        kind="view",
        title=f"{Path(a).name} and {Path(b).name}",
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )
    return page


def _title(results: Sequence[Result]) -> str:
    codecs = sorted({result["codec"] for result in results})
    shown = ", ".join(codecs[:4]) + (f" and {len(codecs) - 4} more" if len(codecs) > 4 else "")
    return re.sub(r"\s+", " ", shown)


def _unknown_models(results: Sequence[Result]) -> list[str]:
    """Models of ours whose card is not here: their training is not known."""
    models = {
        str(result["settings"].get("model"))
        for result in results
        if "error" not in result and result["settings"].get("codec") == "s2vc"
    }
    return sorted(model for model in models if trained_metrics(model) is None)
