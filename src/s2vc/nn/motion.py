"""Motion compensation of ``tiny``: overlapped 16 × 16 blocks, quarter-pixel vectors, eight-tap filters.

DESIGN §5 and TRAINING §3b (block edges): neighbouring blocks overlap by eight pixels with linear weights.
The reference picture holds quarters of 8-bit levels and every filter and weight is an integer, so all sums
stay below 2²⁴: float32 computes them exactly, in any order, on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 16
MARGIN = 4  # pixels by which a block reaches into its neighbours
TAPS = 8
SIDE = BLOCK + 2 * MARGIN  # 24: a block with its margins
WINDOW = SIDE + TAPS - 1  # 31: the reference samples it needs
LEVEL = 4  # steps of a reference picture's level; five would pass 2²⁴
PAD = 72  # of the reference's border: more than a window, and than vectors of the format reach

# HEVC's luma interpolation filters for phases 0, 1/4, 1/2, 3/4, in 64ths.
FILTERS = torch.tensor(
    [
        [0, 0, 0, 64, 0, 0, 0, 0],
        [-1, 4, -10, 58, 17, -5, 1, 0],
        [-1, 4, -11, 40, 40, -11, 4, -1],
        [0, 1, -5, 17, 58, -10, 4, -1],
    ],
    dtype=torch.float32,
)


def filter_matrices(rows: int) -> Tensor:
    """(4, rows, rows + 7): row i of phase p reads reference samples i..i+7 with that phase's taps."""
    matrices = torch.zeros(4, rows, rows + TAPS - 1)
    for row in range(rows):
        matrices[:, row, row : row + TAPS] = FILTERS
    return matrices


def _weights(count: int) -> Tensor:
    """(count, 24): each block's weights along one axis, in 16ths; those of one pixel sum to 16."""
    ramp = torch.arange(1, 4 * MARGIN, 2, dtype=torch.float32)  # 1, 3 … 15
    weights = torch.cat([ramp, torch.full((SIDE - 4 * MARGIN,), 16.0), ramp.flip(0)]).repeat(count, 1)
    weights[0, : 2 * MARGIN] = 16  # nothing overlaps at the picture's edge
    weights[-1, -2 * MARGIN :] = 16
    return weights


@lru_cache(maxsize=64)
def constant(device: torch.device, make: Callable[..., Tensor], *size: int) -> Tensor:
    """A constant, made once on each device: a GPU would wait for every copy."""
    return make(*size).to(device)


def overlap(blocks: Tensor) -> Tensor:
    """Sums of overlapping blocks (B, rows, columns, 24, C, 24), weighted in place: 256ths, (B, C, H, W)."""
    batch, rows, columns = blocks.shape[:3]
    blocks *= constant(blocks.device, _weights, rows)[:, None, :, None, None]
    blocks *= constant(blocks.device, _weights, columns)[:, None, None, :]
    flat = blocks.permute(0, 4, 3, 5, 1, 2).reshape(batch, -1, rows * columns)
    size = (rows * BLOCK + 2 * MARGIN, columns * BLOCK + 2 * MARGIN)
    padded = F.fold(flat, size, kernel_size=SIDE, stride=BLOCK)
    return padded[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def _compensate(picture: Tensor, field: Tensor) -> Tensor:
    picture = picture * LEVEL
    batch, channels = picture.shape[:2]
    rows, columns = field.shape[1:3]
    device = picture.device
    whole, phase = field >> 2, field & 3
    # Each window is a corner of a view of all windows: 31 neighbours are copied at once, and none is indexed.
    padded = F.pad(picture, (PAD, PAD, PAD, PAD), mode="replicate")
    every = padded.unfold(2, WINDOW, 1).unfold(3, WINDOW, 1).permute(0, 2, 3, 4, 1, 5)
    lead = PAD - MARGIN - (TAPS // 2 - 1)
    top = torch.arange(rows, device=device)[None, :, None] * BLOCK + whole[..., 1] + lead
    left = torch.arange(columns, device=device)[None, None] * BLOCK + whole[..., 0] + lead
    # A window that starts beyond lies in the repeated border alone, wherever it starts.
    top, left = top.clamp_(0, every.shape[1] - 1), left.clamp_(0, every.shape[2] - 1)
    image = torch.arange(batch, device=device)[:, None, None].expand_as(top)
    blocks = batch * rows * columns
    windows = every[image, top, left].reshape(blocks, WINDOW, channels * WINDOW)
    matrices = constant(device, filter_matrices, SIDE)
    half = torch.bmm(matrices[phase[..., 1].reshape(-1)], windows)  # (blocks, 24, C·31)
    half = half.reshape(blocks, SIDE * channels, WINDOW)
    full = torch.bmm(half, matrices[phase[..., 0].reshape(-1)].transpose(1, 2))  # (blocks, 24·C, 24)
    full = full.mul_(1 / 4096).add_(0.5).floor_().clamp_(0, 255 * LEVEL)
    full = full.reshape(batch, rows, columns, SIDE, channels, SIDE)
    return overlap(full) / (256 * LEVEL)


class _Compensate(torch.autograd.Function):
    """The exact prediction forward; backward the adjoint of whole-pixel blocks without filter and overlap.

    The exact adjoint costs as much as all networks together on a CPU, and differs from this one by less
    than a pixel's blur.
    """

    @staticmethod
    def forward(ctx: Any, picture: Tensor, field: Tensor) -> Tensor:
        ctx.save_for_backward(field)
        if picture.device.type != "cpu":
            return _compensate(picture, field)
        # One picture at a time stays in the cache: eight times as fast as the whole batch.
        return torch.cat([_compensate(picture[i : i + 1], field[i : i + 1]) for i in range(len(picture))])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        (field,) = ctx.saved_tensors
        batch, channels, height, width = grad.shape
        vector = ((field + 2) >> 2).repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)
        device = grad.device
        y = (torch.arange(height, device=device)[:, None] + vector[..., 1]).clamp_(0, height - 1)
        x = (torch.arange(width, device=device)[None] + vector[..., 0]).clamp_(0, width - 1)
        index = (y * width + x).reshape(batch, 1, -1).expand(-1, channels, -1)
        flat = grad.reshape(batch, channels, -1)
        return torch.zeros_like(flat).scatter_add_(2, index, flat).reshape(grad.shape), None


def motion_compensate(picture: Tensor, field: Tensor) -> Tensor:
    """Predict a picture from a reference.

    picture: float32 (B, C, H, W) of 8-bit levels 0..255 in quarters, H and W multiples of 16. field: integer
    (B, H/16, W/16, 2), the (x, y) displacement into the reference in quarter pixels. Outside the reference
    its border repeats. Returns float32 (B, C, H, W), multiples of 1/1024 in 0..255.
    """
    with torch.autocast(picture.device.type, enabled=False):  # in bfloat16 it would be 2 levels off
        result: Tensor = _Compensate.apply(picture, field.to(device=picture.device, dtype=torch.int64))
    return result


def warp_features(features: Tensor, field: Tensor) -> Tensor:
    """Move features (B, C, h, w) at 1/8 by a field (B, H/16, W/16, 2) of quarter pixels, bilinearly."""
    rows, columns = features.shape[-2:]
    flow = field.to(features.device, torch.float32).repeat_interleave(2, 1).repeat_interleave(2, 2) / 32
    flow = flow[:, :rows, :columns]
    y = torch.arange(rows, device=features.device, dtype=torch.float32)[:, None] + flow[..., 1]
    x = torch.arange(columns, device=features.device, dtype=torch.float32)[None] + flow[..., 0]
    grid = torch.stack([(2 * x + 1) / columns - 1, (2 * y + 1) / rows - 1], -1)
    return F.grid_sample(features.float(), grid, padding_mode="border", align_corners=False)
