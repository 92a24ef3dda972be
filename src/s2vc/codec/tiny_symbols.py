"""``tiny``'s symbol model: which tables code a packet's integers. Imports no torch (DESIGN §6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2vc.codec.protocol import MOTION, FrameKind, Part, Parts
from s2vc.entropy.integer import IntegerEntropyModel, next_memory
from s2vc.entropy.tables import Tables

BLOCK = 16
ADAPTED_TABLE = np.ones(1, np.uint8)  # the narrowest: not to be adapted costs next to nothing


@dataclass
class TinyMemory:
    """Past latents' magnitudes, float64 integers (C, h, w), and the previous frame's motion in this chunk."""

    magnitudes: NDArray[np.float64]
    motion: NDArray[np.int16] | None = None


class TinySymbols:
    """Coding order: z, motion (P-frames), y of pass 0, y of pass 1; in an I-frame of a model that can be
    adapted, whether it is, and its codes if so.
    """

    exact = True

    def __init__(self, model: IntegerEntropyModel, tables: Tables) -> None:
        self.model, self.tables = model, tables

    def new_memory(self, height: int, width: int, before: object = None) -> TinyMemory:
        shape = (self.model.latent_channels, height // BLOCK, width // BLOCK)
        return TinyMemory(np.zeros(shape))

    def parts(self, kind: FrameKind, memory: TinyMemory) -> Parts:
        if kind.intra:  # an I-frame neither reads nor leaves a memory
            memory.magnitudes = np.zeros_like(memory.magnitudes)
            memory.motion = None
        _, rows, columns = memory.magnitudes.shape
        index = self.model.hyper_tables(kind.intra, kind.quality, rows, columns)
        z = yield Part("z", index, self.tables)
        motion = np.zeros((rows, columns, 2), np.int16)
        if not kind.intra:
            sent = yield Part(MOTION, shape=(rows, columns), previous=memory.motion)
            motion = sent.astype(np.int16)
        index, trunk = self.model.first_pass(kind.intra, kind.quality, z, motion, memory.magnitudes)
        first = yield Part("y0", index, self.tables)
        second = yield Part("y1", self.model.second_pass(trunk, first), self.tables)
        if not kind.intra:
            memory.magnitudes = next_memory(memory.magnitudes, first + second)
            memory.motion = motion
        elif self.model.codes_index is not None:
            adapted = yield Part("adapted", ADAPTED_TABLE, self.tables)
            if adapted.any():
                yield Part("codes", self.model.codes_index, self.tables)
