"""A sampler shared out among worker processes, which cut batches out ahead of the training step.

On a CPU the cores belong to the arithmetic. A GPU takes a batch in a fraction of the time that one core needs
to cut it out: there every core holds some of the slots. What a slot sees is the same either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from s2vc.training.sampler import Batch, Sampler

AHEAD = 3  # batches that each worker is ahead

State = NDArray[np.int64]  # (slots, 2)
MakeSampler = Callable[[Sequence[int]], Sampler]


class _Shares(IterableDataset[dict[str, Any]]):
    """In worker i of n: the i-th part of the slots' batches, each with the state its sampler has after it."""

    def __init__(self, make: MakeSampler, parts: list[list[int]], begin: list[State | None]) -> None:
        self.make, self.parts, self.begin = make, parts, begin

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        assert worker is not None
        sampler, begin = self.make(self.parts[worker.id]), self.begin[worker.id]
        if begin is not None:
            sampler.restore(begin)
        while True:
            batch = asdict(sampler.next())
            yield batch | {"slots": np.array(batch["slots"]), "state": sampler.state()}


class Feed:
    """To its user a :class:`~s2vc.training.sampler.Sampler`. Needs an operating system that can fork."""

    def __init__(self, make: MakeSampler, slots: Sequence[int], workers: int) -> None:
        self._make = make
        self._parts = [part.tolist() for part in np.array_split(np.array(slots), min(workers, len(slots)))]
        self._state = np.tile(np.array([[-1, 0]], np.int64), (len(slots), 1))
        self._begin: list[State | None] = [None] * len(self._parts)
        self._items: Iterator[dict[str, Any]] | None = None
        self._coming: Future[dict[str, Any]] | None = None
        self._thread = ThreadPoolExecutor(1)

    def state(self) -> State:
        """That of the batch that was given last; see :meth:`Sampler.state`."""
        return self._state

    def restore(self, state: State) -> None:
        """Go on from ``state``; to be called before the first batch is asked for."""
        ends = np.cumsum([len(part) for part in self._parts])[:-1]
        self._state, self._begin = state, list(np.split(state, ends))

    def next(self) -> Batch:
        """The next T frames of every slot."""
        if self._coming is None:
            shares = _Shares(self._make, self._parts, self._begin)
            loader = DataLoader(
                shares,
                batch_size=None,
                num_workers=len(self._parts),
                prefetch_factor=AHEAD,
                multiprocessing_context="fork",  # the footage is mapped already
            )
            self._items = iter(loader)
            self._coming = self._thread.submit(self._join)
        fields = self._coming.result()
        self._coming = self._thread.submit(self._join)
        self._state = fields.pop("state")
        return Batch(**fields | {"slots": fields["slots"].tolist()})

    def _join(self) -> dict[str, Any]:
        """One part from each worker, which DataLoader takes in turn."""
        assert self._items is not None
        items = [next(self._items) for _ in self._parts]
        return {key: _joined([item[key] for item in items]) for key in items[0]}


def _joined(parts: list[Tensor | None]) -> NDArray[Any] | None:
    arrays = [part.numpy() for part in parts if part is not None]
    return np.concatenate(arrays) if arrays else None
