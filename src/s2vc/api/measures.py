"""What a quality target may be given in: metrics of decoded pictures, measured while a video is coded."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2vc.errors import InputError

Pictures = Sequence[NDArray[np.uint8]]
Measure = Callable[[Pictures, Pictures], float]
"""(source, decoded), uint8 RGB (H, W, 3) each, consecutive frames -> the mean of the metric."""

HIGHER_IS_BETTER = {"psnr": True, "vmaf": True, "lpips-vgg": False, "lpips-alex": False, "dists": False}

PRICES = {"psnr": 0.1, "vmaf": 3.0, "lpips-vgg": 5.0, "lpips-alex": 0.4, "dists": 5.0}
"""What measuring a run of a few frames costs, about, in encoded frames (docs/rate-control.md)."""

_STEP = 4  # networks see every so many frames, the last among them
_PSNR_CAP = 100.0
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
    """Mean of the frames' PSNR over R, G and B, in dB, as ``s2vc bench`` takes it."""
    values = []
    for a, b in zip(source, decoded, strict=True):
        error = float(np.square(a.astype(np.int32) - b).mean())
        values.append(min(_PSNR_CAP, 10 * np.log10(255**2 / error)) if error else _PSNR_CAP)
    return float(np.mean(values))


def _network(metric: str, device: str) -> Measure:
    import torch

    from s2vc.perceptual import DISTS, LPIPS

    network: DISTS | LPIPS = (
        DISTS() if metric == "dists" else LPIPS("vgg" if metric == "lpips-vgg" else "alex")
    )
    place = torch.device(device)
    network.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]

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
    """VMAF v0.6.1 of ffmpeg's libvmaf, the source's picture above the decoded one in one raw stream."""
    from imageio_ffmpeg import get_ffmpeg_exe

    height, width, _ = source[0].shape
    graph = (
        f"[0:v]format=yuv444p,split[a][b];[a]crop={width}:{height}:0:0[source];"
        f"[b]crop={width}:{height}:0:{height}[decoded];"
        "[decoded][source]libvmaf=model=version=vmaf_v0.6.1:log_fmt=json:log_path=log"
    )
    with tempfile.TemporaryDirectory(prefix="s2vc-vmaf-") as folder:
        ran = subprocess.run(
            [
                *(get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostats"),
                *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{2 * height}", "-r", "25"),
                *("-i", "pipe:0", "-filter_complex", graph, "-f", "null", "-"),
            ],
            input=b"".join(np.concatenate(pair).tobytes() for pair in zip(source, decoded, strict=True)),
            capture_output=True,
            cwd=folder,  # a filter's option cannot hold every path
        )
        if ran.returncode:
            said = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise InputError(f"ffmpeg could not measure vmaf ({said}): choose another metric")
        log = json.loads((Path(folder) / "log").read_text(encoding="utf-8"))
    values = [frame["metrics"]["vmaf"] for frame in log["frames"]]
    return float(np.mean(values[1:] or values))  # the first sees no motion
