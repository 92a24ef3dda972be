"""Building blocks of the published codecs (ARCHITECTURE §3). Maps are float (B, C, H, W) throughout."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 32


def _shortcut(in_width: int, out_width: int, stride: int = 1) -> nn.Module:
    if in_width == out_width and stride == 1:
        return nn.Identity()
    return nn.Conv2d(in_width, out_width, 1, stride=stride)


class DepthConv(nn.Module):
    """pointwise(depthwise3x3(LeakyReLU(pointwise(x)))) + x, or + 1x1(x) where the width changes."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.pointwise_in = nn.Conv2d(in_width, in_width, 1)
        self.depthwise = nn.Conv2d(in_width, in_width, 3, padding=1, groups=in_width)
        self.pointwise_out = nn.Conv2d(in_width, out_width, 1)
        self.shortcut = _shortcut(in_width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.depthwise(F.leaky_relu(self.pointwise_in(x), 0.01))
        return self.pointwise_out(inner) + self.shortcut(x)


class WideDepthConv(nn.Module):
    """As :class:`DepthConv`, twice as wide inside and with a 5x5 kernel; the width stays."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, 2 * width, 1)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 5, padding=2, groups=2 * width)
        self.project = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.depthwise(F.leaky_relu(self.expand(x), 0.01))) + x


class ConvFFN(nn.Module):
    """x + 1x1(LeakyReLU_0.1(a) + LeakyReLU_0.01(b)), a and b the halves of a 1x1 to four times the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, 4 * width, 1)
        self.project = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.expand(x).chunk(2, dim=1)
        return x + self.project(F.leaky_relu(a, 0.1) + F.leaky_relu(b, 0.01))


class DepthConvBlock(nn.Sequential):
    """DepthConvBlock4 of ARCHITECTURE §3."""

    def __init__(self, in_width: int, out_width: int | None = None) -> None:
        out_width = in_width if out_width is None else out_width
        super().__init__(DepthConv(in_width, out_width), ConvFFN(out_width))


class WideDepthConvBlock(nn.Sequential):
    """DepthConvBlock5 of ARCHITECTURE §3."""

    def __init__(self, in_width: int, out_width: int | None = None) -> None:
        out_width = in_width if out_width is None else out_width
        super().__init__(
            WideDepthConv(in_width), ConvFFN(in_width), DepthConv(in_width, out_width), ConvFFN(out_width)
        )


class StridedResidual(nn.Module):
    """ResidualBlockWithStride of ARCHITECTURE §3: (H, W) becomes (H/2, W/2)."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, out_width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1)
        self.shortcut = _shortcut(in_width, out_width, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv2(F.leaky_relu(self.conv1(x), 0.01))
        return F.leaky_relu(inner, 0.1) + self.shortcut(x)


class UpsampledResidual(nn.Module):
    """ResidualBlockUpsample of ARCHITECTURE §3: (H, W) becomes (2H, 2W)."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(in_width, 4 * out_width, 1)
        self.conv = nn.Conv2d(out_width, out_width, 3, padding=1)
        self.shortcut = nn.Conv2d(in_width, 4 * out_width, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv(F.leaky_relu(F.pixel_shuffle(self.expand(x), 2), 0.01))
        return F.leaky_relu(inner, 0.1) + F.pixel_shuffle(self.shortcut(x), 2)


class ResBlock(nn.Module):
    """GELU(conv3x3(GELU(conv3x3(x)))) + x, or + 1x1(x) where the width changes; exact GELU."""

    def __init__(self, in_width: int, out_width: int | None = None) -> None:
        super().__init__()
        out_width = in_width if out_width is None else out_width
        self.conv1 = nn.Conv2d(in_width, out_width, 3, padding=1)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1)
        self.shortcut = _shortcut(in_width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.conv2(F.gelu(self.conv1(x)))) + self.shortcut(x)


class NormResBlock(nn.Module):
    """Group norm, SiLU, 3x3 without bias, twice; plus x.

    Where the width changes, the 1x1 ``shortcut`` reads the branch and not the input, h + W·h: published
    networks are so (ARCHITECTURE §3).
    """

    def __init__(self, in_width: int, out_width: int | None = None) -> None:
        super().__init__()
        out_width = in_width if out_width is None else out_width
        self.norm1 = nn.GroupNorm(GROUPS, in_width, eps=1e-6)
        self.conv1 = nn.Conv2d(in_width, out_width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, out_width, eps=1e-6)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1, bias=False)
        self.shortcut = None if in_width == out_width else nn.Conv2d(out_width, out_width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv1(F.silu(self.norm1(x)))
        branch = self.conv2(F.silu(self.norm2(branch)))
        return branch + (x if self.shortcut is None else self.shortcut(branch))


class SelfAttention(nn.Module):
    """x + attention of one head over all positions, on the group-normed map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.query = nn.Conv2d(width, width, 1)
        self.key = nn.Conv2d(width, width, 1)
        self.value = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        query, key, value = (
            layer(normed).flatten(2).transpose(1, 2).unsqueeze(1)
            for layer in (self.query, self.key, self.value)
        )
        read = F.scaled_dot_product_attention(query, key, value)
        return x + self.out(read.squeeze(1).transpose(1, 2).reshape(x.shape))


class Reduction(nn.Module):
    """Group norm, SiLU, 3x3, twice, to ``out_width``; plus 1x1(x): r_t's stand-in x_T (ARCHITECTURE §6)."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, in_width, eps=1e-6)
        self.conv1 = nn.Conv2d(in_width, in_width, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, in_width, eps=1e-6)
        self.conv2 = nn.Conv2d(in_width, out_width, 3, padding=1)
        self.shortcut = nn.Conv2d(in_width, out_width, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(inner))) + self.shortcut(x)
