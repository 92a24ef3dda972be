"""Muon for matrices and kernels, AdamW for the rest (TRAINING §3b: about twice as fast as AdamW alone)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Nearest orthogonal matrices to a stack (N, rows, columns) by five Newton-Schulz steps (Jordan 2024)."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.mT).float()


class Muon(torch.optim.Optimizer):
    """Momentum, then orthogonalised updates. Kernels (out, in, k, k) count as (out, in·k·k) matrices.

    ``dtype``: what the orthogonalisation is computed in; bfloat16 is as good where it is fast.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, dtype: torch.dtype, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            if not learning:
                continue
            for p in learning:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            grads, momenta = [p.grad for p in learning], [self.state[p]["momentum"] for p in learning]
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            moved = torch._foreach_lerp(grads, momenta, group["momentum"])
            stacks: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for p, update in zip(learning, moved, strict=True):
                matrix = update.reshape(len(update), -1)
                stacks[(matrix.shape[0], matrix.shape[1])].append((p, matrix))
            for (rows, columns), members in stacks.items():
                stack = torch.stack([m for _, m in members])
                steps = orthogonalise(stack, self.dtype) * max(1.0, rows / columns) ** 0.5
                for (p, _), step in zip(members, steps, strict=True):
                    p.add_(step.reshape(p.shape), alpha=-group["lr"])


Named = list[tuple[str, nn.Parameter]]


def split_parameters(named: Named, exclude: tuple[str, ...]) -> tuple[Named, Named]:
    """Parameters for Muon (convolutions of 32 and more outputs, not excluded by name) and for AdamW."""
    matrices: Named = []
    rest: Named = []
    for name, p in named:
        muon = p.ndim == 4 and p.shape[0] >= 32 and not any(e in name for e in exclude)
        (matrices if muon else rest).append((name, p))
    return matrices, rest
