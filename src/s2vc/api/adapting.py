"""``encode(adapt=True)``: codes that adapt ``tiny``'s generator to a film (s2vc.nn.tiny.adaptation).

Gradients through the generator, of the losses that it was trained by and of colour, on crops spread over the
frames.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from s2vc.codec.protocol import Picture, Symbols
from s2vc.codec.schedule import LOOK_BACK
from s2vc.codec.tiny import TinyFeatures, TinyFrameModel
from s2vc.codec.tiny_symbols import BLOCK
from s2vc.errors import ModelError
from s2vc.nn.tiny.generator import Body, TinyGenerator
from s2vc.perceptual import DISTS, LPIPS

from .models import Model

HEIGHT, WIDTH = 256, 448  # of a crop at most: DISTS compares statistics of the whole of what it sees
MOST_CROPS, MOST_JUDGES = 64, 4
STEPS = 480  # of the search, each by one crop and one metric
RATE = 0.15  # its steps at first, in codes
LIMIT = 127
OCTAVE = 0.1  # what the loss falls by, about, where a film may take twice the bits
BITS = 3  # that a code costs for each 1 that it is away from 0, about
MOST_BYTES = 20_000  # in a larger scene codes cost as much as in this: dearer ones serve other frames better
# Weights of the terms: what the generator was trained by last (recipes/tiny-8.yaml), LPIPS' a half more, and
# errors of colour, which neither network minds much, counted again: fringes at edges came of them.
L1, COLOUR, FLICKER, LPIPS_VGG, DISTS_WEIGHT = 0.8, 3.0, 1.5, 1.35, 1.6


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
    """Two frames of a place, as the layers see them that codes adapt.

    body float16 (2, C, h/16, w/16) and (2, C, h/8, w/8); reference float16 (1, 2, 3, h, w), levels, in which
    references of the codec are exact; source uint8 (2, 3, h, w).
    """

    body: Body
    reference: Tensor
    source: Tensor


class _Drawing(nn.Module):
    """The generator's last layers, for ``functional_call``."""

    def __init__(self, generator: TinyGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, body: Body, reference: Tensor) -> Tensor:
        return self.generator.draw(body, reference)


class GeneratorAdapter:
    """An ``Adapter`` for ``tiny``. Raises ModelError without the weights of LPIPS on VGG-16 and DISTS."""

    def __init__(self, networks: TinyFrameModel) -> None:
        self._networks, device = networks, networks.device
        self._drawing = _Drawing(networks.generator)
        self._metrics: tuple[tuple[float, nn.Module], ...] = (
            (DISTS_WEIGHT, DISTS().to(device)),
            (LPIPS_VGG, LPIPS("vgg").to(device)),
        )
        fast = device.type != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16", False)
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=bool(fast))
        self._start()

    def _start(self) -> None:
        self._past: deque[tuple[TinyFeatures, Picture, bool]] = deque(maxlen=LOOK_BACK + 2)
        self._crops: list[Crop] = []
        self._frames = 0
        self._random = np.random.default_rng(0)

    def saw(self, features: TinyFeatures, picture: Picture, intra: bool) -> None:
        """A frame as it was coded; crops of some are kept, each frame as likely as another.

        At even steps they would fall on key frames, which are fewer and better than others.
        """
        if intra:
            self._start()
        self._past.append((features, picture, intra))
        self._frames += 1
        if len(self._crops) < MOST_CROPS:
            self._crops.append(self._crop())
        elif (place := int(self._random.integers(0, self._frames))) < MOST_CROPS:
            self._crops[place] = self._crop()

    def _crop(self) -> Crop:
        missing = LOOK_BACK + 2 - len(self._past)
        past = [self._past[0]] * missing + list(self._past)  # an I-frame heeds no past
        height, width, _ = past[0][1].shape
        tall, wide = min(HEIGHT, height), min(WIDTH, width)
        top = int(self._random.integers(0, (height - tall) // BLOCK + 1)) * BLOCK
        left = int(self._random.integers(0, (width - wide) // BLOCK + 1)) * BLOCK
        rows, columns = slice(top, top + tall), slice(left, left + wide)
        eighth = (slice(top // 8, rows.stop // 8), slice(left // 8, columns.stop // 8))
        device, generator = self._networks.device, self._networks.generator
        feature = torch.stack([f.feature[..., eighth[0], eighth[1]] for f, _, _ in past], 1)
        reference = torch.stack([f.reference[..., rows, columns] for f, _, _ in past], 1)
        intra = torch.tensor([[intra for _, _, intra in past]], device=device)
        source = np.stack([picture[rows, columns] for _, picture, _ in past[LOOK_BACK:]])
        with torch.no_grad():
            body, _ = generator.body(feature, reference, intra, generator.empty_levels(1, tall, wide, device))
        return Crop(
            (body[0][LOOK_BACK:].half(), body[1][LOOK_BACK:].half()),
            reference[:, LOOK_BACK:].half(),
            torch.from_numpy(source).permute(0, 3, 1, 2).to(device),
        )

    def codes(self, size: int) -> Symbols | None:
        """Parts that write codes of the frames since the last I-frame; None where none were worth their bits.

        size: bytes of these frames.
        """
        # A code's price by its size: under an L1 Adam's steps leave at 0 what is worth little.
        price = OCTAVE / math.log(2) * BITS / (8 * min(max(1, size), MOST_BYTES))
        point = torch.zeros(self._networks.codes, device=self._networks.device, requires_grad=True)
        mean = torch.zeros_like(point)
        search = torch.optim.Adam([point], lr=RATE, betas=(0.9, 0.95))
        order: list[int] = []
        for step in range(STEPS):
            search.param_groups[0]["lr"] = RATE * min(1.0, 2 * (1 - step / STEPS))
            order = order or self._random.permutation(len(self._crops)).tolist()
            codes = point
            if step >= STEPS // 2:  # what rounding does is seen, and passed by the gradient
                codes = point + (point.round() - point).detach()
            loss = self._loss(self._crops[order.pop()], codes, step % len(self._metrics))
            loss = loss + price * point.abs().sum()
            search.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            search.step()
            if step >= STEPS // 2:  # what one crop pulls to is noise to the next: their mean is the answer
                mean += point.detach() / (STEPS - STEPS // 2)
        found = mean.round().clamp(-LIMIT, LIMIT)
        written, bits = self._networks.symbols.adaptation(np.asarray(found.cpu().numpy(), np.int32))
        more = OCTAVE * math.log2(1 + bits / (8 * max(1, size)))
        return written if self._judged(found) + more < self._judged(torch.zeros_like(found)) else None

    @torch.no_grad()
    def _judged(self, codes: Tensor) -> float:
        judges = self._crops[:: max(1, len(self._crops) // MOST_JUDGES)]
        turns = range(len(self._metrics))
        losses = [float(self._loss(crop, codes, turn)) for crop in judges for turn in turns]
        return sum(losses) / len(losses)

    def _loss(self, crop: Crop, codes: Tensor, turn: int) -> Tensor:
        """Of the crop's last frames, by one of the metrics."""
        weights = {f"generator.{name}": w for name, w in self._networks.adapted(codes).items()}
        body = (crop.body[0].float(), crop.body[1].float())
        reference, source = crop.reference.float(), crop.source.float()
        with self._autocast:
            shown = functional_call(self._drawing, weights, (body, reference))
        shown, real = shown[0] / 255, source / 255
        error = shown - real
        weight, metric = self._metrics[turn]
        with self._autocast:
            distance = metric(shown[-1:], real[-1:]).float().mean()
        change = (error[1:] - error[:-1]).abs().mean()
        colour = (error - error.mean(1, keepdim=True)).abs().mean()
        loss: Tensor = L1 * error.abs().mean() + COLOUR * colour + FLICKER * change
        return loss + len(self._metrics) * weight * distance
