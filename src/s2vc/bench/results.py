"""Result files: JSON objects that appear whole or not at all, and what they say of the machine."""

from __future__ import annotations

import json
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

from s2vc.errors import InputError, OutputError

SCHEMA = 1
FILES = ".files"
"""Folder of coded files beside results; nothing in it is a result."""
Result = dict[str, Any]


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


def load_results(*folders: str | Path) -> list[Result]:
    """Every result under the folders, failed ones among them, by clip, codec, variant and rate.

    Raises InputError for a folder that is missing or holds no result, and for a JSON file that is broken or
    lacks what a result has.
    """
    found = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"no folder {folder}: name one that s2vc bench run has written")
        for path in sorted(folder.rglob("*.json")):
            if FILES in path.parts:
                continue
            content = read_json(path)
            if content is None:
                raise InputError(f"{path} is no JSON object: remove it, and s2vc bench run makes it again")
            if "codec" in content and "label" in content:
                _check(content, path)
                found.append(content)
    if not found:
        shown = ", ".join(str(folder) for folder in folders)
        raise InputError(f"no results in {shown}: name a folder that s2vc bench run has written")
    return sorted(found, key=lambda r: (r["clip"]["name"], r["codec"], r["variant"], r.get("bpp", 0)))


def _check(result: Result, path: Path) -> None:
    try:
        sound = all(isinstance(result[key], str) for key in ("codec", "variant", "label"))
        sound = sound and isinstance(result["clip"]["name"], str)
        if "error" not in result:
            numbers = [result[key] for key in ("bytes", "bpp", "frames")]
            for metric in result["metrics"].values():
                numbers += [metric["mean"], *metric.get("frames", ())]
            sound = sound and all(isinstance(number, (int, float)) for number in numbers)
            sound = sound and result["bpp"] > 0
            sound = sound and isinstance(result["settings"], dict)
    except (KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise InputError(f"{path} is no result of s2vc bench: remove it, and s2vc bench run makes it again")
