"""Building blocks shared by the networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NEGATIVE_SLOPE = 0.1


def activation(x: Tensor) -> Tensor:
    """Leaky ReLU: one pass over memory, which is what counts on a CPU."""
    return F.leaky_relu(x, NEGATIVE_SLOPE)


def round_through(x: Tensor) -> Tensor:
    """Round half to even, gradient as if it were the identity."""
    return x + (x.round() - x).detach()


class ResBlock(nn.Module):
    """x + conv3x3(act(conv3x3(act(x)))); ``width`` channels, any size. No norms (MLVC, PEERS)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        # A block starts near the identity, so depth costs nothing at the start of training.
        with torch.no_grad():
            self.conv2.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(activation(self.conv1(activation(x))))


class PointwiseBlock(nn.Module):
    """x + 1x1(act(1x1(x))), ``expansion`` times wider inside: the renderer's layer (PULSE, PEERS)."""

    def __init__(self, width: int, expansion: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width * expansion, 1)
        self.conv2 = nn.Conv2d(width * expansion, width, 1)
        with torch.no_grad():
            self.conv2.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(activation(self.conv1(x)))


class Downsample(nn.Conv2d):
    """3x3 convolution of stride 2; n positions become ceil(n / 2)."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__(in_width, out_width, 3, stride=2, padding=1)


class Upsample(nn.Module):
    """1x1 convolution and pixel shuffle to ``like``'s size (at most twice the input's)."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, 4 * out_width, 1)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)[..., : like.shape[-2], : like.shape[-1]]


class CrossAttention(nn.Module):
    """x + attention from every position of x to ``tokens`` (B, C_t, h, w), pre-norm, multi-head.

    The CSG guidance of the paper (§3.2): tokens stand in a text prompt's place.
    """

    def __init__(self, width: int, token_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(1, width)
        self.query = nn.Conv2d(width, width, 1)
        self.key_value = nn.Conv2d(token_width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        batch, width, height, columns = x.shape

        def split(t: Tensor) -> Tensor:  # (B, C, h, w) -> (B, heads, h*w, C/heads)
            return t.reshape(batch, self.heads, width // self.heads, -1).transpose(2, 3)

        key, value = self.key_value(tokens).chunk(2, dim=1)
        read = F.scaled_dot_product_attention(split(self.query(self.norm(x))), split(key), split(value))
        return x + self.out(read.transpose(2, 3).reshape(batch, width, height, columns))


def patch(picture: Tensor, size: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3·size², H/size, W/size), channels-last."""
    return F.pixel_unshuffle(picture, size).contiguous(memory_format=torch.channels_last)


def unpatch(patches: Tensor, size: int) -> Tensor:
    """The inverse of :func:`patch`."""
    return F.pixel_shuffle(patches, size)
