"""Result files: JSON objects that appear whole or not at all, and what they say of the machine."""

from __future__ import annotations

import json
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

from s2vc.errors import OutputError

SCHEMA = 1
FILES = ".files"
"""Folder of coded files beside results; nothing in it is a result."""


@cache
def machine() -> dict[str, Any]:
    """What the numbers were made on."""
    model = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write beside the final name, then rename. Raises OutputError."""
    make_folder(path.parent)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(dump_json(content), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def dump_json(content: dict[str, Any]) -> str:
    """Indented, but long lists of numbers on one line: files are read by people and kept in git."""
    return _dump(content, "") + "\n"


def _dump(value: Any, indent: str) -> str:
    if isinstance(value, dict) and value:
        inner = ",\n".join(
            f"{indent}  {json.dumps(key)}: {_dump(item, indent + '  ')}" for key, item in value.items()
        )
        return "{\n" + inner + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        inner = ",\n".join(f"{indent}  {_dump(item, indent + '  ')}" for item in value)
        return "[\n" + inner + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def make_folder(path: Path) -> None:
    """The folder and those above it. Raises OutputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder {path} cannot be made: {error.strerror}") from error
