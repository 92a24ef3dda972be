"""What a run shows while it runs: a table on a terminal, a line a result elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.live
    import rich.table


@dataclass
class _Row:
    total: int
    kept: int = 0
    done: int = 0
    failed: int = 0
    now: str = ""
    last: str = ""


class Board:
    """One row a codec. Called from several threads; use it as a context manager."""

    def __init__(self, totals: dict[str, int], *, live: bool | None = None) -> None:
        self._rows = {codec: _Row(total) for codec, total in totals.items()}
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._shown = sys.stderr.isatty() if live is None else live
        self._live: rich.live.Live | None = None

    def __enter__(self) -> Board:
        if self._shown:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True),
                get_renderable=self._table,
                refresh_per_second=2,
                transient=False,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def kept(self, codec: str) -> None:
        with self._lock:
            self._rows[codec].kept += 1

    def working(self, codec: str, what: str) -> None:
        with self._lock:
            self._rows[codec].now = what

    def done(self, codec: str, name: str, figures: str) -> None:
        with self._lock:
            self._rows[codec].done += 1
            self._rows[codec].last = f"{name}: {figures}"
            self._say(f"{codec} {name}: {figures}")

    def failed(self, codec: str, name: str, reason: str) -> None:
        with self._lock:
            self._rows[codec].failed += 1
            self._rows[codec].last = f"{name}: failed: {reason}"
            # also above a table: it is what has to be read afterwards
            self._say(f"{codec} {name}: failed: {reason}", always=True)

    def _say(self, line: str, always: bool = False) -> None:
        if self._live is None:
            print(line, file=sys.stderr, flush=True)
        elif always:
            self._live.console.print(line, style="red", markup=False)

    def _table(self) -> rich.table.Table:
        from rich.table import Table

        with self._lock:
            table = Table(caption=self._remaining(list(self._rows.values())), expand=True)
            for column in ("codec", "done", "failed"):
                table.add_column(column, no_wrap=True)
            table.add_column("now", ratio=2, no_wrap=True, overflow="ellipsis")
            table.add_column("last result", ratio=3, no_wrap=True, overflow="ellipsis")
            for codec, row in self._rows.items():
                made = f"{row.kept + row.done} of {row.total}"
                table.add_row(codec, made, str(row.failed or ""), row.now, row.last)
            return table

    def _remaining(self, rows: Sequence[_Row]) -> str:
        made = sum(row.done + row.failed for row in rows)
        left = sum(row.total - row.kept - row.done - row.failed for row in rows)
        passed = time.monotonic() - self._began
        if not made or not left:
            return f"{passed / 60:.0f} min"
        return f"{passed / 60:.0f} min, some {passed / made * left / 60:.0f} min left"
