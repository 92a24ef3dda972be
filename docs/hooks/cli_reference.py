"""MkDocs: the page reference/cli.md, made from the commands themselves."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File, Files


def cli_reference() -> str:
    """Every command of ``s2vc`` with its arguments and options, as Markdown."""
    import typer
    from typer.cli import get_docs_for_click

    from s2vc.cli.app import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="s2vc")
    page = get_docs_for_click(obj=command, ctx=context, name="s2vc")
    return page.replace("# `s2vc`", "# Command line", 1)


def on_files(files: Files, config: Any) -> Files:
    files.append(File.generated(config, "reference/cli.md", content=cli_reference()))
    return files
