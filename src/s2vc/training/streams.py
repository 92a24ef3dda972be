"""Random numbers that depend on what they are for and on nothing else.

Every draw of training comes from a stream keyed by the recipe's seed, a purpose, and numbers such as step and
slot. So a run that was stopped goes on with the numbers it would have had, and the share of a batch that a
process takes does not change them. A GPU draws tensors itself, for all its slots at once: other numbers, as
repeatable with as many processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Purpose(IntEnum):
    SEQUENCE = 1  # keyed by slot and the sequence's number in it
    ROUNDING = 2  # keyed by step and slot, as are the following
    LOSS = 3
    SIGMA = 4
    NOISE = 5
    CRITIC_SIGMA = 6
    CRITIC_NOISE = 7
    CODED = 8  # keyed by a clip's name and the passage's number
    COUNTED = 9  # keyed by step


def _seed(seed: int, purpose: Purpose, *key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, int(purpose), *key])


def stream(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """A Philox generator of its own for this seed, purpose and key."""
    return np.random.Generator(np.random.Philox(_seed(seed, purpose, *key)))


@lru_cache(maxsize=8)
def _copies(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """A tensor of an array's values. A GPU copies it while it still works on the step before."""
    if device.type == "cpu":
        return torch.from_numpy(array)
    now = torch.cuda.current_stream(device)
    with torch.cuda.stream(_copies(device)):
        tensor = torch.from_numpy(array).to(device)
    now.wait_stream(_copies(device))
    tensor.record_stream(now)
    return tensor


class StepStreams:
    """The streams of one step, one a slot: what is drawn for a slot is the same in every process."""

    def __init__(
        self, seed: int, step: int, slots: Sequence[int], device: torch.device, every: int = 1
    ) -> None:
        self.seed, self.step, self.slots, self.device = seed, step, list(slots), device
        # Counts the steps that learn, one in ``every``, for what takes turns.
        self.turn = step // every

    def of(self, purpose: Purpose) -> list[np.random.Generator]:
        """One generator for each slot."""
        return [stream(self.seed, purpose, self.step, slot) for slot in self.slots]

    def uniform(self, purpose: Purpose, *shapes: tuple[int, ...]) -> list[Tensor]:
        """For each shape, float32 (slots, *shape) in [0, 1); one purpose is asked for once a step."""
        if self.device.type != "cpu":
            return self._on_device(purpose, torch.rand, shapes)
        return self._drawn(purpose, lambda random, shape: random.random(shape, dtype=np.float32), shapes)

    def normal(self, purpose: Purpose, *shapes: tuple[int, ...]) -> list[Tensor]:
        """As ``uniform``, of the standard normal distribution."""
        if self.device.type != "cpu":
            return self._on_device(purpose, torch.randn, shapes)
        return self._drawn(
            purpose, lambda random, shape: random.standard_normal(shape, dtype=np.float32), shapes
        )

    def _drawn(
        self,
        purpose: Purpose,
        draw: Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float32]],
        shapes: tuple[tuple[int, ...], ...],
    ) -> list[Tensor]:
        rows = [[draw(generator, shape) for shape in shapes] for generator in self.of(purpose)]
        return [torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)]

    def _on_device(
        self, purpose: Purpose, draw: Callable[..., Tensor], shapes: tuple[tuple[int, ...], ...]
    ) -> list[Tensor]:
        words = _seed(self.seed, purpose, self.step, self.slots[0]).generate_state(2)
        generator = torch.Generator(self.device).manual_seed(int(words[0]) << 31 ^ int(words[1]))
        count = len(self.slots)
        return [draw((count, *shape), generator=generator, device=self.device) for shape in shapes]

    def common(self, purpose: Purpose) -> np.random.Generator:
        """One generator that all processes share at this step."""
        return stream(self.seed, purpose, self.step)
