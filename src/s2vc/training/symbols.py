"""The encoder's symbols: what an ``entropy`` stage learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2vc.codec.protocol import FrameKind, Integers, Picture
from s2vc.codec.tiny import TinyAnalysis, TinyFrameModel
from s2vc.codec.tiny_symbols import TinyMemory
from s2vc.nn.tiny.codec import Buffer
from s2vc.training.coded import Arrays, Counters, encode
from s2vc.training.streams import Purpose, stream

STILLS = 5  # pictures of a clip that are coded as I-frames, each at a quality of its own, beside a passage
LEAST = 50  # bytes a frame


class _Recorder(TinyFrameModel):
    """Keeps what the entropy model read of each frame, and the symbols that it told tables for."""

    def __init__(self, like: TinyFrameModel) -> None:
        super().__init__(like.codec, like.generator, like.symbols, like.device)
        self.frames: list[_RecordedAnalysis] = []

    def _analysis(self) -> type[TinyAnalysis]:
        return _RecordedAnalysis


class _RecordedAnalysis(TinyAnalysis):
    def __init__(
        self,
        model: TinyFrameModel,
        buffer: Buffer,
        kind: FrameKind,
        picture: Picture,
        motion: NDArray[np.int16],
        memory: TinyMemory,
    ) -> None:
        super().__init__(model, buffer, kind, picture, motion, memory)
        assert isinstance(model, _Recorder)
        model.frames.append(self)
        self.kind = kind
        self.memory = memory.magnitudes * (not kind.intra)
        self.rounded = np.zeros(memory.magnitudes.shape, np.int8)
        self.skipped = np.zeros(memory.magnitudes.shape, np.bool_)

    def _latent_symbols(self, name: str, mean: Tensor, index: NDArray[np.uint8]) -> Integers:
        mine = self.even[0].cpu().numpy() == (name == "y0")
        everywhere = super()._latent_symbols(name, mean, np.maximum(index, 1))
        self.rounded += (everywhere * mine).clip(-127, 127).astype(np.int8)
        self.skipped |= mine & (index == 0)
        return super()._latent_symbols(name, mean, index)

    def arrays(self) -> Arrays:
        return {
            "intra": np.array(self.kind.intra),
            "quality": np.array(self.kind.quality, np.uint8),
            "hyper": self.z[0].cpu().numpy().astype(np.int8),
            "motion": self.motion,
            "memory": self.memory.astype(np.uint8),
            "rounded": self.rounded,
            "skipped": np.packbits(self.skipped),
        }


def code_symbols(
    model: TinyFrameModel, frames: NDArray[np.uint8], quality: int, random: np.random.Generator
) -> Arrays:
    """A ``Coder``: the arrays of :class:`SymbolClip`, of a passage and of ``STILLS`` of its pictures."""
    found: list[Arrays] = []

    def code(pictures: NDArray[np.uint8], quality: int) -> None:
        recorder = _Recorder(model)
        size = encode(recorder, np.ascontiguousarray(pictures), quality, reconstruct=False)
        # What a file gains is a share of it; one of next to nothing would say more than it knows.
        share = np.array(1 / (size / len(pictures) + LEAST), np.float32)
        found.extend(frame.arrays() | {"weight": share} for frame in recorder.frames)

    code(frames, quality)
    for time in random.integers(0, len(frames), STILLS):
        still = frames[time : time + 1]
        code(still[:, :, ::-1] if random.random() < 0.5 else still, int(random.integers(0, 64)))
    return {name: np.stack([frame[name] for frame in found]) for name in found[0]}


@dataclass(frozen=True)
class SymbolClip:
    """T frames, memory-mapped. intra, quality, weight (T,): one over the mean bytes of its file's frames.
    hyper int8 (T, Z, ceil(h/4), ceil(w/4)), motion int16 (T, h, w, 2), memory uint8 (T, C, h, w).

    rounded: int8 (T, C, h, w), symbols as the encoder rounds them, also where the model of then skipped them
    (skipped: bits of that, (T, …)).
    """

    intra: NDArray[np.bool_]
    quality: NDArray[np.uint8]
    weight: NDArray[np.float32]
    hyper: NDArray[np.int8]
    motion: NDArray[np.int16]
    memory: NDArray[np.uint8]
    rounded: NDArray[np.int8]
    skipped: NDArray[np.uint8]


@dataclass
class SymbolFrame:
    """One frame as :meth:`s2vc.nn.tiny.entropy.EntropyTwin` takes it, in batches of one.

    rounded and coded: float (1, C, h, w), the latter zero where the symbols were skipped. weight: see
    :class:`SymbolClip`.
    """

    intra: Tensor
    quality: Tensor
    hyper: Tensor
    motion: Tensor
    memory: Tensor
    rounded: Tensor
    coded: Tensor
    weight: float

    @classmethod
    def of(cls, clip: SymbolClip, time: int, device: torch.device) -> SymbolFrame:
        rounded = clip.rounded[time].astype(np.float32)
        skipped = np.unpackbits(clip.skipped[time], count=rounded.size).reshape(rounded.shape)

        def given(array: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.array(array)[None]).to(device)

        return cls(
            given(clip.intra[time]),
            given(clip.quality[time].astype(np.int64)),
            given(clip.hyper[time].astype(np.float32)),
            given(clip.motion[time]),
            given(clip.memory[time].astype(np.float32)),
            given(rounded),
            given(np.where(skipped, np.float32(0), rounded)),
            float(clip.weight[time]),
        )


@dataclass
class SymbolBatch:
    """One frame of each slot."""

    frames: list[SymbolFrame]
    slots: list[int]


class SymbolSampler(Counters):
    """Endless batches of frames; a slot's n-th is a function of seed, stage, slot and n."""

    def __init__(
        self,
        clips: Sequence[SymbolClip],
        *,
        slots: Sequence[int],
        seed: int,
        stage: int,
        device: torch.device,
    ) -> None:
        super().__init__(slots)
        self.clips, self.seed, self.stage, self.device = clips, seed, stage, device

    def next(self) -> SymbolBatch:
        """The next frame of every slot, all clips alike."""
        frames = []
        for slot, count in self.done.items():
            random = stream(self.seed, Purpose.SEQUENCE, self.stage, slot, count)
            clip = self.clips[int(random.integers(len(self.clips)))]
            frames.append(SymbolFrame.of(clip, int(random.integers(len(clip.intra))), self.device))
            self.done[slot] = count + 1
        return SymbolBatch(frames, list(self.done))
