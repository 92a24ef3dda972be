"""What both sides derive alike: frame kinds, chunks, windows, padded size (DESIGN §4, §6, §8)."""

from __future__ import annotations

from s2vc.bitstream import CHUNK_FRAMES
from s2vc.codec.protocol import FrameKind

WINDOW = 8  # frames that go through the generator at once; windows never cross a chunk's start
QUALITIES = 64
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


def rate_point(quality: int, points: int) -> int:
    """Number of the rate point of a quality, 0..63: as many equal bands as there are points (DESIGN §2)."""
    return quality * points // QUALITIES


def padded_size(height: int, width: int, multiple: int) -> tuple[int, int]:
    """(height, width) rounded up to multiples of ``multiple``: the size the networks see."""
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def windows(count: int) -> list[slice]:
    """The generator's windows of a chunk of ``count`` frames, the same on both sides."""
    return [slice(i, min(i + WINDOW, count)) for i in range(0, count, WINDOW)]
