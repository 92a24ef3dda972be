"""``tiny``'s symbol model: which tables code a packet's integers. Imports no torch (DESIGN §6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2vc.codec.protocol import MOTION, FrameKind, Integers, Part, Parts, Symbols
from s2vc.entropy.integer import IntegerEntropyModel, next_memory
from s2vc.entropy.tables import Tables

BLOCK = 16
ADAPTED_TABLE = 1  # the narrowest: not to be adapted costs next to nothing
GROUP_TABLE = 34  # that the groups' tables are written with
CODE_TABLES = np.array([0, *range(1, 56, 6)], np.uint8)  # skip, and standard deviations of 0.14 to 12


@dataclass
class TinyMemory:
    """Past latents' magnitudes, float64 integers (C, h, w), and the previous frame's motion in this chunk."""

    magnitudes: NDArray[np.float64]
    motion: NDArray[np.int16] | None = None


class TinySymbols:
    """Coding order: z, motion (P-frames), y of pass 0, y of pass 1; in an I-frame of a model that can be
    adapted, whether it is, and if so each group's table and the codes.
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
        elif self.model.code_groups is not None:
            adapted = yield Part("adapted", np.full(1, ADAPTED_TABLE, np.uint8), self.tables)
            if adapted.any():
                groups = self.model.code_groups
                written = yield Part("groups", np.full(len(groups), GROUP_TABLE, np.uint8), self.tables)
                yield Part("codes", _tables_of_codes(written, groups), self.tables)

    def adaptation(self, codes: Integers) -> tuple[Symbols, float]:
        """The parts that write codes, int32 (K,), and their bits; each group has its cheapest table."""
        groups = self.model.code_groups
        assert groups is not None
        starts = np.cumsum(groups) - groups
        bits = np.stack(
            [
                np.add.reduceat(self.tables.bits(codes, np.full(codes.shape, table, np.uint8)), starts)
                for table in CODE_TABLES[1:]
            ]
        )
        empty = np.where(np.maximum.reduceat(np.abs(codes), starts) == 0, 0.0, np.inf)
        bits = np.concatenate([empty[None], bits])
        written = bits.argmin(0).astype(np.int32)
        index = np.full(len(groups), GROUP_TABLE, np.uint8)
        total = float(bits.min(0).sum() + self.tables.bits(written, index).sum())
        return {"adapted": np.ones(1, np.int32), "groups": written, "codes": codes}, total


def _tables_of_codes(written: Integers, groups: NDArray[np.int64]) -> NDArray[np.uint8]:
    return CODE_TABLES[written.clip(0, len(CODE_TABLES) - 1)].repeat(groups)
