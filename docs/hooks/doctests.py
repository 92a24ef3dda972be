"""Griffe: sessions of the interpreter in docstrings (``>>> …``) become blocks of code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SESSION = re.compile(r"^>>> .*(?:\n(?!\n).*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Fences each session of a docstring; an empty line ends one."""

    def on_instance(self, *, obj: griffe.Object | griffe.Alias, **_: Any) -> None:
        if not obj.is_alias and obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = _SESSION.sub(lambda found: f"```pycon\n{found[0]}\n```", text)
