"""``encode(adapt=True)``: codes that adapt ``tiny``'s generator to a film (s2vc.nn.tiny.adaptation).

Gradients through the generator, of the losses that it was trained by, on crops spread over the frames.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from s2vc.codec.protocol import Integers, Picture
from s2vc.codec.schedule import LOOK_BACK
from s2vc.codec.tiny import TinyFeatures, TinyFrameModel
from s2vc.codec.tiny_symbols import BLOCK
from s2vc.entropy.tables import default_scales
from s2vc.errors import ModelError
from s2vc.perceptual import DISTS, LPIPS

from .models import Model

HEIGHT, WIDTH = 256, 448  # of a crop at most: DISTS compares statistics of the whole of what it sees
MOST_CROPS, MOST_JUDGES = 24, 8
STEPS = 40  # of the search, each by one crop and one metric
RATE = 0.15  # its steps at first, in what codes usually spread over
LIMIT = 127
# Weights of the terms: what the generator was trained by last (recipes/tiny-7.yaml).
L1, FLICKER, LPIPS_VGG, DISTS_WEIGHT = 0.8, 1.5, 0.9, 1.6


def adapter_for(model: Model) -> GeneratorAdapter:
    """Raises ModelError for a model whose generator cannot be adapted."""
    networks = model.networks
    if not isinstance(networks, TinyFrameModel) or not networks.codes:
        raise ModelError(
            f"{model.id} has no codes that adapt its generator: encode without adapt, or with tiny"
        )
    return GeneratorAdapter(networks)


@dataclass(frozen=True)
class Crop:
    """Some frames of a place, the last two to be judged.

    feature (1, T, C, h/8, w/8) and reference (1, T, 3, h, w), levels: float16, in which references
    of the codec are exact; source uint8 (1, T, 3, h, w); intra (1, T).
    """

    feature: Tensor
    reference: Tensor
    source: Tensor
    intra: Tensor


class GeneratorAdapter:
    """An ``Adapter`` for ``tiny``. Raises ModelError without the weights of LPIPS on VGG-16 and DISTS."""

    def __init__(self, networks: TinyFrameModel) -> None:
        self._networks, device = networks, networks.device
        self._metrics: tuple[tuple[float, nn.Module], ...] = (
            (DISTS_WEIGHT, DISTS().to(device)),
            (LPIPS_VGG, LPIPS("vgg").to(device)),
        )
        fast = device.type != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16", False)
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=bool(fast))
        index = networks.symbols.model.codes_index
        assert index is not None
        scales = torch.from_numpy(default_scales()[index.astype(int) - 1]).float()
        self._spread = scales.to(device)
        self._start()

    def _start(self) -> None:
        self._past: deque[tuple[TinyFeatures, Picture, bool]] = deque(maxlen=LOOK_BACK + 2)
        self._crops: list[Crop] = []
        self._frames, self._every = 0, 2
        self._random = np.random.default_rng(0)

    def saw(self, features: TinyFeatures, picture: Picture, intra: bool) -> None:
        """A frame as it was coded; every so many-th, a crop of it is kept."""
        if intra:
            self._start()
        self._past.append((features, picture, intra))
        if self._frames % self._every == 0:
            self._crops.append(self._crop())
            if len(self._crops) > MOST_CROPS:
                self._crops, self._every = self._crops[::2], 2 * self._every
        self._frames += 1

    def _crop(self) -> Crop:
        missing = LOOK_BACK + 2 - len(self._past)
        past = [self._past[0]] * missing + list(self._past)  # an I-frame heeds no past
        height, width, _ = past[0][1].shape
        tall, wide = min(HEIGHT, height), min(WIDTH, width)
        top = int(self._random.integers(0, (height - tall) // BLOCK + 1)) * BLOCK
        left = int(self._random.integers(0, (width - wide) // BLOCK + 1)) * BLOCK
        rows, columns = slice(top, top + tall), slice(left, left + wide)
        eighth = (slice(top // 8, rows.stop // 8), slice(left // 8, columns.stop // 8))
        source = np.stack([picture[rows, columns] for _, picture, _ in past])
        return Crop(
            torch.stack([f.feature[..., eighth[0], eighth[1]] for f, _, _ in past], 1).half(),
            torch.stack([f.reference[..., rows, columns] for f, _, _ in past], 1).half(),
            torch.from_numpy(source).permute(0, 3, 1, 2)[None].to(self._networks.device),
            torch.tensor([[intra for _, _, intra in past]], device=self._networks.device),
        )

    def codes(self) -> Integers | None:
        """Codes, int32 (K,), of the frames since the last I-frame; None where none were better than zeros."""
        spread = self._spread
        point, mean = torch.zeros_like(spread, requires_grad=True), torch.zeros_like(spread)
        search = torch.optim.Adam([point], lr=RATE, betas=(0.9, 0.95))
        order: list[int] = []
        for step in range(STEPS):
            search.param_groups[0]["lr"] = RATE * min(1.0, 2 * (1 - step / STEPS))
            order = order or self._random.permutation(len(self._crops)).tolist()
            loss = self._loss(self._crops[order.pop()], point * spread, step % len(self._metrics))
            search.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            search.step()
            if step >= STEPS // 2:  # what one crop pulls to is noise to the next: their mean is the answer
                mean += point.detach() / (STEPS - STEPS // 2)
        found = (mean * spread).round().clamp(-LIMIT, LIMIT)
        if self._judged(found) >= self._judged(torch.zeros_like(found)):
            return None
        return np.asarray(found.cpu().numpy(), np.int32)

    @torch.no_grad()
    def _judged(self, codes: Tensor) -> float:
        judges = self._crops[:: max(1, len(self._crops) // MOST_JUDGES)]
        turns = range(len(self._metrics))
        return sum(float(self._loss(crop, codes, turn)) for crop in judges for turn in turns)

    def _loss(self, crop: Crop, codes: Tensor, turn: int) -> Tensor:
        """Of the crop's last frames, by one of the metrics."""
        feature, reference, source = (part.float() for part in (crop.feature, crop.reference, crop.source))
        generator, window = self._networks.generator, (feature, reference, crop.intra)
        weights = self._networks.adapted(codes)
        levels = generator.empty_levels(1, reference.shape[-2], reference.shape[-1], reference.device)
        with self._autocast:
            with torch.no_grad():
                past = (part[:, :LOOK_BACK] for part in window)
                _, levels = functional_call(generator, weights, (*past, levels))
            now = (part[:, LOOK_BACK:] for part in window)
            shown, _ = functional_call(generator, weights, (*now, levels))
        shown, real = shown[0] / 255, source[0, LOOK_BACK:] / 255
        error = shown - real
        weight, metric = self._metrics[turn]
        with self._autocast:
            distance = metric(shown[-1:], real[-1:]).float().mean()
        change = (error[1:] - error[:-1]).abs().mean()
        loss: Tensor = L1 * error.abs().mean() + FLICKER * change + len(self._metrics) * weight * distance
        return loss
