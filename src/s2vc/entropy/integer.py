"""The integer entropy model: table indices from integers alone, the same on every machine.

docs/entropy-model.md is normative. Planes at 1/16 (one value a 16 × 16 block) go through five small
convolutions with 8-bit weights, as floating-point matrix products over integers: float32 where no sum of a
layer can pass 2**24, else float64. Nothing is ever rounded but by the floor that is meant, so every order of
summation gives the same. ``nn.tiny.entropy`` holds the trainer's torch twin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from s2vc.errors import ModelError

Planes = NDArray[np.float32]
"""Integers within ±127, (channels, rows, columns)."""
Memory = NDArray[np.float64]
"""What is kept of past latents: integers 0..119, (channels, rows, columns)."""

TABLES = 64
QUALITIES = 64
QUALITY_BANDS = 8
ACTIVATION_LIMIT = 127
SYMBOL_LIMIT = 15
LATENT_PER_HYPER = 4  # hyperlatent positions are this many latent positions wide and high


class IntegerLayer:
    """One convolution: weight int8 (out, in, k, k), bias int32 (out); result = (sum + half) >> shift."""

    def __init__(self, weight: NDArray[np.int8], bias: NDArray[np.int32], shift: int) -> None:
        """Raises ``ModelError`` where that is no layer: an even kernel, a shift that is not 1..16, sums that
        may reach 2**31.
        """
        width, _, self.kernel, kernel = weight.shape
        if self.kernel != kernel or kernel % 2 == 0 or bias.shape != (width,) or not 1 <= shift <= 16:
            raise ModelError("the model's entropy network is damaged: fetch the model again")
        offset = bias.astype(np.int64) + (1 << (shift - 1))
        largest = np.abs(weight.astype(np.int64)).sum((1, 2, 3)) * ACTIVATION_LIMIT + np.abs(offset)
        if largest.max() >= 1 << 31:
            raise ModelError("the model's entropy network is damaged: fetch the model again")
        # No partial sum, in whatever order, is larger than this one, and float32 holds integers up to 2**24.
        self.dtype = np.dtype(np.float32 if largest.max() <= 1 << 24 else np.float64)
        self.shape = weight.shape
        self._matrices = np.ascontiguousarray(
            weight.transpose(2, 3, 0, 1).reshape(kernel * kernel, width, -1), self.dtype
        )
        self._offset = offset.astype(self.dtype)[:, None]
        self._scale = self.dtype.type(0.5**shift)

    def __call__(self, planes: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Integers within ±127 (in, h, w) -> (out, h, w), zero-padded to the same size, rounded half up."""
        count, height, width = planes.shape
        # Rows lie one after another; the zeros behind a row are the margin before the next one, too. What one
        # place of the kernel sees from all positions is then one stretch of each plane, and needs no copy.
        margin = self.kernel // 2
        stride, size = width + margin, height * (width + margin)
        padded = np.zeros((count, size + 2 * margin * (stride + 1)), self.dtype)
        start = margin * (stride + 1)
        padded[:, start : start + size].reshape(count, height, stride)[..., :width] = planes
        total = np.repeat(self._offset, size, axis=1)
        for place, matrix in enumerate(self._matrices):
            row, column = divmod(place, self.kernel)
            start = row * stride + column
            total += matrix @ padded[:, start : start + size]
        total *= self._scale
        return np.floor(total, out=total).reshape(-1, height, stride)[..., :width]


def activate(planes: NDArray[np.floating[Any]]) -> Planes:
    """Leaky by an eighth (rounded down) below zero, clamped to ±127."""
    leaky = np.maximum(planes, np.floor(planes * 0.125))  # of an integer below zero the eighth is the larger
    return np.clip(leaky, -ACTIVATION_LIMIT, ACTIVATION_LIMIT).astype(np.float32, copy=False)


def symbol_planes(symbols: NDArray[np.integer]) -> Planes:
    """Magnitudes in eighths as the network reads them: 8·min(|s|, 15)."""
    return np.minimum(np.abs(symbols.astype(np.float32)), SYMBOL_LIMIT) * 8


def next_memory(memory: Memory, symbols: NDArray[np.integer]) -> Memory:
    """What the model remembers of past latents: half of what it did, plus half of this frame's."""
    return np.floor(memory / 2) + symbol_planes(symbols) / 2


def motion_planes(motion: NDArray[np.integer]) -> Planes:
    """(h, w, 2) quarter-pixel vectors -> 2 planes: size, and difference from left and upper neighbours."""
    field = motion.astype(np.float32)
    size = np.abs(field).sum(-1)
    across = np.abs(np.diff(field, axis=1, prepend=field[:, :1])).sum(-1)
    down = np.abs(np.diff(field, axis=0, prepend=field[:1])).sum(-1)
    return np.minimum(np.stack([size, 4 * (across + down)]), ACTIVATION_LIMIT)


def checkerboard(channels: int, height: int, width: int) -> NDArray[np.bool_]:
    """True where a latent belongs to pass 0: row + column + channel even. Shape (channels, height, width)."""
    c, y, x = np.ogrid[:channels, :height, :width]
    return (y + x) % 2 == c % 2


def _are_sizes(groups: NDArray[np.int64]) -> bool:
    return groups.ndim == 1 and len(groups) > 0 and 1 <= groups.min() <= groups.max() < 1 << 16


class IntegerEntropyModel:
    """Table indices of one frame's hyperlatent and latents.

    Arrays (all integers): ``hyper.index`` uint8 (2, 8, Cz), the tables of z by intra flag, quality band and
    channel; layers ``trunk0``, ``trunk1``, ``head0``, ``first``, ``head1`` as ``NAME.weight``, ``NAME.bias``,
    ``NAME.shift``; in a model that can be adapted ``codes.groups`` uint16 (G), how many of an I-frame's
    codes each group has.
    """

    LAYERS = ("trunk0", "trunk1", "head0", "first", "head1")

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Raises ``KeyError`` where an array is missing, ``ModelError`` where they do not fit each other."""
        self.hyper_index = np.asarray(arrays["hyper.index"], dtype=np.uint8)
        groups = arrays.get("codes.groups")
        self.code_groups = None if groups is None else np.asarray(groups, dtype=np.int64)
        self.layers = {
            name: IntegerLayer(
                np.asarray(arrays[f"{name}.weight"], dtype=np.int8),
                np.asarray(arrays[f"{name}.bias"], dtype=np.int32),
                int(np.asarray(arrays[f"{name}.shift"]).item()),
            )
            for name in self.LAYERS
        }
        # Matrices this small gain nothing from a second thread, and BLAS threads spin for milliseconds after
        # each product: on two cores they took a third of the networks' time.
        self._pools = ThreadpoolController()
        self.latent_channels = latent = self.layers["head0"].shape[0]
        self.hyper_channels = hyper = self.hyper_index.shape[-1]
        trunk, first = self.layers["trunk1"].shape[0], self.layers["first"].shape[0]
        widths = {
            "trunk0": (self.layers["trunk0"].shape[0], latent + hyper + 4),
            "trunk1": (trunk, self.layers["trunk0"].shape[0]),
            "head0": (latent, trunk + latent),
            "first": (first, latent),
            "head1": (latent, trunk + latent + first),
        }
        if (
            self.hyper_index.shape != (2, QUALITY_BANDS, hyper)
            or self.hyper_index.max() >= TABLES
            or (self.code_groups is not None and not _are_sizes(self.code_groups))
            or any(self.layers[name].shape[:2] != shape for name, shape in widths.items())
        ):
            raise ModelError("the model's entropy network is damaged: fetch the model again")

    def hyper_tables(self, intra: bool, quality: int, height: int, width: int) -> NDArray[np.uint8]:
        """Table indices of z, uint8 (Cz, ceil(height/4), ceil(width/4)), for latents of height × width."""
        index = self.hyper_index[int(intra), quality * QUALITY_BANDS // QUALITIES]
        shape = (-(-height // LATENT_PER_HYPER), -(-width // LATENT_PER_HYPER))
        return np.broadcast_to(index[:, None, None], (len(index), *shape)).copy()

    def first_pass(
        self,
        intra: bool,
        quality: int,
        hyperlatent: NDArray[np.integer],
        motion: NDArray[np.integer],
        memory: Memory,
    ) -> tuple[NDArray[np.uint8], Planes]:
        """Table indices of pass 0 (zero, skip, at pass 1's positions) and the trunk's planes for pass 1."""
        _, height, width = memory.shape
        past = memory.astype(np.float32)
        z = np.clip(hyperlatent.astype(np.float32), -SYMBOL_LIMIT, SYMBOL_LIMIT) * 8
        z = z.repeat(LATENT_PER_HYPER, 1).repeat(LATENT_PER_HYPER, 2)[:, :height, :width]
        constant = np.empty((2, height, width), np.float32)
        constant[0], constant[1] = 64 * intra, 2 * quality
        planes = np.concatenate([past, z, motion_planes(motion), constant])
        with self._pools.limit(limits=1, user_api="blas"):
            planes = activate(self.layers["trunk0"](planes))
            planes = activate(self.layers["trunk1"](planes))
            trunk = np.concatenate([planes, past])
            return self._indices("head0", trunk, 0), trunk

    def second_pass(self, trunk: Planes, first_symbols: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Table indices of pass 1 from the trunk and the symbols of pass 0 (zero at pass 1's positions)."""
        with self._pools.limit(limits=1, user_api="blas"):
            first = activate(self.layers["first"](symbol_planes(first_symbols)))
            return self._indices("head1", np.concatenate([trunk, first]), 1)

    def _indices(self, head: str, planes: Planes, number: int) -> NDArray[np.uint8]:
        index = np.clip(self.layers[head](planes), 0, TABLES - 1).astype(np.uint8)
        return index * (checkerboard(*index.shape) == (number == 0))
