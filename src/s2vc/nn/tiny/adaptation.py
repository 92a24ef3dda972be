"""Codes that adapt ``tiny``'s generator to what is being coded (docs/entropy-model.md, "Adaptation").

A film's I-frame may carry a few whole numbers, chosen by the encoder, which scale and shift the channels of
the layers that draw: instance-adaptive coding (van Rozendaal et al. 2021) in a subspace that was learnt
beforehand. No symbol depends on it, so a film without codes is the same film, drawn as the model draws all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from s2vc.nn.tiny.generator import TinyGenerator

# The U-Net's way up and the renderer: what stands before them, codes reach as well from there.
ADAPTED = (
    *("from32.conv", "skip16", "up16.conv1", "up16.conv2", "from16.conv", "skip8", "up8.conv1", "up8.conv2"),
    *("render_in.conv", "render_picture", "render.0.conv1", "render.0.conv2"),
    *("render.1.conv1", "render.1.conv2", "out"),
)


class Adaptation(nn.Module):
    """What each of ``codes`` changes: scale (codes,) times basis (codes, 2 P), gains of the P adapted
    channels, then their shifts. In a model file the basis is whole numbers within ±127.
    """

    def __init__(self, codes: int, generator: TinyGenerator) -> None:
        super().__init__()
        self.widths = [len(generator.get_parameter(f"{name}.bias")) for name in ADAPTED]
        self.basis = nn.Parameter(torch.zeros(codes, 2 * sum(self.widths)))
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(codes))

    def weights(self, generator: TinyGenerator, codes: Tensor) -> dict[str, Tensor]:
        """The adapted layers' weights by name, for ``torch.func.functional_call``; codes: float (K,).

        A channel y becomes (1 + gain) y + shift.
        """
        with torch.autocast(codes.device.type, enabled=False):
            changes = codes * self.scale @ self.basis
        gains, shifts = (half.split(self.widths) for half in changes.chunk(2))
        adapted: dict[str, Tensor] = {}
        for name, gain, shift in zip(ADAPTED, gains, shifts, strict=True):
            weight, bias = (generator.get_parameter(f"{name}.{part}") for part in ("weight", "bias"))
            adapted[f"{name}.weight"] = weight * (1 + gain)[:, None, None, None]
            adapted[f"{name}.bias"] = bias * (1 + gain) + shift
        return adapted
