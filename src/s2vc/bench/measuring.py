"""Measuring in a process of its own: when it is killed, its clip's rows fail and the run goes on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from s2vc.bench.process import how_it_ended
from s2vc.errors import S2vcError


@dataclass(frozen=True)
class Measured:
    """What one pass over a source gave: for each decoding its metrics or what is wrong with it."""

    height: int
    width: int
    frames: int
    rate: float | None  # frames a second, where the source says
    metrics: list[dict[str, Any] | S2vcError]
    missing: dict[str, str]
    made_with: dict[str, Any]


class Measuring:
    """A process with a ``Meter``, started when it is first asked, again after it died.

    It computes on one thread: sums, and so results, do not depend on how many of them run side by side.
    """

    def __init__(
        self, metrics: Sequence[str], weights_dir: str | Path | None, device: str, step: int
    ) -> None:
        self._options = (tuple(metrics), weights_dir, device, step)
        self.process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def measure(self, clip: Path, frames: int, decodings: Sequence[Path]) -> Measured:
        """Decodings against the clip's first ``frames`` frames. Raises S2vcError, also if it dies."""
        if self._connection is None:
            self._start()
        assert self._connection is not None and self.process is not None
        try:
            self._connection.send((clip, frames, tuple(decodings)))
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            self.process.join()
            ended = how_it_ended(self.process.exitcode or 0)
            self.close()
            raise S2vcError(f"the measuring process ended: {ended}: is there enough memory?") from error
        if isinstance(answer, S2vcError):
            raise answer
        return answer

    def _start(self) -> None:
        # not a fork: threads of torch do not survive one
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, *self._options), daemon=True)
        self.process.start()
        theirs.close()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._connection is not None and self.process is not None:
            self._connection.close()
            self.process.kill()
            self.process.join()
        self._connection = self.process = None


def _serve(
    connection: Connection, metrics: tuple[str, ...], weights_dir: str | Path | None, device: str, step: int
) -> None:
    import torch

    from s2vc.bench.frames import frame_rate, read_rgb
    from s2vc.bench.metrics import Meter

    torch.set_num_threads(1)
    meter: Meter | None = None
    while True:
        try:
            clip, frames, decodings = connection.recv()
        except (EOFError, OSError):  # the run is gone
            return
        answer: Measured | S2vcError
        try:
            meter = meter or Meter(metrics, weights_dir, device, step)
            pictures = [read_rgb(path) for path in decodings]
            rate = frame_rate(clip)
            found = meter.measure(read_rgb(clip, frames), pictures, rate)
            answer = Measured(
                *meter.seen, None if rate is None else float(rate), found, meter.missing, meter.made_with
            )
        except S2vcError as error:
            answer = error
        except Exception as error:
            answer = S2vcError(f"internal error while measuring, {type(error).__name__}: {error}")
        connection.send(answer)
