"""The protocol between the state machine and a preset, and what travels across it.

A preset has two halves. Its *symbol model* says, part by part, which tables code a frame's integers, given
what was read before (``tiny``: numpy on integers, so that files are read without torch; ``base``: torch on
floats). Its *frame model* analyses frames, updates the picture buffer from symbols and renders pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from s2vc.entropy.tables import Tables

Integers: TypeAlias = NDArray[np.integer[Any]]
Picture: TypeAlias = NDArray[np.uint8]
MOTION = "motion"


@dataclass(frozen=True)
class FrameKind:
    """What is known of a frame before its packet is read.

    ``reset``: the feature buffer is read as empty. ``quality``: 0..63.
    """

    intra: bool
    reset: bool
    quality: int


@dataclass(frozen=True)
class Part:
    """The next integers of a packet.

    ``index``: uint8 table indices, any shape, with ``tables``; or, for the motion field, ``shape`` (rows,
    columns) in blocks and ``previous``, the previous frame's field of this chunk.
    """

    name: str
    index: NDArray[np.uint8] | None = None
    tables: Tables | None = None
    shape: tuple[int, int] = (0, 0)
    previous: NDArray[np.int16] | None = None


Symbols: TypeAlias = dict[str, Integers]
PartSource: TypeAlias = Callable[[Part], Integers]
Parts: TypeAlias = Generator[Part, Integers, None]


class SymbolModel(Protocol):
    """Table indices of a preset's packets.

    ``exact``: they are functions of integers, the same on every machine. Where they are not, symbols that do
    not fit their checksum in sound bytes are the machine's fault.
    """

    exact: bool

    def new_memory(self, height: int, width: int, before: Any = None) -> Any:
        """What the entropy model remembers at the start of a chunk of padded pictures.

        ``before``: what it remembered at the end of the chunk before. ``tiny`` forgets it; ``base``, whose
        tables come out of the picture buffer, goes on from it.
        """

    def parts(self, kind: FrameKind, memory: Any) -> Parts:
        """A packet's parts in coding order; each ``yield`` is sent the part's symbols. Updates ``memory``."""


class FrameCoding(Protocol):
    """One frame being coded: yields the buffer's next state once all its symbols are known."""

    def take(self, name: str, symbols: Integers) -> None:
        """The symbols of the next part, in coding order."""

    def finish(self) -> tuple[Any, Any]:
        """(buffer after this frame, features to render it from)."""


class FrameAnalysis(FrameCoding, Protocol):
    """The encoder's side of it: it also says what the symbols are."""

    def symbols(self, part: Part) -> Integers:
        """The part's symbols for the frame being analysed."""


class Adapter(Protocol):
    """Chooses an I-frame's codes, once the frames up to the next I-frame are coded."""

    def saw(self, features: Any, picture: Picture, intra: bool) -> None:
        """A frame as it was coded; its source, padded, uint8 (H, W, 3)."""

    def codes(self, size: int) -> Symbols | None:
        """The I-frame's parts that write codes for the frames since, coded in ``size`` bytes; None: they
        are drawn as the model draws all.
        """


class FrameModel(Protocol):
    """A preset's networks. Pictures are uint8 (H, W, 3), H and W multiples of ``multiple``.

    ``padding``: how pictures are made so, below and at the right (numpy's modes). ``profile``: the arithmetic
    that files are made with here; empty where any decodes them.
    """

    multiple: int
    padding: Literal["edge", "reflect"]
    profile: str
    reset_period: int
    """Every so many frames after an I-frame the feature buffer is read as empty."""
    quality_per_frame: bool
    """Whether P-frames may have a quality of their own; else they keep their I-frame's."""

    @property
    def symbols(self) -> SymbolModel: ...

    def new_buffer(self, height: int, width: int) -> Any: ...

    def analyse(self, picture: Picture, buffer: Any, memory: Any, kind: FrameKind) -> FrameAnalysis: ...

    def coding(self, buffer: Any, kind: FrameKind) -> FrameCoding: ...

    def new_render_state(self, height: int, width: int) -> Any: ...

    def render(
        self, features: Sequence[Any], kinds: Sequence[FrameKind], state: Any
    ) -> tuple[list[Picture], Any]:
        """Pictures of consecutive frames, and the render state for the frames after them."""
