"""Which metrics a model was trained on, from its card: such a metric is no witness for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from s2vc.models import cards
from s2vc.models.files import EMBEDDED


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
    """What the model's card names; None where the package has no card of it: then it is not known."""
    if not re.fullmatch(r"[\w.-]+", model):
        return None
    return cards.trained_metrics(EMBEDDED / f"{model}{cards.SUFFIX}")
