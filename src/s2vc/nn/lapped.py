"""The lapped transform that ``tiny``'s latents start as, and its mirrored borders.

DESIGN §5 lets y start as a 16 × 16 DCT, whose block edges training then fights. Here the DCT is lapped
(Tran, Liang and Tu 2003: a filter across each block edge before the DCT), so its basis functions are 32
pixels long, fade out at their ends and still form an orthonormal basis. Written as one 2 × 2 convolution over
16 × 16 patches it stays trainable.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = 16
OVERLAP = BLOCK // 2

# Orthonormal colour axes of RGB: grey, red-blue, green-magenta; with the variance each typically holds.
COLOUR_AXES = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]], dtype=torch.float64)
COLOUR_AXES = COLOUR_AXES / COLOUR_AXES.norm(dim=1, keepdim=True)
COLOUR_VARIANCE = (1.0, 0.06, 0.03)


def _dct(n: int, shift: float) -> Tensor:
    """Orthonormal DCT-II (shift 0) or DCT-IV (shift ½) matrix, rows are basis functions."""
    k = torch.arange(n, dtype=torch.float64)[:, None] + shift
    i = torch.arange(n, dtype=torch.float64)[None] + 0.5
    basis = torch.cos(math.pi / n * k * i) * math.sqrt(2 / n)
    if shift == 0:
        basis[0] /= math.sqrt(2)
    return basis


def lapped_basis() -> Tensor:
    """(16, 32) float64: the 16 orthonormal basis functions of one block, lapping 8 pixels to both sides."""
    half = OVERLAP
    flip = torch.eye(half, dtype=torch.float64).flip(0)
    eye = torch.eye(half, dtype=torch.float64)
    rotation = flip @ _dct(half, 0).T @ _dct(half, 0.5) @ flip
    butterfly = torch.cat([torch.cat([eye, flip], 1), torch.cat([flip, -eye], 1)], 0)
    edge = 0.5 * butterfly @ torch.block_diag(eye, rotation) @ butterfly  # acts on 16 pixels around an edge
    dct = _dct(BLOCK, 0)
    # The block's 16 inputs are the second half of its left edge's filter and the first of its right one's.
    inputs = torch.zeros(BLOCK, 2 * BLOCK, dtype=torch.float64)
    inputs[:half, :BLOCK] = edge[half:]
    inputs[half:, BLOCK:] = edge[:half]
    return dct @ inputs


def select_coefficients(count: int) -> list[tuple[int, int, int]]:
    """The ``count`` coefficients (colour axis, row frequency, column frequency) of highest expected variance.

    Expectation: a separable first-order process of correlation 0.95 a pixel, the usual model of pictures.
    """
    basis = lapped_basis()
    position = torch.arange(2 * BLOCK, dtype=torch.float64)
    covariance = 0.95 ** (position[:, None] - position[None]).abs()
    variance = (basis @ covariance @ basis.T).diagonal()
    everything = [
        (float(COLOUR_VARIANCE[c] * variance[u] * variance[v]), c, u, v)
        for c in range(3)
        for u in range(BLOCK)
        for v in range(BLOCK)
    ]
    everything.sort(key=lambda entry: (-entry[0], entry[1:]))
    return [entry[1:] for entry in everything[:count]]


def mirror_pad(picture: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H + 16, W + 16): half-sample mirrored by 8 pixels at every side."""
    picture = torch.cat([picture[..., :OVERLAP].flip(-1), picture, picture[..., -OVERLAP:].flip(-1)], -1)
    return torch.cat([picture[..., :OVERLAP, :].flip(-2), picture, picture[..., -OVERLAP:, :].flip(-2)], -2)


def mirror_fold(padded: Tensor) -> Tensor:
    """The adjoint of :func:`mirror_pad`: what a border block puts outside the picture is folded back in."""
    middle = padded[..., OVERLAP:-OVERLAP, :].clone()
    middle[..., :OVERLAP, :] += padded[..., :OVERLAP, :].flip(-2)
    middle[..., -OVERLAP:, :] += padded[..., -OVERLAP:, :].flip(-2)
    folded = middle[..., OVERLAP:-OVERLAP].clone()
    folded[..., :OVERLAP] += middle[..., :OVERLAP].flip(-1)
    folded[..., -OVERLAP:] += middle[..., -OVERLAP:].flip(-1)
    return folded


class LappedTransform(nn.Module):
    """Picture (B, 3, H, W) -> ``count`` coefficients (B, count, H/16, W/16) and back; H, W multiples of 16.

    Two trainable maps (analysis, synthesis), both starting as the same orthonormal basis.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        basis = lapped_basis()
        kernels = torch.stack(
            [
                COLOUR_AXES[c][:, None, None] * (basis[u][:, None] * basis[v][None])[None]
                for c, u, v in select_coefficients(count)
            ]
        )  # (count, 3, 32, 32)
        weight = F.pixel_unshuffle(kernels, BLOCK).float()  # (count, 768, 2, 2)
        self.analysis = nn.Parameter(weight.clone())
        self.synthesis = nn.Parameter(weight.clone())

    def forward(self, picture: Tensor) -> Tensor:
        blocks = F.pixel_unshuffle(mirror_pad(picture), BLOCK)
        return F.conv2d(blocks.contiguous(memory_format=torch.channels_last), self.analysis)

    def inverse(self, coefficients: Tensor) -> Tensor:
        blocks = F.conv_transpose2d(coefficients, self.synthesis)
        return mirror_fold(F.pixel_shuffle(blocks, BLOCK))
