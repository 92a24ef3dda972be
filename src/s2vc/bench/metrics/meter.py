"""Measures several decodings of a clip together, all metrics in one pass."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s2vc.bench.codecs import ffmpeg_version
from s2vc.bench.metrics.chunk import Chunk, Measure
from s2vc.bench.metrics.ffmpeg import FilterMeasure, missing_filter
from s2vc.bench.metrics.motion import FlowDifference, WarpingError
from s2vc.bench.metrics.networks import PictureDistance
from s2vc.bench.metrics.pictures import Flicker, PeakSignalToNoise, StructuralSimilarity
from s2vc.bench.metrics.sets import PatchFeatures, SetDistance, average_features
from s2vc.bench.names import METRICS
from s2vc.errors import S2vcError
from s2vc.perceptual import DISTS, LPIPS, DinoV2Small, EfficientNetLite0, weights_used

# How many pixels go through a network at once: VGG-16's activations take some 500 bytes for each.
_PIXELS_ON_CPU, _PIXELS_ON_GPU = 1 << 18, 1 << 21
# What the pictures and flow fields of a chunk may take.
_CHUNK_BYTES = 1 << 28

_FLOW = "opencv-python-headless"
_PACKAGES = {
    "ms-ssim": "pytorch-msssim",
    "warping-error-dis": _FLOW,
    "tof-dis": _FLOW,
    "flolpips-dis-alex": _FLOW,
    "flolpips-dis-vgg": _FLOW,
}


def what_measures(name: str, weights_dir: str | Path | None = None) -> dict[str, Any]:
    """Package, weight files and their SHA-256 of a metric. Raises S2vcError when something is not there."""
    if name in ("vmaf", "xpsnr"):
        if reason := missing_filter(name):
            raise S2vcError(reason)
        return {"package": f"ffmpeg {ffmpeg_version()}"}
    package = _PACKAGES.get(name, "s2vc")
    try:
        found: dict[str, Any] = {"package": f"{package} {_version(package)}"}
    except importlib.metadata.PackageNotFoundError as error:
        raise S2vcError(f"the package {package} is not installed: pip install 's2vc[bench]'") from error
    if METRICS[name].weights:
        used = [weights_used(file, weights_dir) for file in METRICS[name].weights]
        found["weights"] = {file: digest for files in used for file, digest in files.items()}
    return found


class Meter:
    """Metrics by name (``METRICS``), their networks loaded once, float32.

    Networks see every ``step``-th frame. ``missing`` says of each metric that is n/a why: what it needs is
    not there, or (after ``measure``) the clip is too small or too short; it is never replaced by another.
    ``made_with`` says of each metric what it was measured with: package, weight files and their SHA-256.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        weights_dir: str | Path | None = None,
        device: str = "cpu",
        step: int = 1,
    ) -> None:
        """Raises ValueError for a name that is no metric."""
        if unknown := [name for name in metrics if name not in METRICS]:
            raise ValueError(f"no metric {', '.join(unknown)}: there are {', '.join(METRICS)}")
        self.step = step
        self.device = torch.device(device)
        self.metrics = tuple(metrics)
        self.seen = (0, 0, 0)  # height, width, frames of the source measured last
        self.made_with: dict[str, Any] = {"torch": _version("torch"), "device": device, "step": step}
        self._weights_dir = weights_dir
        self._networks: dict[str, DISTS | LPIPS | PatchFeatures] = {}
        self._unavailable: dict[str, str] = {}
        for name in self.metrics:
            try:
                self.made_with[name] = what_measures(name, weights_dir)
                if METRICS[name].weights and (key := _network_of(name)) not in self._networks:
                    self._networks[key] = self._load(key)
            except S2vcError as error:
                self._unavailable[name] = str(error)
        self.missing = dict(self._unavailable)

    def _load(self, key: str) -> DISTS | LPIPS | PatchFeatures:
        if key == "dists":
            return self._place(DISTS(self._weights_dir))
        if key == "efficientnet-lite0":
            classifier = self._place(EfficientNetLite0(self._weights_dir, blocks=(10,)))
            return PatchFeatures(64, lambda patches: average_features(classifier(patches)[0]))
        if key == "dinov2s-saliency":
            trunk = self._place(DinoV2Small(self._weights_dir, blocks=(7,)))
            return PatchFeatures(56, lambda patches: average_features(trunk(patches)[0]))
        return self._place(LPIPS(key, self._weights_dir))  # type: ignore[arg-type]

    def _place(self, network: Any) -> Any:
        return network.to(self.device, memory_format=torch.channels_last)

    def measure(
        self,
        source: Iterable[np.ndarray],
        decodings: Sequence[Iterable[np.ndarray]],
        rate: Fraction | None = None,
    ) -> list[dict[str, Any] | S2vcError]:
        """uint8 RGB (H, W, 3) frames -> for each decoding its metrics, or what is wrong with it.

        ``rate``: frames a second, which XPSNR asks for; None is taken for 25.
        A metric is ``{"mean": ..., "frames": [...]}``, of pairs of neighbours or of the whole clip where
        ``METRICS`` says so (the latter without a list); some have more beside the mean (docs/metrics.md).
        """
        self.missing = dict(self._unavailable)
        outcome: list[S2vcError | None] = [None] * len(decodings)
        measures: list[Measure] = []
        shape, count = (0, 0), 0
        try:
            for chunk in self._chunks(source, decodings, outcome):
                if not measures:
                    shape = chunk.pictures[None].shape[1:3]
                    measures = self._start(min(shape), rate)
                for measure in measures:
                    measure.add(chunk)
                count = chunk.start + len(chunk.pictures[None])
            self.seen = (*shape, count)
            if not count:
                nothing = S2vcError("the source has no frames")
                return [failed or nothing for failed in outcome]
            return [failed or self._collect(measures, number) for number, failed in enumerate(outcome)]
        finally:
            for measure in measures:
                measure.close()

    def _start(self, side: int, rate: Fraction | None) -> list[Measure]:
        """One pass of each metric that is there and that pictures of this shorter side allow."""
        fitting = []
        for name in self.metrics:
            smallest = METRICS[name].smallest
            if name in self.missing:
                continue
            if side < smallest:
                self.missing[name] = f"pictures of less than {smallest} pixels a side have no {name}"
            else:
                fitting.append(name)
        measures: list[Measure] = []
        for key, network in self._networks.items():
            names = [name for name in fitting if METRICS[name].weights and _network_of(name) == key]
            if names and isinstance(network, PatchFeatures):
                measures.append(SetDistance(names, network, self.device, self.step))
            elif names and not isinstance(network, PatchFeatures):
                measures.append(PictureDistance(names, network, self.device, self.step))
        for name in fitting:
            if name in ("psnr", "psnr-y"):
                measures.append(PeakSignalToNoise(name))
            elif name == "ms-ssim":
                measures.append(StructuralSimilarity(self.device))
            elif name in ("vmaf", "xpsnr"):
                measures.append(FilterMeasure(name, rate))
            elif name == "warping-error-dis":
                measures.append(WarpingError())
            elif name == "tof-dis":
                measures.append(FlowDifference())
            elif name == "flicker":
                measures.append(Flicker())
        return measures

    def _collect(self, measures: list[Measure], number: int) -> dict[str, Any] | S2vcError:
        found: dict[str, Any] = {}
        try:
            for measure in measures:
                found |= measure.results(number)
        except S2vcError as error:
            return error
        for name in self.metrics:
            if name not in found and name not in self.missing:
                few = "frames: it needs two" if METRICS[name].values == "pair" else "patches"
                self.missing[name] = f"the clip has too few {few}"
        return {name: found[name] for name in self.metrics if name in found}

    def _chunks(
        self,
        source: Iterable[np.ndarray],
        decodings: Sequence[Iterable[np.ndarray]],
        outcome: list[S2vcError | None],
    ) -> Iterator[Chunk]:
        """The frames, a few at a time. A decoding that fails drops out, and ``outcome`` says why."""
        readers = dict(enumerate(iter(decoding) for decoding in decodings))
        pending: dict[int | None, list[np.ndarray]] = {}
        before: Chunk | None = None
        count = 0
        for picture in source:
            for number, reader in list(readers.items()):
                error = _next_into(pending, number, reader, picture, count)
                if error is not None:
                    outcome[number] = error
                    del readers[number]
                    pending.pop(number, None)
            if not readers:
                return
            pending.setdefault(None, []).append(picture)
            count += 1
            if len(pending[None]) >= self._at_once(picture, len(readers)):
                before = Chunk(count - len(pending[None]), _stacked(pending), before)
                pending = {}
                yield before
        if pending:
            yield Chunk(count - len(pending[None]), _stacked(pending), before)
        for number, reader in readers.items():
            if count and next(reader, None) is not None:
                outcome[number] = S2vcError(
                    f"frame counts differ: decoding goes on after the source's {count} frames"
                )

    def _at_once(self, picture: np.ndarray, decodings: int) -> int:
        """Frames of a chunk: what fits a network, taken ``step`` times, as far as memory goes."""
        pixels = picture.shape[0] * picture.shape[1]
        limit = _PIXELS_ON_CPU if self.device.type == "cpu" else _PIXELS_ON_GPU
        fitting = max(1, _CHUNK_BYTES // (16 * pixels * (decodings + 1)))
        return min(fitting, max(1, limit // pixels) * self.step)


def _next_into(
    pending: dict[int | None, list[np.ndarray]],
    number: int,
    reader: Iterator[np.ndarray],
    picture: np.ndarray,
    count: int,
) -> S2vcError | None:
    """Add a decoding's next picture to the pending ones, or say what is wrong with it."""
    try:
        other = next(reader, None)
    except S2vcError as error:
        return error
    if other is None:
        return S2vcError(f"frame counts differ: decoding ends after {count} frames")
    if other.shape != picture.shape:
        return S2vcError(f"picture sizes differ: {_size(other)} decoded, {_size(picture)} in the source")
    pending.setdefault(number, []).append(other)
    return None


def _stacked(pending: dict[int | None, list[np.ndarray]]) -> dict[int | None, np.ndarray]:
    return {number: np.stack(pictures) for number, pictures in pending.items()}


def _network_of(name: str) -> str:
    """What the metrics that share a loaded network have in common."""
    return name if name == "dists" else name.split("-", 1)[1].removeprefix("dis-")


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
