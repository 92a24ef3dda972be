"""Metrics of decoded pictures against their source, frame by frame; networks from ``s2vc.perceptual``.

Several decodings of one clip are measured together, so that the source passes each network once.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s2vc.bench.spec import MetricName
from s2vc.errors import ModelError, S2vcError
from s2vc.perceptual import DISTS, LPIPS, file_sha256, find_weights

PSNR_CAP = 100.0
"""PSNR of equal pictures, in dB."""

_FILES = {
    "lpips-alex": ("alexnet_features", "lpips_heads_v0.1"),
    "lpips-vgg": ("vgg16_features", "lpips_heads_v0.1"),
    "dists": ("vgg16_features", "dists_alpha_beta"),
}


def psnr(mean_squared_error: float) -> float:
    """dB for errors of 8-bit pictures, at most PSNR_CAP."""
    if mean_squared_error <= 0:
        return PSNR_CAP
    return min(PSNR_CAP, float(10 * np.log10(255**2 / mean_squared_error)))


class Meter:
    """Metrics by name, their networks loaded once, float32.

    Networks see every ``step``-th frame. ``missing`` says which metric has no weights here and why: it is
    n/a, never replaced by another.
    """

    def __init__(
        self,
        metrics: Sequence[MetricName],
        weights_dir: str | Path | None = None,
        device: str = "cpu",
        step: int = 1,
    ) -> None:
        self.step = step
        self.device = torch.device(device)
        self.metrics = tuple(metrics)
        self.seen = (0, 0, 0)  # height, width, frames of the source measured last
        self.networks: dict[str, DISTS | LPIPS] = {}
        self.missing: dict[str, str] = {}
        self.made_with: dict[str, Any] = {
            "torch": importlib.metadata.version("torch"),
            "device": device,
            "step": step,
        }
        for name in metrics:
            try:
                if name == "dists":
                    network: DISTS | LPIPS = DISTS(weights_dir)
                elif name in ("lpips-alex", "lpips-vgg"):
                    network = LPIPS("alex" if name == "lpips-alex" else "vgg", weights_dir)
                else:
                    continue
            except ModelError as error:
                self.missing[name] = str(error)
                continue
            self.networks[name] = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.made_with[name] = {
                file: file_sha256(find_weights(file, weights_dir)) for file in _FILES[name]
            }

    def measure(
        self, source: Iterable[np.ndarray], decodings: Sequence[Iterable[np.ndarray]]
    ) -> list[dict[str, Any] | S2vcError]:
        """uint8 RGB (H, W, 3) frames -> for each decoding its metrics, or what is wrong with it.

        A metric is ``{"mean": ..., "frames": [...]}``; PSNR is over R, G and B together, its ``mean`` that of
        the frames' PSNR, and ``of_mean_error`` beside it the PSNR of the mean squared error of all frames.
        """
        readers = [iter(decoding) for decoding in decodings]
        outcome: list[S2vcError | None] = [None] * len(readers)
        errors: list[list[float]] = [[] for _ in readers]
        distances: list[dict[str, list[float]]] = [{name: [] for name in self.networks} for _ in readers]
        count, shape = 0, (0, 0)
        for picture in source:
            shape = picture.shape[:2]
            alive, pictures = [], []
            for number, reader in enumerate(readers):
                if outcome[number] is not None:
                    continue
                try:
                    other = next(reader, None)
                except S2vcError as error:
                    outcome[number] = error
                    continue
                if other is None:
                    outcome[number] = S2vcError(f"frame counts differ: decoding ends after {count} frames")
                elif other.shape != picture.shape:
                    outcome[number] = S2vcError(
                        f"picture sizes differ: {_size(other)} decoded, {_size(picture)} in the source"
                    )
                else:
                    alive.append(number)
                    pictures.append(other)
            if not alive:
                break
            for number, other in zip(alive, pictures, strict=True):
                difference = picture.astype(np.int32) - other
                errors[number].append(float(np.square(difference).mean()))
            if count % self.step == 0:
                for name, values in self._distances(picture, pictures).items():
                    for number, value in zip(alive, values, strict=True):
                        distances[number][name].append(value)
            count += 1
        self.seen = (*shape, count)
        results: list[dict[str, Any] | S2vcError] = []
        for number, reader in enumerate(readers):
            failed = outcome[number]
            if failed is None and count and next(reader, None) is not None:
                failed = S2vcError(f"frame counts differ: decoding goes on after the source's {count} frames")
            if failed is None and not count:
                failed = S2vcError("the source has no frames")
            results.append(failed or self._summary(errors[number], distances[number]))
        return results

    def _distances(self, picture: np.ndarray, pictures: list[np.ndarray]) -> dict[str, list[float]]:
        if not self.networks:
            return {}
        with torch.inference_mode():
            source, others = self._tensor([picture]), self._tensor(pictures)
            return {
                name: network.distance(network.features(source), network.features(others)).tolist()
                for name, network in self.networks.items()
            }

    def _tensor(self, pictures: list[np.ndarray]) -> Tensor:
        # a (N, H, W, 3) array seen as (N, 3, H, W) is channels-last already
        return torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2).float() / 255

    def _summary(self, errors: list[float], distances: dict[str, list[float]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name in self.metrics:
            if name == "psnr":
                frames = [psnr(error) for error in errors]
                result[name] = {
                    "mean": round(float(np.mean(frames)), 5),
                    "of_mean_error": round(psnr(float(np.mean(errors))), 5),
                    "frames": [round(value, 4) for value in frames],
                }
            elif name in distances:
                result[name] = {
                    "mean": round(float(np.mean(distances[name])), 6),
                    "frames": [round(value, 5) for value in distances[name]],
                }
        return result


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
