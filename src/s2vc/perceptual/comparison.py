"""What LPIPS and DISTS ask of activations, with gradients that fit a processor's cache.

On a CPU autograd's own passes over such activations cost several times what VGG-16's convolutions do in
bfloat16: each is a trip to memory, and the gradients of sums come in another layout than the activations.
Here a slice at a time goes through all of it, in float32, and is written once. Activations are float32 or
bfloat16; there are no second derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_AT_ONCE = 1 << 17  # values, of each operand: half a megabyte in float32


def by_place(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H · W, C): a view where channels lie last in memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _slices(x: Tensor) -> Iterator[slice]:
    """Places to take at once; all of them on a GPU, where each step is a kernel to start."""
    count, places, channels = x.shape
    step = max(1, _AT_ONCE // (count * channels)) if x.device.type == "cpu" else places
    return (slice(start, start + step) for start in range(0, places, step))


def _check(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape:
        raise ValueError(f"activations of {tuple(x.shape)} and {tuple(y.shape)} cannot be compared")


def unit_length(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, P, C) -> each place's channels in float32 at length 1, and what they were divided by (N, P, 1)."""
    x = x.float()
    length = torch.linalg.vector_norm(x, dim=2, keepdim=True) + 1e-10
    return x / length, length


class _UnitDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, head: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[:2]
        gradients = [torch.empty_like(z) if want else None for z, want in zip((x, y), wanted, strict=True)]
        total = x.new_zeros(x.shape[0], x.shape[2], dtype=torch.float32)
        for part in _slices(x):
            units = [unit_length(z[:, part]) for z in (x, y)]
            difference = units[0][0] - units[1][0]
            total += difference.square().sum(1)
            if not any(wanted):
                continue
            pull = difference * (2 / x.shape[1] * head)
            for gradient, (unit, length), sign in zip(gradients, units, (1, -1), strict=True):
                if gradient is not None:  # what lies along the vector itself does not change its direction
                    along = (pull * unit).sum(2, keepdim=True)
                    gradient[:, part] = (pull - unit * along) * (sign / length)
        ctx.save_for_backward(*gradients)
        return (total / x.shape[1] * head).sum(1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        found = (g if g is None else g * outer.to(g.dtype)[:, None, None] for g in ctx.saved_tensors)
        return (*found, None)


def unit_distance(x: Tensor, y: Tensor, head: Tensor) -> Tensor:
    """Σ over c of head (C,) times the squared difference of unit vectors, averaged over places: float32 (N,).

    x, y: (N, P, C), floating; the head gets no gradient. Raises ValueError for two shapes.
    """
    _check(x, y)
    result: Tensor = _UnitDistance.apply(x, y, head)  # type: ignore[no-untyped-call]
    return result


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        count, places, channels = x.shape
        means = x.new_zeros(2, count, channels, dtype=torch.float32)
        for part in _slices(x):
            means += torch.stack([z[:, part].sum(1, dtype=torch.float32) for z in (x, y)])
        means /= places
        squares = x.new_zeros(3, count, channels, dtype=torch.float32)
        for part in _slices(x):
            a, b = x[:, part].float() - means[0, :, None], y[:, part].float() - means[1, :, None]
            squares += torch.stack([product.sum(1) for product in (a.square(), b.square(), a * b)])
        ctx.save_for_backward(x, y, means)
        return torch.cat([means, squares / places])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        x, y, means = ctx.saved_tensors
        mean_pull, own, shared = outer[:2], 2 * outer[2:4], outer[4]
        found: list[Tensor | None] = []
        for place, (z, other) in enumerate(((x, y), (y, x))):
            if not ctx.needs_input_grad[place]:
                found.append(None)
                continue
            constant = mean_pull[place] - own[place] * means[place] - shared * means[1 - place]
            gains = [g[:, None] / x.shape[1] for g in (constant, own[place], shared)]
            gradient = torch.empty_like(z)
            for part in _slices(z):
                pull = torch.addcmul(gains[0], z[:, part].float(), gains[1])
                gradient[:, part] = pull.addcmul_(other[:, part].float(), gains[2])
            found.append(gradient)
        return tuple(found)


def moments(x: Tensor, y: Tensor) -> Tensor:
    """Means, variances and covariance by channel: float32 (5, N, C): mean x, y, variance x, y, covariance.

    x, y: (N, P, C), floating. Raises ValueError for two shapes.
    """
    _check(x, y)
    result: Tensor = _Moments.apply(x, y)  # type: ignore[no-untyped-call]
    return result


class _RootMeanSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Tensor) -> Tensor:
        kernel = window.to(x.dtype).expand(x.shape[1], 1, 3, 3)
        power = functional.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1])
        root = (power + 1e-12).sqrt()
        ctx.save_for_backward(x, root)
        return root

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        x, root = ctx.saved_tensors
        height, width = root.shape[2:]
        # The transposed window is half of linear interpolation each way, with nothing behind the border.
        pull = functional.pad(outer / root, (0, 1, 0, 1))
        pull = functional.interpolate(
            pull, (2 * height + 1, 2 * width + 1), mode="bilinear", align_corners=True
        )
        return x * pull[..., : x.shape[2], : x.shape[3]] * 0.25, None


def hann_pool(x: Tensor, window: Tensor) -> Tensor:
    """Root of the window's mean of squares at every second place: (N, C, H, W) -> (N, C, ⌈H/2⌉, ⌈W/2⌉).

    window: float (1, 1, 3, 3), the product of (1/4, 1/2, 1/4) with itself; the gradient is that one's.
    """
    result: Tensor = _RootMeanSquare.apply(x, window)  # type: ignore[no-untyped-call]
    return result
