"""``tiny`` behind the protocol: float networks around integer symbols (DESIGN §4, §6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from s2vc.codec.motion_search import MotionSearch
from s2vc.codec.protocol import MOTION, FrameKind, Integers, Part, Picture
from s2vc.codec.quantise import BLOCK_PRICE, RateAwareRounding
from s2vc.codec.tiny_symbols import BLOCK, TinyMemory, TinySymbols
from s2vc.entropy.integer import checkerboard
from s2vc.nn.tiny.adaptation import adapted_weights
from s2vc.nn.tiny.codec import Buffer, Context, TinyCodec
from s2vc.nn.tiny.generator import Levels, TinyGenerator

HYPER_LIMIT = 127


@dataclass(frozen=True)
class TinyFeatures:
    """What a picture is rendered from: feature (1, C, H/8, W/8), reference picture (1, 3, H, W), codes (K,)
    where the film adapts the generator.
    """

    feature: Tensor
    reference: Tensor
    codes: Tensor | None = None


def search_smoothness(quality: int) -> float:
    """λ of the motion search, SAD a bit: vectors must pay for themselves, the more the lower the quality."""
    return float(200 * (12 / 200) ** (quality / 63))


def _block_errors(picture: Tensor, source: Tensor) -> NDArray[np.float64]:
    """Sums of squared differences of (1, 3, H, W) levels over each block, (H/16, W/16)."""
    error = (picture - source)[0].square().sum(0).double()
    height, width = error.shape
    return error.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).sum((1, 3)).cpu().numpy()


class TinyFrameModel:
    """Networks on one device, in float32."""

    multiple = BLOCK
    quality_per_frame = True
    padding: Literal["edge", "reflect"] = "edge"
    profile = ""

    def __init__(
        self, codec: TinyCodec, generator: TinyGenerator, symbols: TinySymbols, device: torch.device
    ) -> None:
        self.codec = codec.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.generator = generator.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.symbols = symbols
        self.reset_period = codec.config.reset_period
        self.device = device
        self.search = MotionSearch()
        self.rounding = RateAwareRounding(symbols.tables)
        self._adapted: tuple[Tensor | None, dict[str, Tensor]] = (None, {})

    @property
    def codes(self) -> int:
        """How many codes an I-frame may carry; 0 with a model that cannot be adapted."""
        groups = self.symbols.model.code_groups
        return 0 if groups is None else int(groups.sum())

    def new_buffer(self, height: int, width: int) -> Buffer:
        return self.codec.empty_buffer(1, height, width, self.device)

    @torch.inference_mode()
    def analyse(self, picture: Picture, buffer: Buffer, memory: TinyMemory, kind: FrameKind) -> TinyAnalysis:
        height, width, _ = picture.shape
        motion = np.zeros((height // BLOCK, width // BLOCK, 2), np.int16)
        if not kind.intra:
            reference = (
                buffer.reference[0].permute(1, 2, 0).round().to("cpu", torch.uint8).contiguous().numpy()
            )
            motion = self.search(picture, reference, search_smoothness(kind.quality), memory.motion)
        return self._analysis()(self, buffer, kind, picture, motion, memory)

    def _analysis(self) -> type[TinyAnalysis]:
        return TinyAnalysis

    @torch.inference_mode()
    def coding(self, buffer: Buffer, kind: FrameKind) -> TinyCoding:
        return TinyCoding(self, buffer, kind)

    def new_render_state(self, height: int, width: int) -> Levels:
        return self.generator.empty_levels(1, height, width, self.device)

    def adapted(self, codes: Tensor | None) -> dict[str, Tensor]:
        """The generator's weights that codes, float (K,), change; with their gradient where they have one."""
        return {} if codes is None else adapted_weights(self.generator, codes)

    @torch.inference_mode()
    def render(
        self, features: Sequence[TinyFeatures], kinds: Sequence[FrameKind], state: Levels
    ) -> tuple[list[Picture], Levels]:
        feature = torch.stack([f.feature for f in features], 1)
        reference = torch.stack([f.reference for f in features], 1)
        intra = torch.tensor([[kind.intra for kind in kinds]], device=self.device)
        codes = features[0].codes  # a window does not cross an I-frame
        adapted = self._adapted
        if codes is not adapted[0]:
            self._adapted = adapted = (codes, self.adapted(codes))
        x0, state = functional_call(self.generator, adapted[1], (feature, reference, intra, state))
        pictures = x0[0].round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return list(pictures), state


class TinyCoding:
    """One frame's way from symbols to buffer, a step a part. The encoder takes the same steps."""

    def __init__(self, model: TinyFrameModel, buffer: Buffer, kind: FrameKind) -> None:
        self.model, self.buffer = model, buffer
        device = model.device
        self.intra = torch.tensor([kind.intra], device=device)
        self.reset = torch.tensor([kind.reset], device=device)
        self.quality = torch.tensor([kind.quality], device=device)
        _, _, height, width = buffer.reference.shape
        rows, columns = height // BLOCK, width // BLOCK
        board = checkerboard(model.codec.config.latent, rows, columns)
        self.even = torch.from_numpy(board)[None].to(device)
        self.codes = None if kind.intra else buffer.codes
        if kind.intra:
            self.buffer = model.new_buffer(height, width)
            self._start(np.zeros((rows, columns, 2), np.int16))

    def _start(self, motion: NDArray[np.int16]) -> None:
        field = torch.from_numpy(motion)[None].to(self.model.device)
        self.context = self.model.codec.context(self.buffer, field, self.intra, self.reset, self.quality)

    def _floats(self, symbols: Integers) -> Tensor:
        return torch.from_numpy(symbols.astype(np.float32))[None].to(self.model.device)

    def _first_latent(self, symbols: Integers, mean: Tensor) -> Tensor:
        """Decoded latents of pass 0, zero at pass 1's positions."""
        return (self._floats(symbols) + mean) * self.even

    def _synthesise(
        self, context: Context, latent: Tensor, first: Integers, second: Integers, mean: Tensor
    ) -> Buffer:
        """The buffer after this frame, from pass 0's latents and the symbols of both passes."""
        latent = latent + (self._floats(second) + mean) * ~self.even
        coded = torch.from_numpy((first | second).any(0))[None, None].to(self.model.device)
        after, _ = self.model.codec.synthesise(latent, coded, context, self.intra, self.quality)
        return after

    @torch.inference_mode()
    def take(self, name: str, symbols: Integers) -> None:
        if name == "z":
            self.z = self._floats(symbols)
        elif name == MOTION:
            self._start(symbols.astype(np.int16))
        elif name == "y0":
            mean, self.hidden = self._prior()
            self.first_symbols, self.first = symbols, self._first_latent(symbols, mean)
        elif name == "codes":
            self.codes = torch.from_numpy(symbols.astype(np.float32)).to(self.model.device)
        elif name == "y1":
            mean = self._second_mean()
            self.buffer = self._synthesise(self.context, self.first, self.first_symbols, symbols, mean)

    def _prior(self) -> tuple[Tensor, Tensor]:
        return self.model.codec.prior(self.z, self.context)

    def _second_mean(self) -> Tensor:
        return self.model.codec.second_mean(self.hidden, self.first)

    def finish(self) -> tuple[Buffer, TinyFeatures]:
        buffer = replace(self.buffer, codes=self.codes)
        return buffer, TinyFeatures(buffer.feature, buffer.reference, buffer.codes)


class TinyAnalysis(TinyCoding):
    """The encoder's frame: each part's symbols from the picture, then the decoder's own step."""

    def __init__(
        self,
        model: TinyFrameModel,
        buffer: Buffer,
        kind: FrameKind,
        picture: Picture,
        motion: NDArray[np.int16],
        memory: TinyMemory,
    ) -> None:
        super().__init__(model, buffer, kind)
        self.motion = motion
        if not kind.intra:
            self._start(motion)
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].float().contiguous().to(model.device)
        self.y = model.codec.analyse(x, self.context, self.intra, self.quality)
        self.hyper = model.codec.hyper_analyse(self.y, self.context)
        self._prior_now: tuple[Tensor, Tensor] | None = None
        self._mean_now: Tensor | None = None
        self._kept = None if kind.intra else self._worth_coding(x, kind, memory)

    def _worth_coding(self, x: Tensor, kind: FrameKind, memory: TinyMemory) -> NDArray[np.bool_]:
        """Blocks (h, w) of a P-frame whose symbols buy more than they cost; the others stay their prediction.

        x: the source, levels. The frame is decoded as if all were coded. A bit must buy twice what it must in
        rounding, which is 2 κ of a squared quantiser step: what is left alone does not wear.
        """
        codec, symbols = self.model.codec, self.model.symbols
        z = self._hyperlatent()
        mean, hidden = self._prior_now = codec.prior(self._floats(z), self.context)
        index, trunk = symbols.model.first_pass(False, kind.quality, z, self.motion, memory.magnitudes)
        first, bits = self._rounded(mean, index)
        latent = self._first_latent(first, mean)
        mean = codec.second_mean(hidden, latent)
        second, more = self._rounded(mean, symbols.model.second_pass(trunk, first))
        unfollowed = replace(self.context, origin=None)  # it tells nothing of this frame
        after = self._synthesise(unfollowed, latent, first, second, mean)
        bought = _block_errors(self.context.prediction, x) - _block_errors(after.reference, x)
        step = float(codec.decoder_step(self.intra, self.quality).log().mean().exp())
        return bought > BLOCK_PRICE * step**2 * (bits + more)

    def _rounded(self, mean: Tensor, index: NDArray[np.uint8]) -> tuple[Integers, NDArray[np.float64]]:
        """Symbols of one pass, and the bits (h, w) that each block's cost beyond those of zeros."""
        values = self.model.rounding((self.y - mean)[0].cpu().numpy(), index)
        tables = self.model.symbols.tables
        return values, (tables.bits(values, index) - tables.bits(np.zeros_like(values), index)).sum(0)

    def _hyperlatent(self) -> Integers:
        return self.hyper[0].round().clamp(-HYPER_LIMIT, HYPER_LIMIT).to(torch.int32).cpu().numpy()

    @torch.inference_mode()
    def symbols(self, part: Part) -> Integers:
        if part.name == "z":
            return self._hyperlatent()
        if part.name == MOTION:
            return self.motion
        assert part.index is not None
        if part.name == "adapted":  # codes are chosen when its pictures are known
            return np.zeros(part.index.shape, np.int32)
        if part.name == "y0":
            if self._prior_now is None:
                self._prior_now = self.model.codec.prior(self.z, self.context)
            mean = self._prior_now[0]
        else:
            self._mean_now = mean = self.model.codec.second_mean(self.hidden, self.first)
        return self._latent_symbols(part.name, mean, part.index)

    def _latent_symbols(self, name: str, mean: Tensor, index: NDArray[np.uint8]) -> Integers:
        """Symbols of one pass, zero where blocks are left alone."""
        values = self.model.rounding((self.y - mean)[0].cpu().numpy(), index)
        return values if self._kept is None else values * self._kept

    def take(self, name: str, symbols: Integers) -> None:
        if name != MOTION:  # the context of the field it found stands already
            super().take(name, symbols)

    def _prior(self) -> tuple[Tensor, Tensor]:
        assert self._prior_now is not None
        return self._prior_now

    def _second_mean(self) -> Tensor:
        assert self._mean_now is not None
        return self._mean_now
