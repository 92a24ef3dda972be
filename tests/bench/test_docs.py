"""What docs/benchmarks.md and README say is what the committed results say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("bjontegaard")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "make_docs.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    if not SCRIPT.is_file():
        pytest.skip("no benchmarks here: not a checkout")
    spec = importlib.util.spec_from_file_location("make_docs", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(script: ModuleType) -> dict[Path, str]:
    return script.made()


def test_texts_and_results_agree(script: ModuleType, made: dict[Path, str]) -> None:
    assert {script.PAGE, script.README} <= set(made)
    for path, content in made.items():
        committed = path.read_text(encoding="utf-8")
        drawn_by = re.search(r"Matplotlib v([0-9.]+)", committed) if path.suffix == ".svg" else None
        if drawn_by and drawn_by[1] != matplotlib.__version__:
            continue  # another version draws other paths of the same points
        assert committed == content, f"{path.name} and the results differ: make benchmarks-docs"


def test_readme_keeps_what_is_outside_the_marks(script: ModuleType, made: dict[Path, str]) -> None:
    before, after = (script.README.read_text().split(mark) for mark in (script.BEGIN, script.END))
    readme = made[script.README]
    assert readme.startswith(before[0] + script.BEGIN) and readme.endswith(script.END + after[1])
