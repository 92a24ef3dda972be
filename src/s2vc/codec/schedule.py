"""What both sides derive alike: frame kinds, chunks, windows, padded size (DESIGN §4, §6, §8)."""

from __future__ import annotations

from enum import Enum

from s2vc.bitstream import CHUNK_FRAMES
from s2vc.codec.protocol import FrameKind

WINDOW = 8  # frames that go through the generator at once; windows never cross a chunk's start
QUALITIES = 64
KEY_PERIOD = 8  # frames from one key frame to the next; an I-frame is the first
BETWEEN_COARSER = 12  # qualities that frames between two key frames are coarser (docs/decisions.md)
LOOK_BACK = 3  # frames before a window that its pictures depend on (ARCHITECTURE §7)


def is_reset(since_intra: int, period: int) -> bool:
    """Whether the n-th frame after an I-frame reads an empty feature buffer (ARCHITECTURE §2)."""
    return period > 0 and since_intra > 0 and (since_intra - 1) % period == 0


class Schedule:
    """Counts frames: an I-frame opens a chunk, a chunk has at most 32 frames."""

    def __init__(self, reset_period: int) -> None:
        self.reset_period = reset_period
        self.since_intra = -1
        self.in_chunk = 0

    def next(self, intra: bool, quality: int) -> FrameKind:
        self.since_intra = 0 if intra else self.since_intra + 1
        self.in_chunk = 1 if intra or self.in_chunk == CHUNK_FRAMES else self.in_chunk + 1
        return FrameKind(intra, is_reset(self.since_intra, self.reset_period), quality)

    @property
    def opens_chunk(self) -> bool:
        return self.in_chunk == 1


class Layer(Enum):
    """A frame's place in the hierarchy of qualities: key frames bring detail, those between carry it on."""

    INTRA = 0
    KEY = 1
    BETWEEN = 2

    @classmethod
    def of(cls, since_intra: int, period: int) -> Layer:
        """Of the n-th frame after an I-frame, where each ``period``-th is a key frame."""
        if since_intra == 0:
            return cls.INTRA
        return cls.BETWEEN if since_intra % period else cls.KEY

    def quality(self, asked: int) -> int:
        """A frame's own quality, 0..63, where ``asked`` is that of its key frames."""
        return max(0, asked - BETWEEN_COARSER) if self is Layer.BETWEEN else asked

    def asked(self, quality: int) -> int:
        """The least that was asked for where a frame has ``quality``."""
        return quality + BETWEEN_COARSER if self is Layer.BETWEEN else quality


def key_period(quality_per_frame: bool) -> int:
    """Frames from key frame to key frame: all are alike where a model has no quality per frame."""
    return KEY_PERIOD if quality_per_frame else 1


def rate_point(quality: int, points: int) -> int:
    """Number of the rate point of a quality, 0..63: as many equal bands as there are points (DESIGN §2)."""
    return quality * points // QUALITIES


def padded_size(height: int, width: int, multiple: int) -> tuple[int, int]:
    """(height, width) rounded up to multiples of ``multiple``: the size the networks see."""
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def windows(count: int) -> list[slice]:
    """The generator's windows of a chunk of ``count`` frames, the same on both sides."""
    return [slice(i, min(i + WINDOW, count)) for i in range(0, count, WINDOW)]
