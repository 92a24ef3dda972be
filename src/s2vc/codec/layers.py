"""The hierarchy of qualities in the GOP (docs/rate-control.md). It imports nothing: `info` asks it, too."""

from __future__ import annotations

from enum import Enum

KEY_PERIOD = 8  # frames from one key frame to the next; an I-frame is the first
BETWEEN_COARSER = 12  # qualities that frames between two key frames are coarser (docs/decisions.md)


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
