"""Gradients that are written out against those of autograd on the formulas themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from s2vc.perceptual import comparison
from s2vc.perceptual.comparison import by_place, hann_pool, moments, unit_distance, unit_length

HANN = torch.outer(*[torch.tensor([0.25, 0.5, 0.25])] * 2)[None, None]


def activations(seed: int, dtype: torch.dtype) -> Tensor:
    values = torch.randn(2, 5, 7, 11, generator=torch.Generator().manual_seed(seed))
    last = values.relu().add(0.01).to(dtype, memory_format=torch.channels_last)
    return last.requires_grad_()


def plain_distance(x: Tensor, y: Tensor) -> Tensor:
    u, v = (z / z.norm(dim=2, keepdim=True) for z in (x, y))
    return ((u - v).square() * weights(x)).sum(2).mean(1)


def plain_moments(x: Tensor, y: Tensor) -> Tensor:
    mean_x, mean_y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    a, b = x - mean_x, y - mean_y
    return torch.stack([mean_x[:, 0], mean_y[:, 0], (a * a).mean(1), (b * b).mean(1), (a * b).mean(1)])


def weights(x: Tensor) -> Tensor:
    return torch.linspace(0.1, 1, x.shape[2])


@pytest.mark.parametrize("at_once", [1, 64, 1 << 20])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize(
    ("written", "plain"),
    [(lambda x, y: unit_distance(x, y, weights(x)), plain_distance), (moments, plain_moments)],
)
def test_both_gradients_are_those_of_the_formula(
    written: Callable[[Tensor, Tensor], Tensor],
    plain: Callable[[Tensor, Tensor], Tensor],
    dtype: torch.dtype,
    close: float,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparison, "_AT_ONCE", at_once)
    x, y = activations(1, dtype), activations(2, dtype)
    found = written(by_place(x), by_place(y))
    assert found.dtype == torch.float32
    outer = torch.randn(found.shape, generator=torch.Generator().manual_seed(3))
    mine = torch.autograd.grad(found, (x, y), outer)
    x, y = (z.detach().double().requires_grad_() for z in (x, y))
    expected = plain(by_place(x), by_place(y))
    theirs = torch.autograd.grad(expected, (x, y), outer.double())
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-6)
    for a, b in zip(mine, theirs, strict=True):
        assert a.dtype == dtype
        assert (a.double() - b).norm() < close * b.norm()


@pytest.mark.parametrize("place", [0, 1])
def test_one_gradient_alone_is_the_same(place: int) -> None:
    for function in (lambda x, y: unit_distance(x, y, weights(x)), moments):
        pair = [activations(4, torch.float32), activations(5, torch.float32)]
        both = torch.autograd.grad(function(*map(by_place, pair)).sum(), pair)
        pair[1 - place].requires_grad_(False)
        (alone,) = torch.autograd.grad(function(*map(by_place, pair)).sum(), pair[place])
        assert torch.equal(alone, both[place])


def test_channels_that_are_all_zero_have_a_finite_gradient() -> None:
    x, y = torch.zeros(1, 3, 4, requires_grad=True), torch.ones(1, 3, 4)
    unit_distance(x, y, weights(y)).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()
    assert torch.equal(unit_length(torch.zeros(1, 3, 4))[0], torch.zeros(1, 3, 4))


@pytest.mark.parametrize("size", [(8, 10), (7, 10), (8, 9), (5, 3), (1, 1)])
@pytest.mark.parametrize(
    ("dtype", "layout", "close"),
    [
        (torch.float32, torch.contiguous_format, 1e-5),
        (torch.float32, torch.channels_last, 1e-5),
        (torch.bfloat16, torch.channels_last, 1e-2),
    ],
)
def test_the_pool_and_its_gradient_are_the_convolutions(
    size: tuple[int, int], dtype: torch.dtype, layout: torch.memory_format, close: float
) -> None:
    values = torch.rand(2, 4, *size, generator=torch.Generator().manual_seed(6))
    values[:, 0] = 0  # a channel that says nothing anywhere
    x = values.to(dtype, memory_format=layout).requires_grad_()
    found = hann_pool(x, HANN)
    outer = torch.randn(found.shape, generator=torch.Generator().manual_seed(7))
    (mine,) = torch.autograd.grad(found, x, outer.to(dtype))
    exact = x.detach().double().requires_grad_()
    window = HANN.double().expand(4, 1, 3, 3)
    expected = (functional.conv2d(exact.square(), window, stride=2, padding=1, groups=4) + 1e-12).sqrt()
    (theirs,) = torch.autograd.grad(expected, exact, outer.double())
    assert mine.dtype == found.dtype == dtype and torch.isfinite(mine).all()
    assert (found.double() - expected).norm() < close * expected.norm()
    assert (mine.double() - theirs).norm() < close * theirs.norm()


def test_any_layout_and_no_gradients_give_the_same() -> None:
    last = [activations(seed, torch.float32).detach() for seed in (8, 9)]
    for function in (lambda x, y: unit_distance(x, y, weights(x)), moments):
        expected = function(*map(by_place, last))
        with torch.inference_mode():
            torch.testing.assert_close(function(*(by_place(x.contiguous()) for x in last)), expected)
        with pytest.raises(ValueError, match="cannot be compared"):
            function(by_place(last[0]), by_place(last[1][:1]))
