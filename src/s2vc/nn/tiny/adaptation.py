"""Codes that adapt ``tiny``'s generator to what is being coded (docs/entropy-model.md, "Adaptation").

A film's I-frame may carry whole numbers, chosen by the encoder, by which channels of the layers on the way up
are scaled and shifted: instance-adaptive coding (van Rozendaal et al. 2021), of gains and biases alone. No
symbol depends on it, nor the buffer of later frames, so a film without codes is the same film, drawn as the
model draws all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from s2vc.nn.tiny.config import TinyConfig

if TYPE_CHECKING:
    from s2vc.nn.tiny.generator import TinyGenerator

RENDERER = (
    "render_in.conv",
    "render_picture",
    "render.0.conv1",
    "render.0.conv2",
    "render.1.conv1",
    "render.1.conv2",
    "out",
)
SCALED = ("skip16", "up16.conv1", "up16.conv2", "from16.conv", "skip8", "up8.conv1", "up8.conv2", *RENDERER)
SHIFTED = RENDERER  # shifts before it were searched for, and hardly moved
GAIN, SHIFT = 0.2, 0.02  # what a code of one adds to a gain of one, and to an output


def code_groups(config: TinyConfig) -> list[int]:
    """How many codes each layer has, of SCALED and then of SHIFTED: one for every channel it puts out."""
    c = config
    renderer = [4 * c.renderer, c.renderer, *[2 * c.renderer, c.renderer] * 2, 48]
    return [*[c.unet16] * 3, 4 * c.width8, *[c.width8] * 3, *renderer, *renderer]


def adapted_weights(generator: TinyGenerator, codes: Tensor) -> dict[str, Tensor]:
    """The adapted layers' weights by name, for ``torch.func.functional_call``.

    codes: float (K,), in the order of ``code_groups``; a channel y becomes (1 + GAIN code) y, and where it is
    shifted, too, SHIFT code more.
    """
    groups = codes.split(code_groups(generator.config))
    adapted: dict[str, Tensor] = {}
    for name, code in zip(SCALED, groups[: len(SCALED)], strict=True):
        gain = 1 + GAIN * code
        adapted[f"{name}.weight"] = generator.get_parameter(f"{name}.weight") * gain[:, None, None, None]
        adapted[f"{name}.bias"] = generator.get_parameter(f"{name}.bias") * gain
    for name, code in zip(SHIFTED, groups[len(SCALED) :], strict=True):
        adapted[f"{name}.bias"] = torch.add(adapted[f"{name}.bias"], code, alpha=SHIFT)
    return adapted
