"""Where time goes: exclusive wall time by stage, multiply-accumulates, the machine's own rates, peak memory.

Stages are measured from outside: ``Stages.watch`` wraps functions for the length of a measurement, so that
the codec carries no clocks.
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode


class Stages:
    """Wall seconds by stage. A stage inside another one is not counted in the outer one (per thread)."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._clock = clock
        self._lock = threading.Lock()
        self._running = threading.local()
        self._undo: list[Callable[[], None]] = []

    @contextmanager
    def span(self, stage: str) -> Iterator[None]:
        """Count the time within as ``stage``'s."""
        stack: list[float] = self._running.__dict__.setdefault("inner", [])
        stack.append(0.0)
        began = self._clock()
        try:
            yield
        finally:
            elapsed = self._clock() - began
            inner = stack.pop()
            if stack:
                stack[-1] += elapsed
            with self._lock:
                self.seconds[stage] += elapsed - inner
                self.calls[stage] += 1

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Count every call of ``owner.name`` (a module's function or a class's method) as ``stage``'s.

        Of a generator each step is counted, not what its user does in between.
        """
        original = vars(owner)[name]
        inner = original.__func__ if isinstance(original, (staticmethod, classmethod)) else original

        @functools.wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.span(stage):
                result = inner(*args, **kwargs)
            return self._steps(result, stage) if inspect.isgenerator(result) else result

        replacement: Any = timed
        if isinstance(original, (staticmethod, classmethod)):
            replacement = type(original)(timed)
        setattr(owner, name, replacement)
        self._undo.append(lambda: setattr(owner, name, original))

    def _steps(self, generator: Iterator[Any], stage: str) -> Iterator[Any]:
        try:
            while True:
                with self.span(stage):
                    try:
                        item = next(generator)
                    except StopIteration:
                        return
                yield item
        finally:
            generator.close()  # type: ignore[attr-defined]

    def unwatch(self) -> None:
        """Put back all that was watched, the last first."""
        while self._undo:
            self._undo.pop()()


def _attention_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])


def count_macs(function: Callable[[], Any]) -> int:
    """Multiply-accumulates of all convolutions and matrix products that ``function`` runs in torch."""
    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        function()
    return counter.get_total_flops() // 2


def convolution_rate(width: int, height: int, seconds: float = 0.6, channels: int = 128) -> float:
    """MAC a second of a 3x3 convolution of ``channels`` channels at 1/8 of a picture, float32, batch 1.

    The faster of the two memory layouts counts, and of each the median call.
    """
    size = (-(-height // 8), -(-width // 8))
    layer = nn.Conv2d(channels, channels, 3, padding=1).requires_grad_(False)
    macs = 9 * channels**2 * size[0] * size[1]
    best = 0.0
    with torch.inference_mode():
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.rand(1, channels, *size).contiguous(memory_format=layout)
            chosen = layer.to(memory_format=layout)  # type: ignore[call-overload]
            best = max(best, macs / _median_seconds(partial(chosen, x), seconds / 2))
    return best


def product_rate(side: int = 512, seconds: float = 0.5) -> float:
    """MAC a second of a square float32 matrix product."""
    a, b = torch.rand(side, side), torch.rand(side, side)
    with torch.inference_mode():
        return side**3 / _median_seconds(lambda: functional.linear(a, b), seconds)


def _median_seconds(function: Callable[[], Tensor], seconds: float) -> float:
    for _ in range(3):
        function()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]
