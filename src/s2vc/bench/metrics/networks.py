"""Metrics of networks that see each picture: LPIPS, FloLPIPS, DISTS."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from s2vc.bench.metrics.chunk import Chunk, Measure, summary
from s2vc.bench.metrics.pictures import to_tensor
from s2vc.perceptual import DISTS, LPIPS, flow_weighted


class PictureDistance(Measure):
    """``dists``, or ``lpips-*`` and ``flolpips-dis-*`` of one backbone, on every ``step``-th frame.

    FloLPIPS of a frame weighs places by how the flow to the next frame differs between source and decoding,
    so the last frame has none; the next frame is the clip's next, whatever ``step`` is.
    """

    def __init__(
        self, names: Collection[str], network: DISTS | LPIPS, device: torch.device, step: int
    ) -> None:
        self._plain = next((name for name in names if not name.startswith("flolpips")), None)
        self._weighted = next((name for name in names if name.startswith("flolpips")), None)
        self._network, self._device, self._step = network, device, step
        self._values: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._waiting: dict[int, list[Tensor]] = {}  # maps of the last frame, whose next is in the next chunk

    def add(self, chunk: Chunk) -> None:
        count = len(chunk.pictures[None])
        seen = [i for i in range(count) if (chunk.start + i) % self._step == 0]
        with torch.inference_mode():
            features = self._features(chunk, None, seen) if seen else []
            for number in chunk.decodings:
                others = self._features(chunk, number, seen) if seen else []
                if self._plain and seen:
                    self._values[self._plain, number] += self._network.distance(features, others).tolist()
                if self._weighted:
                    self._weigh(chunk, number, seen, features, others)

    def _features(self, chunk: Chunk, number: int | None, seen: list[int]) -> list[Tensor]:
        return self._network.features(to_tensor(chunk.pictures[number][seen], self._device))

    def _weigh(
        self, chunk: Chunk, number: int, seen: list[int], features: list[Tensor], others: list[Tensor]
    ) -> None:
        assert self._weighted is not None and isinstance(self._network, LPIPS)
        maps: dict[int, list[Tensor]] = {}  # by index in the clip
        if number in self._waiting:
            maps[chunk.start - 1] = self._waiting.pop(number)
        if seen:
            found = self._network.maps(features, others)
            maps |= {chunk.start + i: [m[k : k + 1] for m in found] for k, i in enumerate(seen)}
        last = chunk.start + len(chunk.pictures[None]) - 1
        if last in maps:
            self._waiting[number] = maps.pop(last)
        if not maps:
            return
        pairs = [index - chunk.first_pair for index in maps]
        difference = torch.from_numpy(chunk.flow(None)[pairs] - chunk.flow(number)[pairs])
        together = [torch.cat(tap) for tap in zip(*maps.values(), strict=True)]
        values = flow_weighted(together, difference.permute(0, 3, 1, 2).to(self._device))
        self._values[self._weighted, number] += values.tolist()

    def results(self, number: int) -> dict[str, dict[str, Any]]:
        return {
            name: summary(self._values[name, number], 5)
            for name in (self._plain, self._weighted)
            if name and self._values[name, number]
        }
