"""Distances of two sets: a network's features of the patches of all frames, source against decoding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from s2vc.bench.metrics.chunk import Chunk, Measure
from s2vc.bench.metrics.pictures import to_tensor

KEPT = 4096
"""Patches whose features the kernel distance compares at most; of more, so many are drawn."""

_BATCH = 64  # patches


@dataclass(frozen=True)
class PatchFeatures:
    """What a patch is cut to and turned into: ``embed`` maps (N, 3, side, side) in [0, 1] to (N, D)."""

    side: int
    embed: Callable[[Tensor], Tensor]


def average_features(maps: Tensor) -> Tensor:
    """(N, D, h, w) -> (N, D): channels of each place brought to mean 0 and variance 1, then averaged.

    Networks differ in the scale of their features, and the kernel is not free of it.
    """
    return functional.layer_norm(maps.movedim(1, -1), (maps.shape[1],)).mean((1, 2))


class SetDistance(Measure):
    """``frechet-*`` and ``kernel-*`` of one network, on the patches of every ``step``-th frame of a clip.

    Patches lie half a side apart, centred; all of a decoding's lie where the source's do.
    """

    def __init__(
        self, names: Collection[str], features: PatchFeatures, device: torch.device, step: int
    ) -> None:
        self._names, self._features, self._device, self._step = tuple(names), features, device, step
        self._moments: dict[int | None, Moments] = defaultdict(Moments)
        self._kept: dict[int | None, NDArray[np.float32]] = {}
        self._count = 0
        self._random = np.random.default_rng(0)

    def add(self, chunk: Chunk) -> None:
        frames = len(chunk.pictures[None])
        seen = [i for i in range(frames) if (chunk.start + i) % self._step == 0]
        if not seen:
            return
        embedded = {number: self._embed(chunk.pictures[number][seen]) for number in chunk.pictures}
        places = self._draw(len(embedded[None]))
        for number, features in embedded.items():
            self._moments[number].add(features)
            if number not in self._kept:
                self._kept[number] = np.zeros((KEPT, features.shape[1]), np.float32)
            for index, place in places:
                self._kept[number][place] = features[index]

    def _embed(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        patches = cut_patches(to_tensor(pictures, self._device), self._features.side)
        with torch.inference_mode():
            parts = [self._features.embed(part) for part in patches.split(_BATCH)]
        return torch.cat(parts).float().cpu().numpy()

    def _draw(self, count: int) -> list[tuple[int, int]]:
        """(index among the next ``count`` patches, place) of those to keep: reservoir sampling."""
        places = []
        for index in range(count):
            self._count += 1
            place = self._count - 1 if self._count <= KEPT else int(self._random.integers(self._count))
            if place < KEPT:
                places.append((index, place))
        return places

    def results(self, number: int) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        dimensions = self._kept[None].shape[1] if self._kept else 0
        for name in self._names:
            if name.startswith("frechet") and self._count > dimensions:
                value = frechet_distance(self._moments[None], self._moments[number])
                found[name] = {"mean": _rounded(value), "samples": self._count, "dimensions": dimensions}
            elif name.startswith("kernel") and self._count >= 2:
                kept = min(self._count, KEPT)
                value = kernel_distance(self._kept[None][:kept], self._kept[number][:kept])
                found[name] = {"mean": _rounded(value), "samples": kept, "dimensions": dimensions}
        return found


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def cut_patches(pictures: Tensor, side: int) -> Tensor:
    """(N, 3, H, W) -> (N · patches, 3, side, side): a centred grid of patches half a side apart."""
    step = side // 2
    top, left = ((n - side) % step // 2 for n in pictures.shape[2:])
    grid = pictures[:, :, top:, left:].unfold(2, side, step).unfold(3, side, step)
    return grid.permute(0, 2, 3, 1, 4, 5).reshape(-1, pictures.shape[1], side, side)


class Moments:
    """Running mean and covariance of feature vectors, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Any = 0.0
        self._products: Any = 0.0
        self._origin: NDArray[np.float64] | None = None

    def add(self, features: NDArray[np.float32]) -> None:
        """``features`` (N, D)."""
        values = features.astype(np.float64)
        if self._origin is None:  # sums about a value near the mean lose no digits
            self._origin = values.mean(0)
        values -= self._origin
        self.count += len(values)
        self._sum = self._sum + values.sum(0)
        self._products = self._products + values.T @ values

    @property
    def mean(self) -> NDArray[np.float64]:
        assert self._origin is not None
        return self._origin + self._sum / self.count

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Unbiased, (D, D)."""
        shift = self._sum / self.count
        return (self._products - self.count * np.outer(shift, shift)) / (self.count - 1)


def frechet_distance(first: Moments, second: Moments) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½), FID's formula (Heusel et al., 2017)."""
    a, b = first.covariance, second.covariance
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # (Σ₁ Σ₂)^½ has the trace of (Σ₁^½ Σ₂ Σ₁^½)^½, which is symmetric
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    distance = np.square(first.mean - second.mean).sum() + np.trace(a) + np.trace(b) - 2 * cross
    return max(0.0, float(distance))


def kernel_distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Unbiased squared maximum mean discrepancy with KID's kernel, (x·y / D + 1)³ (Bińkowski et al., 2018).

    ``first[i]`` and ``second[i]`` (N, D) are features of the same place, hence not independent: pairs (i, i)
    are left out of the mixed term too (Gretton et al., 2012, lemma 6), which keeps the estimate unbiased,
    and 0 for equal sets.
    """
    count, dimensions = first.shape
    total = 0.0
    for start in range(0, count, 512):
        x, y = first[start : start + 512].astype(np.float64), second[start : start + 512].astype(np.float64)
        part = np.zeros((len(x), count))
        for a, b, sign in ((x, first, 1), (y, second, 1), (x, second, -1), (y, first, -1)):
            part += sign * (a @ b.T.astype(np.float64) / dimensions + 1) ** 3
        total += part.sum() - np.trace(part[:, start : start + 512])
    return total / (count * (count - 1))
