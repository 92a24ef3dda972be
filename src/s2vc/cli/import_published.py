"""``s2vc import-published``: the authors' release into a model folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from . import options, output
from .guard import guarded

LICENCES = (
    "licences: the release is CC BY-NC-SA 4.0 (no commercial use); Stable Diffusion's weights are under "
    "CreativeML Open RAIL-M; both bind what you make of them"
)


@contextmanager
def _bar(verb: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    shown = not quiet and sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(24), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown) as bar:
        task = bar.add_task(verb, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@guarded
def import_published(
    release: Annotated[Path, typer.Argument(metavar="RELEASE_DIR", help="Holds I_ckpts, P_ckpts, SD_ckpts.")],
    target: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="The model folder to write.")],
    points: Annotated[
        str, typer.Option("--points", metavar="LIST", help="Rate points: all, or names: 0.2,0.4.")
    ] = "all",
    dtype: Annotated[str, typer.Option("--dtype", help="fp16, bf16 or fp32.")] = "fp16",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say sizes, check, write nothing.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read back and compare every tensor.")] = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Make a model of the published S²VC release."""
    from ..models.published_import import check_release, describe_sizes, import_release, verify_import

    wanted = None if points == "all" else [name.strip() for name in points.split(",")]
    if not quiet:
        output.say(LICENCES)
    if dry_run:
        for line in describe_sizes(release, wanted, dtype):
            print(line)
        output.say(check_release(release, wanted))
        return
    with _bar("import", quiet) as progress:
        model = import_release(release, target, wanted, dtype, progress=progress)
    if verify:
        with _bar("verify", quiet) as progress:
            compared = verify_import(release, target, progress=progress)
        if not quiet:
            output.say(f"{target}: {compared} tensors compared with the release, all equal")
    if not quiet:
        output.say(f"{target}: {model.id} ({model.digest.hex()[:16]}), points {', '.join(model.points)}")
