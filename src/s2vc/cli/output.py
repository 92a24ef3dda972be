"""What a command says: progress and summaries on stderr, data on stdout."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.progress


def say(line: str) -> None:
    """One line for a human, on stderr."""
    print(line, file=sys.stderr)


def print_json(value: Any) -> None:
    """One JSON object, on stdout."""
    print(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """The value in JSON's types: dataclasses as objects, fractions as ``"30000/1001"``, bytes as hex."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, bytes):
        return value.hex()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return str(value)


def size_text(size: int) -> str:
    """A count of bytes with three digits that matter: ``812 B``, ``12.3 kB``, ``4.56 MB``."""
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.5 or unit == "GB":
            break
    return f"{amount:.{2 if amount < 9.995 else 1 if amount < 99.95 else 0}f} {unit}"


class Progress:
    """A bar on a terminal, nothing elsewhere; call it as the API calls its ``progress``.

    ``progress(frames, total, size, seconds=None)``: frames done, frames in all (None: unknown),
    bytes so far, and the length in seconds of what is done, where it is known.
    """

    def __init__(self, verb: str, *, quiet: bool = False) -> None:
        self.verb = verb
        self.shown = not quiet and sys.stderr.isatty()
        self.began = time.monotonic()
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, frames: int, total: int | None, size: int, seconds: float | None = None) -> None:
        if not self.shown:
            return
        if self._bar is None:
            self._start()
        assert self._bar is not None and self._task is not None
        speed = frames / max(time.monotonic() - self.began, 1e-6)
        facts = f"{speed:.1f} frames/s  {size_text(size)}"
        if seconds:
            facts += f"  {8e-3 * size / seconds:.1f} kbit/s"
        self._bar.update(self._task, completed=frames, total=total, facts=facts)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self.verb, total=None, facts="")
        self._bar.start()
