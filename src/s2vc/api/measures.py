"""What a quality target may be given in: metrics of decoded pictures, measured while a video is coded."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2vc.video.colour import limited_yuv
from s2vc.video.ffmpeg import USUAL_RATE, ComparingFilter, read_vmaf

Pictures = Sequence[NDArray[np.uint8]]
Measure = Callable[[Pictures, Pictures], float]
"""(source, decoded), uint8 RGB (H, W, 3) each, consecutive frames -> the mean of the metric."""

HIGHER_IS_BETTER = {"psnr": True, "vmaf": True, "lpips-vgg": False, "lpips-alex": False, "dists": False}

PRICES = {"psnr": 0.1, "vmaf": 3.0, "lpips-vgg": 5.0, "lpips-alex": 0.4, "dists": 5.0}
"""What measuring a run of a few frames costs, about, in encoded frames (docs/rate-control.md)."""

_STEP = 5  # networks see every so many frames, the last among them; odd, for key frames come every eighth
_RISES = {"psnr": 0.13, "vmaf": 0.8}  # dB, points
_DISTANCE_RISE = 0.02
_LEAST_DISTANCE = 1e-4


@dataclass(frozen=True)
class QualityTarget:
    """A metric and the value it is to reach: at least, or where less is better at most.

    A metric's ``goodness`` rises with quality, near a straight line in it: the value itself, or of a distance
    the negative logarithm.
    """

    metric: str
    value: float

    @classmethod
    def parse(cls, text: str) -> QualityTarget:
        """From ``lpips_vgg=0.25`` (or ``lpips-vgg``). Raises ValueError."""
        name, _, number = text.partition("=")
        name = name.strip().lower().replace("_", "-")
        if name not in HIGHER_IS_BETTER:
            raise ValueError(f"{text!r} names no metric: one of {', '.join(HIGHER_IS_BETTER)}, as in psnr=32")
        try:
            value = float(number)
        except ValueError:
            raise ValueError(f"{text!r} has no number: METRIC=VALUE, as in lpips_vgg=0.25") from None
        if not 0 <= value < float("inf"):
            raise ValueError(f"{text!r}: the value is a number from 0 on")
        return cls(name, value)

    @property
    def higher_is_better(self) -> bool:
        return HIGHER_IS_BETTER[self.metric]

    @property
    def rise(self) -> float:
        """Goodness a step of quality, about, of any model."""
        return _RISES.get(self.metric, _DISTANCE_RISE)

    def slack(self, share: float) -> float:
        """The goodness that such a share of the value is worth."""
        return share * self.value if self.higher_is_better else share

    def goodness(self, value: float) -> float:
        return value if self.higher_is_better else -math.log(max(value, _LEAST_DISTANCE))

    def value_of(self, goodness: float) -> float:
        return goodness if self.higher_is_better else math.exp(-goodness)


def load_measure(metric: str, device: str = "cpu") -> Measure:
    """The metric, its network loaded once. Raises ModelError where its weights are missing."""
    if metric == "psnr":
        return _psnr
    if metric == "vmaf":
        return _vmaf
    return _network(metric, device)


def _psnr(source: Pictures, decoded: Pictures) -> float:
    """Mean of the frames' PSNR over R, G and B, in dB."""
    from s2vc.perceptual.psnr import mean_squared_error, psnr

    return float(np.mean([psnr(mean_squared_error(a, b)) for a, b in zip(source, decoded, strict=True)]))


def _network(metric: str, device: str) -> Measure:
    import torch

    from s2vc.perceptual import DISTS, LPIPS

    network: DISTS | LPIPS = (
        DISTS() if metric == "dists" else LPIPS("vgg" if metric == "lpips-vgg" else "alex")
    )
    place = torch.device(device)
    network.to(place)

    def measure(source: Pictures, decoded: Pictures) -> float:
        values: list[float] = []
        for a, b in zip(source[::-_STEP], decoded[::-_STEP], strict=True):
            pair = torch.from_numpy(np.stack([a, b])).to(place).permute(0, 3, 1, 2).float() / 255
            with torch.inference_mode():
                features = network.features(pair)
                values += network.distance(
                    [feature[:1] for feature in features], [feature[1:] for feature in features]
                ).tolist()
        return float(np.mean(values))

    return measure


def _vmaf(source: Pictures, decoded: Pictures) -> float:
    """VMAF as ``s2vc bench`` takes it, but for the first frame, which sees no motion."""
    height, width, _ = source[0].shape
    with tempfile.TemporaryDirectory(prefix="s2vc-vmaf-") as folder:
        comparing = ComparingFilter("vmaf", height, width, USUAL_RATE, Path(folder))
        try:
            for a, b in zip(source, decoded, strict=True):
                comparing.write(limited_yuv(a), limited_yuv(b))
            values, _version = read_vmaf(comparing.finish())
        finally:
            comparing.close()
    return float(np.mean(values[1:] or values))
