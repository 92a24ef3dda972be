"""What is said about a video, and one picture of it. Plain data: importing this loads no FFmpeg."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNSPECIFIED = 2  # H.273's number for "not said", in all three tables

ASPECT_TAG = "SAMPLE_ASPECT_RATIO"  # of a Matroska video track of ours that has no other place for it

FINEST_CLOCK = 1_000_000  # ticks a second of an MP4's track

MATRIX_RGB = 0
MATRIX_BT709 = 1
MATRIX_BT601 = 6


@dataclass(frozen=True)
class Colour:
    """Colour description by the numbers of ITU-T H.273.

    The codec's pictures are 8-bit RGB; this says which matrix and range an output in luma and chroma
    is given, and which primaries and transfer it is tagged with. Primaries and transfer are carried,
    never converted.
    """

    matrix: int = MATRIX_BT709
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full_range: bool = False


@dataclass(frozen=True)
class VideoInfo:
    """Geometry, clock and colour of a video.

    ``width`` and ``height`` are those of the stored pictures; ``rotation`` (0, 90, 180, 270) is how far
    a player turns them clockwise before it shows them. ``sample_aspect_ratio`` belongs to the stored
    pictures. Times count in ``time_base`` seconds. ``frame_count`` is what the container announces, an
    estimate for progress bars, or None.
    """

    width: int
    height: int
    sample_aspect_ratio: Fraction = Fraction(1)
    time_base: Fraction = Fraction(1, 25)
    rotation: int = 0
    colour: Colour = field(default_factory=Colour)
    average_rate: Fraction | None = None
    frame_count: int | None = None

    @property
    def display_size(self) -> tuple[int, int]:
        """(width, height) after rotation, in samples (the sample aspect ratio is not applied)."""
        if self.rotation in (90, 270):
            return self.height, self.width
        return self.width, self.height


@dataclass
class Frame:
    """One picture: ``rgb`` uint8 (H, W, 3), ``pts`` and ``duration`` in the video's time base.

    ``duration`` 0 means unknown.
    """

    rgb: NDArray[np.uint8]
    pts: int
    duration: int = 0


def guess_matrix(width: int, height: int) -> int:
    """Matrix of a video that does not say: BT.709 from 1280 wide or 720 high on, else BT.601."""
    return MATRIX_BT709 if width >= 1280 or height >= 720 else MATRIX_BT601
