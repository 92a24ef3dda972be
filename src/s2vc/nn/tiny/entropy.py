"""The torch twin of :mod:`s2vc.entropy.integer`: the same integers forward, gradients straight through."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2vc.nn.blocks import round_through
from s2vc.nn.tiny.adaptation import code_groups
from s2vc.nn.tiny.config import TinyConfig

TABLES = 64
BANDS = 8
REACH = 127  # no table's symbols lie outside −REACH..REACH


def floor_through(x: Tensor) -> Tensor:
    return x + (x.floor() - x).detach()


class IntegerConv(nn.Module):
    """Float weights whose forward pass is that of the 8-bit layer they are exported as."""

    def __init__(self, in_width: int, out_width: int, kernel: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.weight = nn.Parameter(torch.empty(out_width, in_width, kernel, kernel))
        nn.init.normal_(self.weight, std=0.5 / math.sqrt(in_width * kernel * kernel))
        self.bias = nn.Parameter(torch.zeros(out_width))

    def integers(self) -> tuple[Tensor, Tensor]:
        """Weight and bias as the integers they stand for (float tensors, straight-through)."""
        scale = 2.0**self.shift
        return round_through(self.weight * scale).clamp(-127, 127), round_through(self.bias * scale)

    def forward(self, x: Tensor) -> Tensor:
        """Integers in, the sum divided by 2**shift out: not yet rounded down."""
        weight, bias = self.integers()
        total = F.conv2d(x, weight, bias + 2.0 ** (self.shift - 1), padding=self.weight.shape[-1] // 2)
        return total / 2.0**self.shift

    def export(self, name: str) -> dict[str, np.ndarray]:
        weight, bias = (t.detach().double().cpu().numpy() for t in self.integers())
        return {
            f"{name}.weight": weight.astype(np.int8),
            f"{name}.bias": bias.astype(np.int32),
            f"{name}.shift": np.array([self.shift], dtype=np.int32),
        }


def activate(x: Tensor) -> Tensor:
    x = floor_through(x)
    return torch.where(x < 0, floor_through(x / 8), x).clamp(-127, 127)


def symbol_planes(symbols: Tensor) -> Tensor:
    return symbols.abs().clamp(max=15) * 8


def next_memory(memory: Tensor, symbols: Tensor) -> Tensor:
    return (memory / 2).floor() + symbol_planes(symbols) / 2


def motion_planes(motion: Tensor) -> Tensor:
    """(B, h, w, 2) -> (B, 2, h, w)."""
    field = motion.float()
    size = field.abs().sum(-1)
    across = F.pad(field.diff(dim=2).abs().sum(-1), (1, 0))
    down = F.pad(field.diff(dim=1).abs().sum(-1), (0, 0, 1, 0))
    return torch.stack([size, 4 * (across + down)], 1).clamp(max=127)


class EntropyTwin(nn.Module):
    """Soft table indices: their rounded-down values are what the integer model says. All in float32.

    frequencies: (TABLES − 1, 2 REACH + 2), what tables 1..63 give −REACH..REACH and escape, as whole numbers;
    all zero where they are those of the Gaussians, by which the codec is trained.
    """

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        c = config
        self.code_groups = code_groups(c)
        self.hyper_index = nn.Parameter(torch.full((2, BANDS, c.hyper), 16.0))
        self.trunk0 = IntegerConv(c.latent + c.hyper + 4, c.entropy_trunk, 3, 8)
        self.trunk1 = IntegerConv(c.entropy_trunk, c.entropy_trunk, 3, 8)
        self.head0 = IntegerConv(c.entropy_trunk + c.latent, c.latent, 1, 8)
        self.first = IntegerConv(c.latent, c.entropy_first, 3, 8)
        self.head1 = IntegerConv(c.entropy_trunk + c.latent + c.entropy_first, c.latent, 1, 8)
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.zeros(TABLES - 1, 2 * REACH + 2))
        for head in (self.head0, self.head1):
            nn.init.constant_(head.bias, 12.0)

    def hyper_soft(self, intra: Tensor, quality: Tensor) -> Tensor:
        """(B, Cz): indices of z for intra flags and qualities (B,)."""
        return self.hyper_index[intra.long(), quality.long() * BANDS // 64]

    def first_pass(
        self, intra: Tensor, quality: Tensor, z: Tensor, motion: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As the integer model's, in batches. Returns the soft index (not yet rounded down) and the trunk."""
        _, _, height, width = memory.shape
        z = z.clamp(-15, 15) * 8
        z = z.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :height, :width]
        constant = torch.stack([64.0 * intra.float(), 2.0 * quality.float()], 1)
        constant = constant[..., None, None].expand(-1, -1, height, width)
        planes = torch.cat([memory, z, motion_planes(motion), constant], 1)
        planes = activate(self.trunk1(activate(self.trunk0(planes))))
        trunk = torch.cat([planes, memory], 1)
        return self.head0(trunk), trunk

    def second_pass(self, trunk: Tensor, first_symbols: Tensor) -> Tensor:
        first = activate(self.first(symbol_planes(first_symbols)))
        return self.head1(torch.cat([trunk, first], 1))

    def export(self) -> dict[str, np.ndarray]:
        """The integer arrays of :class:`s2vc.entropy.integer.IntegerEntropyModel`."""
        index = self.hyper_index.detach().floor().clamp(1, TABLES - 1).cpu().numpy().astype(np.uint8)
        arrays: dict[str, np.ndarray] = {
            "hyper.index": index,
            "codes.groups": np.array(self.code_groups, np.uint16),
        }
        for name in ("trunk0", "trunk1", "head0", "first", "head1"):
            arrays |= getattr(self, name).export(name)
        return arrays


LOWEST = -8  # index that the curve of scales goes on to below skip, for training
SCALE_MIN, SCALE_MAX = 0.14, 24.0
LOG_STEP = math.log(SCALE_MAX / SCALE_MIN) / (TABLES - 2)


def scale_of(index: Tensor) -> Tensor:
    """Standard deviation of the Gaussian of a (soft) table index; below 1 the curve goes on for training."""
    return SCALE_MIN * torch.exp((index.clamp(LOWEST, TABLES - 1) - 1) * LOG_STEP)


def gaussian_bits(symbols: Tensor, scale: Tensor) -> Tensor:
    """−log2 of a zero-mean Gaussian's mass on [s − ½, s + ½], float32; at most about what an escape costs."""
    magnitude = symbols.abs()
    root = scale * math.sqrt(2)
    mass = 0.5 * (torch.erfc((magnitude - 0.5) / root) - torch.erfc((magnitude + 0.5) / root))
    # A table's rarest symbols cost 16 bits, an escape a few more; the slope there keeps outliers coming back.
    return -torch.log2(mass.clamp(min=2.0**-18)) + 0.1 * (magnitude / scale - 5).clamp(min=0)
