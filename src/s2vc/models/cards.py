"""What a model's card, the page beside its file, says in rows that programs read."""

from __future__ import annotations

import re
from pathlib import Path

SUFFIX = ".md"


def trained_metrics(card: Path) -> tuple[str, ...] | None:
    """The metrics' names in the row "trained on metrics", which writes them `so`; None if none says it."""
    if not card.is_file():
        return None
    row = re.search(r"^\| trained on metrics \|(.*)\|\s*$", card.read_text(encoding="utf-8"), re.MULTILINE)
    return tuple(re.findall(r"`([^`]+)`", row[1])) if row else None
