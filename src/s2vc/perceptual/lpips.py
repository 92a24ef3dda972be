"""LPIPS v0.1 (Zhang et al., CVPR 2018) with the published linear heads; FloLPIPS."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2vc.errors import ModelError
from s2vc.perceptual.backbones import AlexNetFeatures, SqueezeNetFeatures, VGG16Features
from s2vc.perceptual.comparison import by_place, unit_distance, unit_length
from s2vc.perceptual.weights import load_weights

BACKBONES = {"alex": AlexNetFeatures, "vgg": VGG16Features, "squeeze": SqueezeNetFeatures}
HEADS_NAME = "lpips_heads_v0.1"


class LPIPS(nn.Module):
    """Distance of two batches of pictures; 0 for equal ones.

    ``until`` stops at a tap of the backbone ("relu3_3"): the distance is then the sum over the taps up to
    it, cheaper and smaller than LPIPS proper, for losses only. Features are compared in float32 also under
    autocast.
    """

    def __init__(
        self,
        backbone: Literal["alex", "vgg", "squeeze"] = "alex",
        weights_dir: str | Path | None = None,
        *,
        until: str | None = None,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(f"LPIPS has no backbone {backbone!r}: one of {', '.join(BACKBONES)}")
        self.backbone = BACKBONES[backbone](weights_dir, until=until, pretrained=pretrained)
        heads = load_weights(HEADS_NAME, weights_dir) if pretrained else {}
        for number, channels in enumerate(self.backbone.tap_channels[: self.backbone.depth]):
            key = f"{backbone}.lin{number}.model.1.weight"
            head = heads.get(key) if pretrained else torch.rand(1, channels, 1, 1) / channels
            if head is None or head.shape != (1, channels, 1, 1):
                raise ModelError(
                    f"{HEADS_NAME}.safetensors has no fitting {key}: use the heads of lpips v0.1"
                )
            self.register_buffer(f"head{number}", head)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Activations at each tap; for a source that is compared more than once."""
        return self.backbone(pictures)  # type: ignore[no-any-return]

    def distance(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """Distance (N,) of what ``features`` returned for two batches."""
        heads = [getattr(self, f"head{number}").view(-1) for number in range(len(first))]
        taps = zip(first, second, heads, strict=True)
        return torch.stack([unit_distance(by_place(a), by_place(b), head) for a, b, head in taps]).sum(0)

    def maps(self, first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
        """The distance by place, a map (N, h, w) a tap; their means add up to ``distance``."""
        found = []
        for number, (a, b) in enumerate(zip(first, second, strict=True)):
            difference = unit_length(by_place(a))[0] - unit_length(by_place(b))[0]
            places = (difference.square() * getattr(self, f"head{number}").view(-1)).sum(2)
            found.append(places.unflatten(1, a.shape[2:]))
        return found

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Float RGB (N, 3, H, W) in [0, 1], twice -> distance of each pair, float32 (N,)."""
        return self.distance(self.features(x), self.features(y))


def flow_weighted(maps: list[Tensor], flow_difference: Tensor) -> Tensor:
    """FloLPIPS (Danier et al., PCS 2022) of LPIPS's maps: places count as their motion differs, (N,).

    ``flow_difference`` (N, 2, H, W): flow of the source to its next picture less that of the decoding. It is
    resampled to each map's size (bilinear), its length divided by its sum is the weight. Where the two flows
    are equal everywhere all places count alike, which is LPIPS (the paper's formula divides by zero).
    """
    total = flow_difference.new_zeros(flow_difference.shape[0])
    for values in maps:
        resampled = functional.interpolate(flow_difference, values.shape[1:], mode="bilinear")
        length = torch.linalg.vector_norm(resampled, dim=1)
        length = torch.where(length.sum((1, 2), keepdim=True) > 0, length, torch.ones_like(length))
        total = total + (values * length).sum((1, 2)) / length.sum((1, 2))
    return total
