"""Low-rank adapters (LoRA), merged into the weights they adapt (ARCHITECTURE §6)."""

from __future__ import annotations

import torch
from torch import Tensor


def merge(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """weight + scale · up·down, in float32, as ``weight``'s dtype.

    Linear layers: ``weight`` (O, I), ``down`` (R, I), ``up`` (O, R). Convolutions: ``weight`` (O, I, k, k),
    ``down`` (R, I, k, k), ``up`` (O, R, 1, 1).
    """
    product = up.float().flatten(1) @ down.float().flatten(1)
    return torch.add(weight.float(), product.reshape(weight.shape), alpha=scale).to(weight.dtype)
