"""The command ``s2vc``: its sub-commands and ``--version``."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import bench, decode, demo, encode, export, import_published, info, pack, play, train, verify, view

app = typer.Typer(
    name="s2vc",
    help="A learned video codec for very low bit rates.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"s2vc {__version__}")
        raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A learned video codec for very low bit rates."""


app.command("encode")(encode.encode)
app.command("decode")(decode.decode)
app.command("info")(info.info)
app.command("verify")(verify.verify)
app.command("play")(play.play)
app.command("view")(view.view)
app.command("demo")(demo.demo)
app.add_typer(bench.app, name="bench")
app.command("pack")(pack.pack)
app.command("train")(train.train)
app.command("export")(export.export)
app.command("import-published")(import_published.import_published)


def run() -> None:
    """Run the command line on ``sys.argv`` and end the process."""
    app(prog_name="s2vc")
