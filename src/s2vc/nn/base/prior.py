"""What the entropy coder asks of the networks: quantisers, coding order, scale indices, rates.

ARCHITECTURE §4.2, §4.3, §4.5 (I frames) and §5.2, §5.3 (P frames). Rounding is half to even.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2vc.nn.blocks import round_through

PROBABILITY_FLOOR = 1e-5
"""Added to every probability in the rates that the published system reports."""


def four_pass_masks(channels: int, height: int, width: int, *, device: torch.device | None = None) -> Tensor:
    """Bool (4, C, H, W): what each pass of an I frame codes. C is a multiple of 4 (ARCHITECTURE §4.3)."""
    rows = torch.arange(height, device=device)[:, None] % 2
    columns = torch.arange(width, device=device)[None, :] % 2
    phase = 2 * rows + columns
    order = ((0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2))
    return torch.stack(
        [torch.cat([(phase == p).expand(channels // 4, -1, -1) for p in quarters]) for quarters in order]
    )


def two_pass_masks(channels: int, height: int, width: int, *, device: torch.device | None = None) -> Tensor:
    """Bool (2, C, H, W): the checkerboards of a P frame's two passes. C is even (ARCHITECTURE §5.2)."""
    rows = torch.arange(height, device=device)[:, None]
    columns = torch.arange(width, device=device)[None, :]
    even = ((rows + columns) % 2 == 0).expand(channels // 2, -1, -1)
    return torch.stack([torch.cat([even, ~even]), torch.cat([~even, even])])


def fold(x: Tensor, mask: Tensor, parts: int) -> Tensor:
    """(B, C, H, W) -> (B, C / parts, H, W): the values at ``mask``, each position from its one part."""
    batch, channels, height, width = x.shape
    chosen = torch.where(mask, x, 0).reshape(batch, parts, channels // parts, height, width)
    return chosen.sum(dim=1)


def unfold(folded: Tensor, mask: Tensor, parts: int) -> Tensor:
    """The inverse of :func:`fold`; zero outside the mask."""
    return torch.where(mask, folded.repeat(1, parts, 1, 1), 0)


class ScalarQuantiser:
    """Finite scalar quantisation of z (ARCHITECTURE §4.2): one digit a channel, no weights.

    ``levels``: number of levels of each channel. Codes are multiples of 1 / (L // 2).
    """

    def __init__(self, levels: Sequence[int]) -> None:
        self.levels = tuple(levels)
        self.codes = math.prod(self.levels)
        self._half = [(level - 1) * (1 + 1e-3) / 2 for level in self.levels]
        self._offset = [0.0 if level % 2 else 0.5 for level in self.levels]

    def _columns(self, values: Sequence[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None, None]

    def _bounded(self, z: Tensor) -> Tensor:
        """Between the outermost levels, in steps of one."""
        half, offset = self._columns(self._half, z), self._columns(self._offset, z)
        return torch.tanh(z.float() + torch.atanh(offset / half)) * half - offset

    def through(self, z: Tensor) -> Tensor:
        """(B, D, H, W) float -> its codes in [-1, 1], with the gradient of what is rounded."""
        return round_through(self._bounded(z)) / self._columns([level // 2 for level in self.levels], z)

    def index(self, z: Tensor) -> Tensor:
        """(B, D, H, W) float -> (B, H, W) int64 in [0, codes): the first channel is the lowest digit."""
        digits = torch.round(self._bounded(z)).long()
        total = torch.zeros_like(digits[:, 0])
        weight = 1
        for channel, level in enumerate(self.levels):
            total += (digits[:, channel] + level // 2) * weight
            weight *= level
        return total

    def decode(self, index: Tensor) -> Tensor:
        """(B, H, W) integers -> (B, D, H, W) float32 codes in [-1, 1]."""
        planes = []
        for level in self.levels:
            planes.append((index % level - level // 2).float() / (level // 2))
            index = index // level
        return torch.stack(planes, dim=1)


def scale_index(scales: Tensor, lowest: float = 0.11, highest: float = 16.0, tables: int = 128) -> Tensor:
    """Index of the Gaussian table of each scale, uint8, same shape (ARCHITECTURE §5.3)."""
    per_step = (tables - 1) / (math.log(highest) - math.log(lowest))
    # A product, not a quotient: the two differ in the last bit, and the floor sees it.
    position = (torch.log(scales.clamp(lowest, highest)) - math.log(lowest)) * per_step
    return position.floor().clamp(0, tables - 1).to(torch.uint8)


def gaussian_bits(symbols: Tensor, scales: Tensor) -> Tensor:
    """Estimated bits of each zero-mean symbol, as the published system reports them (ARCHITECTURE §4.5)."""
    normal = torch.distributions.Normal(torch.zeros_like(scales), scales.clamp(1e-5, 1e10))
    return _bits(normal.cdf(symbols + 0.5) - normal.cdf(symbols - 0.5))


def gaussian_training_bits(symbols: Tensor, scales: Tensor) -> Tensor:
    """As :func:`gaussian_bits`, in the form whose gradient lives in the tails (ARCHITECTURE §13)."""
    deviation = scales.clamp(min=0.11) * 2**0.5
    distance = symbols.abs()
    upper, lower = (0.5 * torch.erfc((distance + edge) / deviation) for edge in (-0.5, 0.5))
    return _bits((upper - lower).clamp(min=1e-9))


def _bits(probability: Tensor) -> Tensor:
    return -torch.log2(probability + PROBABILITY_FLOOR).clamp(max=0)


class FactorisedPrior(nn.Module):
    """The learned density of each channel of z, independent of position (ARCHITECTURE §5.3)."""

    def __init__(self, width: int, depth: int = 4) -> None:
        super().__init__()
        shape = (1, width, 1, 1)
        self.slopes = nn.ParameterList([nn.Parameter(torch.zeros(shape)) for _ in range(depth)])
        self.offsets = nn.ParameterList([nn.Parameter(torch.zeros(shape)) for _ in range(depth)])
        self.gates = nn.ParameterList([nn.Parameter(torch.zeros(shape)) for _ in range(depth - 1)])

    def cdf(self, z: Tensor) -> Tensor:
        """Cumulative probability at ``z`` (B, C, H, W)."""
        for slope, offset, gate in zip(self.slopes, self.offsets, self.gates, strict=False):
            z = z * F.softplus(slope) + offset
            z = z + torch.tanh(z) * torch.tanh(gate)
        return torch.sigmoid(z * F.softplus(self.slopes[-1]) + self.offsets[-1])

    def bits(self, symbols: Tensor) -> Tensor:
        """Estimated bits of each symbol of z (B, C, H, W)."""
        return _bits(self.cdf(symbols + 0.5) - self.cdf(symbols - 0.5))
