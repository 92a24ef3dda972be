"""Where pixels came from: what only moves is read from the picture that it was last coded in.

Motion compensation of a picture that was itself predicted blurs it a little more in every frame. Here vectors
are added up instead: a pixel that no symbol touched since its *origin*, an I-frame or a frame finer than the
one before it, is interpolated once, at the sum of its vectors. Where neighbouring blocks part, sums mean
nothing, and the pixel is predicted from the last picture as ever.

All of it is integers in float32 below 2²⁴, the same on any machine (:mod:`s2vc.nn.motion`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from s2vc.nn.motion import BLOCK, LEVEL, MARGIN, SIDE, TAPS, constant, filter_matrices, overlap

FINER = 16  # steps of a displacement in a quarter pixel
AGREE = 4  # quarter pixels by which vectors of blocks that overlap may differ
BORDER = 8  # pixels around an interpolated picture; beyond, its border repeats
FARTHEST = 32767  # steps of a displacement, 512 pixels: 256 of it and a vector stay below 2²⁴
PHASES = 4
CELL = 8  # samples that are interpolated by one product


@dataclass
class Origin:
    """What pictures of one size, B of them, are followed back to.

    fine: int16 (B, 3, 4 (H + 16), 4 (W + 16)), the origin interpolated to quarter pixels, in quarters of a
    level. displacement: (B, 2, H, W), from a pixel to its place there, (x, y) in 64ths of a pixel. intact:
    bool (B, 1, H, W), where a pixel is its origin's, moved. quality: (B,) of the last frame.
    """

    fine: Tensor
    displacement: Tensor
    intact: Tensor
    quality: Tensor


def _cell_filters() -> Tensor:
    """(32, 15): eight samples in four phases each, one after another, from the samples that they need."""
    return filter_matrices(CELL).transpose(0, 1).flatten(0, 1) / 64


def interpolate(picture: Tensor) -> Tensor:
    """A picture (B, C, H, W) in levels -> ``Origin.fine`` (B, C, 4 (H + 16), 4 (W + 16))."""
    before = BORDER + TAPS // 2 - 1
    after = BORDER + TAPS // 2
    padded = F.pad(picture * LEVEL, (before, after, before, after), mode="replicate")
    filters = constant(picture.device, _cell_filters)
    side = filters.shape[1]
    # As products of matrices: a convolution of one channel by one of eight taps takes four times as long.
    with torch.autocast(picture.device.type, enabled=False):
        tall = (filters @ padded.unfold(2, side, CELL).transpose(-1, -2)).flatten(2, 3)
        full = (tall.unfold(3, side, CELL) @ filters.T).flatten(3, 4)
    return full.add_(0.5).clamp_(0, 255 * LEVEL).to(torch.int16)  # which rounds down


def no_origin(batch: int, height: int, width: int, device: torch.device | None = None) -> Origin:
    """What stands before a first frame: nothing can be followed."""
    size = (PHASES * (height + 2 * BORDER), PHASES * (width + 2 * BORDER))
    return Origin(
        torch.zeros(batch, 3, *size, dtype=torch.int16, device=device),
        torch.zeros(batch, 2, height, width, device=device),
        torch.zeros(batch, 1, height, width, dtype=torch.bool, device=device),
        torch.full((batch,), -1, device=device),
    )


@torch.no_grad()
def follow(origin: Origin, motion: Tensor) -> tuple[Tensor, Origin]:
    """What a frame's vectors find at the origin.

    motion: integer (B, H/16, W/16, 2), quarter pixels. Returns pictures (B, 3, H, W) in levels, to be used
    where the new origin is intact, and that origin before the frame's own symbols are known.
    """
    batch, _, height, width = origin.displacement.shape
    field = motion.to(device=origin.fine.device, dtype=torch.int64)
    moved = _moved(origin, field)
    displacement = (moved[:, :2] / 256 + 0.5).floor().clamp(-FARTHEST, FARTHEST)
    intact = (moved[:, 2:] == 0) & _agree(field)

    rows, columns = origin.fine.shape[2:]
    steps = ((displacement.long() + FINER // 2) // FINER) + PHASES * BORDER
    y = (PHASES * torch.arange(height, device=field.device)[:, None] + steps[:, 1]).clamp_(0, rows - 1)
    x = (PHASES * torch.arange(width, device=field.device) + steps[:, 0]).clamp_(0, columns - 1)
    index = (y * columns + x).reshape(batch, 1, -1).expand(-1, 3, -1)
    found = origin.fine.flatten(2).gather(2, index).reshape(batch, 3, height, width) / LEVEL
    return found, Origin(origin.fine, displacement, intact, origin.quality)


def _moved(origin: Origin, field: Tensor) -> Tensor:
    """Displacements (x, y) and what is not intact, moved by overlapped blocks, in 256ths (B, 3, H, W)."""
    batch, _, height, width = origin.displacement.shape
    rows, columns = field.shape[1:3]
    device = field.device
    inside = torch.arange(-MARGIN, SIDE - MARGIN, device=device)
    top = torch.arange(rows, device=device)[:, None, None] * BLOCK + inside[:, None]  # (rows, 24, 1)
    left = torch.arange(columns, device=device)[:, None, None] * BLOCK + inside  # (columns, 1, 24)
    vertical, horizontal = field[..., 1, None, None], field[..., 0, None, None]  # (B, rows, columns, 1, 1)
    y = (top[:, None] + ((vertical + 2) >> 2)).clamp_(0, height - 1)
    x = (left + ((horizontal + 2) >> 2)).clamp_(0, width - 1)
    index = (y * width + x).reshape(batch, 1, -1).expand(-1, 3, -1)
    kept = torch.cat([origin.displacement, (~origin.intact).float()], 1).flatten(2)
    windows = kept.gather(2, index).reshape(batch, 3, rows, columns, SIDE, SIDE)
    windows[:, :2] += FINER * field.permute(0, 3, 1, 2)[..., None, None]
    return overlap(windows.permute(0, 2, 3, 4, 1, 5))


def _agree(field: Tensor) -> Tensor:
    """Where all blocks that reach a pixel have about the same vector, bool (B, 1, H, W)."""
    # A block is four cells of four pixels a side: all that reach a pixel have cells around its own.
    cells = BLOCK // MARGIN
    vectors = field.permute(0, 3, 1, 2).float()
    vectors = vectors.repeat_interleave(cells, 2).repeat_interleave(cells, 3)
    above = F.max_pool2d(vectors, 3, 1, 1) - vectors
    below = F.max_pool2d(-vectors, 3, 1, 1) + vectors
    agree = torch.maximum(above, below).amax(1, keepdim=True) <= AGREE
    return agree.repeat_interleave(MARGIN, 2).repeat_interleave(MARGIN, 3)


@torch.no_grad()
def settle(origin: Origin, reference: Tensor, touched: Tensor, intra: Tensor, quality: Tensor) -> Origin:
    """The origin after a frame.

    reference: the picture kept of it, (B, 3, H, W) levels. touched: bool (B, 1, H, W), what symbols changed.
    intra: bool (B,); an I-frame is an origin, as is a frame finer than the one before it.
    """
    opens = intra | (quality > origin.quality)
    quality = quality.to(origin.quality.dtype)
    if reference.device.type == "cpu" and not opens.any():  # a GPU would wait for the answer
        return Origin(origin.fine, origin.displacement, origin.intact & ~touched, quality)
    all_of_it = opens[:, None, None, None]
    return Origin(
        torch.where(all_of_it, interpolate(reference), origin.fine),
        torch.where(all_of_it, 0.0, origin.displacement),
        all_of_it | (origin.intact & ~touched),
        quality,
    )
