"""Which metrics a model was trained on, from its card: such a metric is no witness for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any


def models_trained_on(results: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """metric -> the models among the results that were trained on it."""
    models = {
        str(result["settings"]["model"])
        for result in results
        if result["settings"].get("codec") == "s2vc" and "model" in result["settings"]
    }
    found: dict[str, list[str]] = {}
    for model in sorted(models):
        for metric in trained_metrics(model) or ():
            found.setdefault(metric, []).append(model)
    return found


@cache
def trained_metrics(model: str) -> tuple[str, ...] | None:
    """The metrics' names in the row "trained on metrics" of the model's card, which writes them `so`.

    None where the package has no card of that model: what it was trained on is not known.
    """
    if not re.fullmatch(r"[\w.-]+", model):
        return None
    card = files("s2vc.models") / "weights" / f"{model}.md"
    if not card.is_file():
        return None
    row = re.search(r"^\| trained on metrics \|(.*)\|\s*$", card.read_text(encoding="utf-8"), re.MULTILINE)
    return tuple(re.findall(r"`([^`]+)`", row[1])) if row else None
