"""Codes that adapt ``tiny``'s generator to what is being coded (docs/entropy-model.md, "Adaptation").

A film's I-frame may carry whole numbers, chosen by the encoder, by which channels of the last layers are
scaled: instance-adaptive coding (van Rozendaal et al. 2021), of gains alone. No symbol depends on it, nor the
buffer of later frames, so a film without codes is the same film, drawn as the model draws all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from s2vc.nn.tiny.config import TinyConfig

if TYPE_CHECKING:
    from s2vc.nn.tiny.generator import TinyGenerator

ADAPTED = ("skip8", "up8.conv1", "up8.conv2", "render_in.conv", "render.0.conv1", "render.1.conv1")
STEP = 0.2  # what a code of one adds to a gain of one
TABLE = 24  # that codes are written with: on the tuning clips their standard deviation is about one


def code_count(config: TinyConfig) -> int:
    """How many channels the adapted layers have."""
    return 3 * config.width8 + 8 * config.renderer


def adapted_weights(generator: TinyGenerator, codes: Tensor) -> dict[str, Tensor]:
    """The adapted layers' weights by name, for ``torch.func.functional_call``.

    codes: float (K,), the channels of ADAPTED one layer after another; a channel y becomes (1 + STEP code) y.
    """
    weights = {name: generator.get_parameter(f"{name}.weight") for name in ADAPTED}
    gains = (1 + STEP * codes).split([len(weight) for weight in weights.values()])
    adapted: dict[str, Tensor] = {}
    for (name, weight), gain in zip(weights.items(), gains, strict=True):
        adapted[f"{name}.weight"] = weight * gain[:, None, None, None]
        adapted[f"{name}.bias"] = generator.get_parameter(f"{name}.bias") * gain
    return adapted
