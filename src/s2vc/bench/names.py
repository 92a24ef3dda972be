"""The metrics, as specs, results and reports name them; imports nothing heavy. More: docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """What a reader of a figure has to know.

    ``backbone`` is the network it stands on: a model trained on another metric of that network was trained
    on this one's eyes too. ``weights`` are all weight files it reads. ``smallest`` is the shorter side of a
    picture below which it is n/a. ``values`` says what its list of values has one of: "frame" (all frames,
    or every step-th where there are weights), "pair" of a frame and the next, or "clip" (no list).
    """

    higher_is_better: bool
    unit: str
    title: str
    backbone: str | None = None
    weights: tuple[str, ...] = ()
    smallest: int = 1
    values: str = "frame"


_HEADS = "lpips_heads_v0.1"
_ALEX, _VGG, _SQUEEZE = "alexnet_features", "vgg16_features", "squeezenet1_1_features"
_EFFICIENT, _DINO = "efficientnet_lite0", "dinov2s14_saliency_blocks0-7"

METRICS: dict[str, Metric] = {
    "psnr": Metric(True, "dB", "PSNR of RGB"),
    "psnr-y": Metric(True, "dB", "PSNR of luma"),
    "ms-ssim": Metric(True, "", "MS-SSIM of RGB", smallest=161),
    "vmaf": Metric(True, "0 to 100", "VMAF, model vmaf_v0.6.1, at the pictures' own size", smallest=32),
    "xpsnr": Metric(True, "dB", "XPSNR of luma"),
    "lpips-alex": Metric(False, "", "LPIPS v0.1 on AlexNet", _ALEX, (_ALEX, _HEADS), 31),
    "lpips-vgg": Metric(False, "", "LPIPS v0.1 on VGG-16", _VGG, (_VGG, _HEADS), 16),
    "lpips-squeeze": Metric(False, "", "LPIPS v0.1 on SqueezeNet 1.1", _SQUEEZE, (_SQUEEZE, _HEADS), 17),
    "dists": Metric(False, "", "DISTS (VGG-16)", _VGG, (_VGG, "dists_alpha_beta"), 16),
    "flolpips-dis-alex": Metric(
        False, "", "FloLPIPS on AlexNet with OpenCV's DIS flow", _ALEX, (_ALEX, _HEADS), 31, "pair"
    ),
    "flolpips-dis-vgg": Metric(
        False, "", "FloLPIPS on VGG-16 with OpenCV's DIS flow", _VGG, (_VGG, _HEADS), 16, "pair"
    ),
    "frechet-efficientnet-lite0": Metric(
        False, "", "Fréchet distance of patches, EfficientNet-Lite0", _EFFICIENT, (_EFFICIENT,), 64, "clip"
    ),
    "kernel-efficientnet-lite0": Metric(
        False, "", "kernel distance of patches, EfficientNet-Lite0", _EFFICIENT, (_EFFICIENT,), 64, "clip"
    ),
    "frechet-dinov2s-saliency": Metric(
        False, "", "Fréchet distance of patches, DINOv2-S tuned to saliency", _DINO, (_DINO,), 56, "clip"
    ),
    "kernel-dinov2s-saliency": Metric(
        False, "", "kernel distance of patches, DINOv2-S tuned to saliency", _DINO, (_DINO,), 56, "clip"
    ),
    "warping-error-dis": Metric(
        False, "10⁻³", "warping error with OpenCV's DIS flow of the source", smallest=16, values="pair"
    ),
    "tof-dis": Metric(False, "pixels", "tOF with OpenCV's DIS flow", smallest=16, values="pair"),
    "flicker": Metric(False, "8-bit levels", "change of the error between frames", values="pair"),
}
"""Every metric that a spec may ask for."""

HIGHER_IS_BETTER: dict[str, bool] = {name: metric.higher_is_better for name, metric in METRICS.items()}
"""Whether more of a metric is better."""


def of_same_network(trained: Iterable[str]) -> set[str]:
    """All metrics that stand on a network of ``trained`` (names of metrics, or of weight files).

    What a report marks when a model's card says that it was trained on ``trained``; LPIPS's heads alone
    do not count.
    """
    names = set(trained)
    backbones = names | {METRICS[name].backbone for name in names if name in METRICS}
    return {
        name
        for name, metric in METRICS.items()
        if name in names or (metric.backbone is not None and metric.backbone in backbones)
    }
