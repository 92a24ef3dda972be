"""The integer entropy model: table indices from integers alone, the same on every machine (DESIGN §6).

Planes at 1/16 (one value a 16 × 16 block) go through four small convolutions with 8-bit weights. They run as
float64 matrix products over integers whose sums stay below 2**31, so every order of summation gives the same
result. ``nn.tiny.entropy`` holds the trainer's torch twin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TABLES = 64
QUALITIES = 64
QUALITY_BANDS = 8
ACTIVATION_LIMIT = 127
SYMBOL_LIMIT = 15
LATENT_PER_HYPER = 4  # hyperlatent positions are this many latent positions wide and high


@dataclass(frozen=True)
class IntegerLayer:
    """One convolution: weight int8 (out, in, k, k), bias int32 (out); result = (sum + half) >> shift."""

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    shift: int

    def __call__(self, planes: Array) -> Array:
        """Integers (in, h, w) in float64 -> (out, h, w), zero-padded to the same size, rounded half up."""
        kernel = self.weight.shape[-1]
        _, height, width = planes.shape
        if kernel == 1:
            columns = planes.reshape(planes.shape[0], -1)
        else:
            margin = kernel // 2
            padded = np.pad(planes, ((0, 0), (margin, margin), (margin, margin)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
            columns = windows.transpose(0, 3, 4, 1, 2).reshape(-1, height * width)
        total = self.weight.reshape(len(self.weight), -1).astype(np.float64) @ columns
        total += self.bias[:, None] + 2.0 ** (self.shift - 1)
        return np.floor(total / 2.0**self.shift).reshape(-1, height, width)


def activate(planes: Array) -> Array:
    """Leaky by an eighth (rounded down) below zero, clamped to ±127."""
    return np.clip(np.where(planes < 0, np.floor(planes / 8), planes), -ACTIVATION_LIMIT, ACTIVATION_LIMIT)


def symbol_planes(symbols: NDArray[np.integer]) -> Array:
    """Magnitudes in eighths as the network reads them: 8·min(|s|, 15)."""
    return np.minimum(np.abs(symbols.astype(np.float64)), SYMBOL_LIMIT) * 8


def next_memory(memory: Array, symbols: NDArray[np.integer]) -> Array:
    """What the model remembers of past latents: half of what it did, plus half of this frame's."""
    return np.floor(memory / 2) + symbol_planes(symbols) / 2


def motion_planes(motion: NDArray[np.integer]) -> Array:
    """(h, w, 2) quarter-pixel vectors -> 2 planes: size, and difference from left and upper neighbours."""
    field = motion.astype(np.float64)
    size = np.abs(field).sum(-1)
    across = np.abs(np.diff(field, axis=1, prepend=field[:, :1])).sum(-1)
    down = np.abs(np.diff(field, axis=0, prepend=field[:1])).sum(-1)
    return np.minimum(np.stack([size, 4 * (across + down)]), ACTIVATION_LIMIT)


def checkerboard(channels: int, height: int, width: int) -> NDArray[np.bool_]:
    """True where a latent belongs to pass 0: row + column + channel even. Shape (channels, height, width)."""
    c, y, x = np.ogrid[:channels, :height, :width]
    return (c + y + x) % 2 == 0


class IntegerEntropyModel:
    """Table indices of one frame's hyperlatent and latents.

    Arrays (all integers): ``hyper.index`` uint8 (2, 8, Cz), the tables of z by intra flag, quality band and
    channel; layers ``trunk0``, ``trunk1``, ``head0``, ``first``, ``head1`` as ``NAME.weight``, ``NAME.bias``,
    ``NAME.shift``.
    """

    LAYERS = ("trunk0", "trunk1", "head0", "first", "head1")

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        self.hyper_index = np.asarray(arrays["hyper.index"], dtype=np.uint8)
        self.layers = {
            name: IntegerLayer(
                np.asarray(arrays[f"{name}.weight"], dtype=np.int8),
                np.asarray(arrays[f"{name}.bias"], dtype=np.int32),
                int(np.asarray(arrays[f"{name}.shift"]).item()),
            )
            for name in self.LAYERS
        }
        self.latent_channels = len(self.layers["head0"].weight)
        self.hyper_channels = self.hyper_index.shape[-1]

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
        memory: Array,
    ) -> tuple[NDArray[np.uint8], Array]:
        """Table indices of pass 0 (zero, skip, at pass 1's positions) and the trunk's planes for pass 1."""
        _, height, width = memory.shape
        z = np.clip(hyperlatent.astype(np.float64), -SYMBOL_LIMIT, SYMBOL_LIMIT) * 8
        z = z.repeat(LATENT_PER_HYPER, 1).repeat(LATENT_PER_HYPER, 2)[:, :height, :width]
        constant = np.empty((2, height, width))
        constant[0], constant[1] = 64.0 * intra, 2.0 * quality
        planes = np.concatenate([memory, z, motion_planes(motion), constant])
        planes = activate(self.layers["trunk0"](planes))
        planes = activate(self.layers["trunk1"](planes))
        trunk = np.concatenate([planes, memory])
        return self._indices("head0", trunk, 0), trunk

    def second_pass(self, trunk: Array, first_symbols: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Table indices of pass 1 from the trunk and the symbols of pass 0 (zero at pass 1's positions)."""
        first = activate(self.layers["first"](symbol_planes(first_symbols)))
        return self._indices("head1", np.concatenate([trunk, first]), 1)

    def _indices(self, head: str, planes: Array, number: int) -> NDArray[np.uint8]:
        index = np.clip(self.layers[head](planes), 0, TABLES - 1).astype(np.uint8)
        mine = checkerboard(*index.shape) == (number == 0)
        return np.where(mine, index, np.uint8(0))
