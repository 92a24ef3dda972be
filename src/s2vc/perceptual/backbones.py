"""Frozen ImageNet classifiers' convolutions with torchvision's layer names: AlexNet, VGG-16, SqueezeNet.

A backbone returns the activations at its *taps*, the layers LPIPS reads. ``until`` stops at a tap: the
layers behind it are neither kept nor run (VGG-16 costs 306 kMAC a pixel in all, 186 to relu3_3).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2vc.errors import ModelError
from s2vc.perceptual.weights import load_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Fire(nn.Module):
    """SqueezeNet's module: 1×1 to few channels, then 1×1 beside 3×3; its last ReLU is the caller's."""

    def __init__(self, inputs: int, squeeze: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, outputs // 2, 1)
        self.expand3x3 = nn.Conv2d(squeeze, outputs // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.squeeze(x))
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1)


def _layer(sizes: tuple[int, ...]) -> nn.Module:
    if len(sizes) == 3:
        return Fire(*sizes)
    inputs, outputs, kernel, stride, padding = sizes
    return nn.Conv2d(inputs, outputs, kernel, stride, padding)


class _Backbone(nn.Module):
    """Convolutions with ReLU in stages; the activation that ends a stage is its tap, pooling opens the next.

    The module is frozen and in evaluation mode; parameters are named as torchvision names them.
    """

    weights_name: ClassVar[str]
    taps: ClassVar[tuple[str, ...]]
    tap_channels: ClassVar[tuple[int, ...]]
    # torchvision's layer index -> (in, out, kernel, stride, padding), of Fire (in, squeeze, out), by stage
    stages: ClassVar[tuple[dict[int, tuple[int, ...]], ...]]
    pooled_stages: ClassVar[frozenset[int]]  # stages that pooling opens

    mean: Tensor
    std: Tensor

    def __init__(
        self, weights_dir: str | Path | None = None, *, until: str | None = None, pretrained: bool = True
    ) -> None:
        """``until``: the last tap wanted (default: all). ``pretrained=False``: random weights, for tests."""
        super().__init__()
        last = self.taps[-1] if until is None else until
        if last not in self.taps:
            raise ValueError(f"{type(self).__name__} has no tap {last!r}: one of {', '.join(self.taps)}")
        self.depth = self.taps.index(last) + 1
        self.features = nn.ModuleDict()
        for stage in self.stages[: self.depth]:
            for index, sizes in stage.items():
                self.features[str(index)] = _layer(sizes)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        if pretrained:
            self._load(weights_dir)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.requires_grad_(False)
        self.eval()

    def _load(self, weights_dir: str | Path | None) -> None:
        stored = load_weights(self.weights_name, weights_dir)
        try:
            self.load_state_dict({key: stored[key] for key in self.state_dict()})
        except (KeyError, RuntimeError) as error:
            raise ModelError(
                f"{self.weights_name}.safetensors does not fit {type(self).__name__}: use the file of "
                "torchvision's convolutions"
            ) from error

    def normalise(self, pictures: Tensor) -> Tensor:
        """Pictures in [0, 1] less ImageNet's mean, over its standard deviation."""
        return (pictures - self.mean) / self.std

    def run_stages(self, normalised: Tensor, pool: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Activations at the taps for pictures already normalised, with ``pool`` between the stages."""
        x = normalised.contiguous(memory_format=torch.channels_last)
        outputs = []
        for number, stage in enumerate(self.stages[: self.depth]):
            if number in self.pooled_stages:
                x = pool(x)
            for index in stage:
                x = functional.relu(self.features[str(index)](x), inplace=True)
            outputs.append(x)
        return outputs

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Float RGB (N, 3, H, W) in [0, 1] -> activations at the taps, the shallowest first."""
        return self.run_stages(self.normalise(pictures), self._pool)

    @staticmethod
    def _pool(x: Tensor) -> Tensor:
        raise NotImplementedError


class AlexNetFeatures(_Backbone):
    """torchvision's AlexNet up to relu5: 64, 192, 384, 256, 256 channels. Sides of at least 31 pixels."""

    weights_name = "alexnet_features"
    taps = ("relu1", "relu2", "relu3", "relu4", "relu5")
    tap_channels = (64, 192, 384, 256, 256)
    stages = (
        {0: (3, 64, 11, 4, 2)},
        {3: (64, 192, 5, 1, 2)},
        {6: (192, 384, 3, 1, 1)},
        {8: (384, 256, 3, 1, 1)},
        {10: (256, 256, 3, 1, 1)},
    )
    pooled_stages = frozenset({1, 2})

    @staticmethod
    def _pool(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 3, 2)


class VGG16Features(_Backbone):
    """torchvision's VGG-16 up to relu5_3: 64, 128, 256, 512, 512 channels. Sides of at least 16 pixels."""

    weights_name = "vgg16_features"
    taps = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
    tap_channels = (64, 128, 256, 512, 512)
    stages = (
        {0: (3, 64, 3, 1, 1), 2: (64, 64, 3, 1, 1)},
        {5: (64, 128, 3, 1, 1), 7: (128, 128, 3, 1, 1)},
        {10: (128, 256, 3, 1, 1), 12: (256, 256, 3, 1, 1), 14: (256, 256, 3, 1, 1)},
        {17: (256, 512, 3, 1, 1), 19: (512, 512, 3, 1, 1), 21: (512, 512, 3, 1, 1)},
        {24: (512, 512, 3, 1, 1), 26: (512, 512, 3, 1, 1), 28: (512, 512, 3, 1, 1)},
    )
    pooled_stages = frozenset({1, 2, 3, 4})

    @staticmethod
    def _pool(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 2, 2)


class SqueezeNetFeatures(_Backbone):
    """torchvision's SqueezeNet 1.1: 64, 128, 256, 384, 384, 512, 512 channels. Sides from 17 pixels."""

    weights_name = "squeezenet1_1_features"
    taps = ("relu1", "relu2", "relu3", "relu4", "relu5", "relu6", "relu7")
    tap_channels = (64, 128, 256, 384, 384, 512, 512)
    stages = (
        {0: (3, 64, 3, 2, 0)},
        {3: (64, 16, 128), 4: (128, 16, 128)},
        {6: (128, 32, 256), 7: (256, 32, 256)},
        {9: (256, 48, 384)},
        {10: (384, 48, 384)},
        {11: (384, 64, 512)},
        {12: (512, 64, 512)},
    )
    pooled_stages = frozenset({1, 2, 3})

    @staticmethod
    def _pool(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 3, 2, ceil_mode=True)
