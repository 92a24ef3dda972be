"""Muon for matrices and kernels, AdamW for the rest (TRAINING §3b: about twice as fast as AdamW alone)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

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

    ``lr``: a number, or a tensor on the parameters' device. ``dtype``: what the orthogonalisation is computed
    in; bfloat16 is as good where it is fast.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float | Tensor, dtype: torch.dtype, momentum: float = 0.95
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
                steps = orthogonalise(stack, self.dtype) * (group["lr"] * max(1.0, rows / columns) ** 0.5)
                for (p, _), step in zip(members, steps, strict=True):
                    p.sub_(step.reshape(p.shape))


class Update:
    """Gradients clipped to a norm, then one step of each optimiser."""

    def __init__(self, optimisers: Mapping[str, torch.optim.Optimizer], clip: float) -> None:
        self.optimisers, self.clip = list(optimisers.values()), clip
        self.learning = [p for o in self.optimisers for group in o.param_groups for p in group["params"]]

    def forget(self) -> None:
        """No gradient is left."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)

    def __call__(self) -> Tensor:
        """The gradient's norm before it was clipped."""
        norm: Tensor = torch.nn.utils.clip_grad_norm_(self.learning, self.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        return norm


class GraphedUpdate(Update):
    """The same as a CUDA graph: Python takes longer to ask for its small kernels than a GPU for a whole step.

    Learning rates must be tensors on the GPU, AdamW ``capturable``.
    """

    EAGER = 3  # steps before it is captured: moments are made in the first

    def __init__(self, optimisers: Mapping[str, torch.optim.Optimizer], clip: float) -> None:
        super().__init__(optimisers, clip)
        for p in self.learning:  # of their own: else they would lie where the network's graph writes
            p.grad = torch.zeros_like(p)
        self._done, self._graph = 0, torch.cuda.CUDAGraph()
        self._norm: Tensor | None = None

    def forget(self) -> None:
        """Gradients are zero, where they lie: the graph reads them there."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=False)

    def __call__(self) -> Tensor:
        self._done += 1
        if self._done <= self.EAGER:
            return super().__call__()
        if self._norm is None:
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._norm = super().__call__()
        self._graph.replay()
        return self._norm.clone()


Named = list[tuple[str, nn.Parameter]]


def split_parameters(named: Named, exclude: tuple[str, ...]) -> tuple[Named, Named]:
    """Parameters for Muon (convolutions of 32 and more outputs, not excluded by name) and for AdamW."""
    matrices: Named = []
    rest: Named = []
    for name, p in named:
        muon = p.ndim == 4 and p.shape[0] >= 32 and not any(e in name for e in exclude)
        (matrices if muon else rest).append((name, p))
    return matrices, rest
