"""Metrics of the samples themselves: PSNR, MS-SSIM, flicker."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch

from s2vc.bench.metrics.chunk import Chunk, Measure, summary
from s2vc.perceptual.psnr import mean_squared_error, psnr


class PeakSignalToNoise(Measure):
    """``psnr`` over R, G and B together; ``psnr-y`` over 8-bit luma.

    ``mean`` is that of the frames' PSNR, ``of_mean_error`` the PSNR of the mean squared error of all frames.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._errors: dict[int, list[float]] = defaultdict(list)

    def add(self, chunk: Chunk) -> None:
        luma = self.name == "psnr-y"
        source = chunk.yuv(None)[:, 0] if luma else chunk.pictures[None]
        for number in chunk.decodings:
            decoded = chunk.yuv(number)[:, 0] if luma else chunk.pictures[number]
            for a, b in zip(source, decoded, strict=True):
                self._errors[number].append(mean_squared_error(a, b))

    def results(self, number: int) -> dict[str, dict[str, Any]]:
        errors = self._errors[number]
        of_mean_error = round(psnr(float(np.mean(errors))), 5)
        return {self.name: summary([psnr(error) for error in errors], 4, of_mean_error=of_mean_error)}


class Flicker(Measure):
    """Mean over samples of |e(t + 1) − e(t)|, e = decoded − source, in 8-bit levels; one value a pair."""

    def __init__(self) -> None:
        self._values: dict[int, list[float]] = defaultdict(list)

    def add(self, chunk: Chunk) -> None:
        source = chunk.with_before(None).astype(np.int16)
        for number in chunk.decodings:
            errors = chunk.with_before(number).astype(np.int16) - source
            change = np.abs(np.diff(errors, axis=0)).mean((1, 2, 3))
            self._values[number] += change.tolist()

    def results(self, number: int) -> dict[str, dict[str, Any]]:
        values = self._values[number]
        return {"flicker": summary(values, 4)} if values else {}


class StructuralSimilarity(Measure):
    """``ms-ssim`` of RGB by the package pytorch-msssim: five scales, mean of the three channels' products."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._values: dict[int, list[float]] = defaultdict(list)

    def add(self, chunk: Chunk) -> None:
        from pytorch_msssim import ms_ssim

        source = to_tensor(chunk.pictures[None], self._device)
        with torch.inference_mode():
            for number in chunk.decodings:
                decoded = to_tensor(chunk.pictures[number], self._device)
                self._values[number] += ms_ssim(decoded, source, data_range=1, size_average=False).tolist()

    def results(self, number: int) -> dict[str, dict[str, Any]]:
        return {"ms-ssim": summary(self._values[number], 5)}


def to_tensor(pictures: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [0, 1], channels last in memory."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255
