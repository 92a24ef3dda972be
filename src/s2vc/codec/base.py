"""``base`` behind the protocol: the published system as a codec (ARCHITECTURE §2, DESIGN §4, §6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakValueDictionary

import diffusers
import numpy as np
import torch
from torch import Tensor

from s2vc.codec.base_frame import (
    MULTIPLE,
    RUNNING,
    BaseFeatures,
    BaseFrame,
    BasePoint,
    BaseState,
    exact,
)
from s2vc.codec.protocol import FrameKind, Integers, Part, Parts, Picture
from s2vc.codec.schedule import rate_point
from s2vc.nn.base.inter import LIMIT
from s2vc.nn.base.intra import PASSES
from s2vc.nn.base.model import BaseModel
from s2vc.nn.base.prior import fold
from s2vc.nn.base.vae import LightDecoder

INT16 = 32767


@dataclass
class BaseMemory:
    """The buffer as the symbols see it, and the frame an encoder is at work on."""

    state: BaseState
    frame: BaseFrame | None = None


class BaseSymbols:
    """Coding order: z, then y pass by pass (I frames: 0 to 3; P frames: 0 and 1). Needs the networks."""

    exact = False

    def __init__(self, choose: Callable[[int], BasePoint]) -> None:
        self.choose = choose

    def new_memory(self, height: int, width: int, before: BaseMemory | None = None) -> BaseMemory:
        """A chunk goes on from the buffer the one before left."""
        return BaseMemory(BaseState((height, width)) if before is None else before.state)

    def frame(self, state: BaseState, kind: FrameKind) -> BaseFrame:
        with exact():
            return BaseFrame(self.choose, state, kind)

    def parts(self, kind: FrameKind, memory: BaseMemory) -> Parts:
        frame, memory.frame = memory.frame, None
        if frame is None:
            frame = self.frame(memory.state, kind)
        parts = frame.parts()
        part = _step(parts, None)
        while part is not None:
            symbols = yield part
            part = _step(parts, symbols)
        memory.state = frame.state


def _step(parts: Parts, symbols: Integers | None) -> Part | None:
    with exact():  # not across the yields of ``parts``: it belongs to a thread, not to a generator
        try:
            return next(parts) if symbols is None else parts.send(symbols)
        except StopIteration:
            return None


class BaseFrameModel:
    """Rate points of one model on one device; they are loaded when an I frame asks for them.

    ``points``: their number; quality 0..63 falls into as many equal bands. ``load``: the networks of a point,
    0 the one of fewest bits. ``light``: draws pictures of latents in the place of the autoencoder's decoder.
    """

    multiple = MULTIPLE
    padding: Literal["edge", "reflect"] = "reflect"
    reset_period = 32
    quality_per_frame = False

    def __init__(
        self,
        points: int,
        load: Callable[[int], BaseModel],
        device: torch.device,
        light: LightDecoder | None = None,
    ) -> None:
        self.points, self.device, self.light = points, device, light
        if device.type == "cuda":
            # Shorter mantissas would read other symbols.
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.profile = f"{device.type}, float32, torch {torch.__version__}, diffusers {diffusers.__version__}"
        self._load = load
        self._points: WeakValueDictionary[int, BasePoint] = WeakValueDictionary()
        self._last: BasePoint | None = None
        self.symbols = BaseSymbols(self._choose)

    def _choose(self, quality: int) -> BasePoint:
        number = rate_point(quality, self.points)
        point = self._points.get(number)  # frames of it may still be in work: symbols are read ahead
        if point is None:
            self._last = None  # not two points in memory where none before is in use
            point = self._points[number] = BasePoint(self._load(number))
        self._last = point
        return point

    def new_buffer(self, height: int, width: int) -> BaseState:
        return BaseState((height, width))

    def analyse(
        self, picture: Picture, buffer: BaseState, memory: BaseMemory, kind: FrameKind
    ) -> BaseAnalysis:
        with RUNNING, torch.inference_mode():
            return BaseAnalysis(self, picture, buffer, memory, kind)

    def coding(self, buffer: BaseState, kind: FrameKind) -> BaseCoding:
        return BaseCoding(self.symbols.frame(buffer, kind))

    def new_render_state(self, height: int, width: int) -> list[Tensor]:
        return []

    def render(
        self, features: Sequence[BaseFeatures], kinds: Sequence[FrameKind], state: list[Tensor]
    ) -> tuple[list[Picture], list[Tensor]]:
        """Runs of P frames go through the generator at once; the autoencoder takes frames one by one."""
        with RUNNING, torch.inference_mode():
            return self._render(features, state)

    def _render(
        self, features: Sequence[BaseFeatures], state: list[Tensor]
    ) -> tuple[list[Picture], list[Tensor]]:
        runs: list[list[BaseFeatures]] = []
        for frame in features:
            if not runs or frame.intra or runs[-1][0].intra:
                runs.append([])
            runs[-1].append(frame)
        pictures: list[Picture] = []
        for run in runs:
            drawn, tokens = (torch.cat(batch) for batch in zip(*(f.inputs() for f in run), strict=True))
            model = run[0].point.model
            with model.generator(run[0].intra, model.dtype) as generator:
                x0, state = generator(drawn, tokens, state)
            decoder = model.vae(model.dtype) if self.light is None else self.light
            pictures += [_picture(decoder.decode(latent[None])) for latent in x0]
        return pictures, state


def _picture(decoded: Tensor) -> Picture:
    picture = (decoded[0].clamp(-1, 1) + 1) / 2
    return (picture * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).cpu().numpy()


class BaseCoding:
    """The decoder's frame: symbols in, features out."""

    def __init__(self, frame: BaseFrame) -> None:
        self.frame = frame
        self._parts = frame.parts()
        _step(self._parts, None)

    def take(self, name: str, symbols: Integers) -> None:
        _step(self._parts, symbols)

    def finish(self) -> tuple[BaseState, BaseFeatures]:
        return self.frame.state, self.frame.features


class BaseAnalysis:
    """The encoder's frame: its symbols, found with the frame that the symbol model works on."""

    def __init__(
        self,
        model: BaseFrameModel,
        picture: Picture,
        buffer: BaseState,
        memory: BaseMemory,
        kind: FrameKind,
    ) -> None:
        self.frame = memory.frame = model.symbols.frame(buffer, kind)
        networks = self.frame.point.model
        x = torch.from_numpy(np.ascontiguousarray(picture)).to(model.device).permute(2, 0, 1)[None]
        x = x.float() / 255 * 2 - 1
        if kind.intra:
            self.y, semantic = networks.intra.analysis(x, networks.vae(torch.float32).encode(x))
            quantiser = networks.intra.quantiser
            codes = quantiser.decode(quantiser.index(networks.intra.hyper_analysis(self.y, semantic)))
            half = torch.tensor([level // 2 for level in quantiser.levels], device=model.device)
            self.z = codes * half[:, None, None]
        else:
            self.y = networks.inter.analysis(networks.inter.embedding(x), self.frame.context)
            self.z = networks.inter.hyper_analysis(self.y).round().clamp(-LIMIT, LIMIT - 1)

    @torch.inference_mode()
    def symbols(self, part: Part) -> Integers:
        if part.name == "z":
            return self.z[0].round().to(torch.int32).cpu().numpy()
        frame = self.frame
        shares, limit = (PASSES, INT16) if frame.kind.intra else (2, LIMIT)
        scaled = self.y if frame.kind.intra else self.y * (1 / frame.steps)
        symbols = (scaled - frame.mean).round().clamp(-limit, limit - 1)
        return fold(symbols, frame.mask, shares)[0].to(torch.int32).cpu().numpy()

    def take(self, name: str, symbols: Integers) -> None:
        """The symbol model takes them: the frame is shared with it."""

    def finish(self) -> tuple[BaseState, BaseFeatures]:
        return self.frame.state, self.frame.features
