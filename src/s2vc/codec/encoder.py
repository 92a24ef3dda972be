"""The encoder's state machine: pictures in, chunks out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from s2vc.bitstream import CHUNK_FRAMES, Chunk, Packet
from s2vc.codec.packets import write_packet
from s2vc.codec.protocol import FrameKind, FrameModel, Picture
from s2vc.codec.schedule import Schedule, padded_size, windows


@dataclass
class _Open:
    """The chunk being filled."""

    kinds: list[FrameKind] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    features: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class CodedChunk:
    """A chunk for the writer, and the decoder's pictures of it where they were asked for."""

    chunk: Chunk
    pictures: list[Picture]


def pad(picture: Picture, multiple: int) -> Picture:
    """Repeat the last row and column until both sides are multiples of ``multiple``."""
    below, right = (-side % multiple for side in picture.shape[:2])
    if not below and not right:
        return picture
    return np.pad(picture, ((0, below), (0, right), (0, 0)), mode="edge")


class VideoEncoder:
    """Takes uint8 RGB pictures (H, W, 3) of one size, in order, and gives chunks as they fill up.

    ``keyint``: an I-frame at least every so many frames. ``reconstruct``: also render what a decoder shows.
    """

    def __init__(
        self,
        model: FrameModel,
        width: int,
        height: int,
        *,
        quality: int,
        keyint: int,
        reset_period: int,
        reconstruct: bool = False,
    ) -> None:
        self.model, self.width, self.height = model, width, height
        self.quality, self.keyint, self.reconstruct = quality, keyint, reconstruct
        self.schedule = Schedule(reset_period)
        self._size = padded_size(height, width, model.multiple)
        self._buffer = model.new_buffer(*self._size)
        self._render_state = model.new_render_state(*self._size)
        self._memory: Any = None
        self._chunk = _Open()

    def push(self, picture: Picture, time: int, duration: int = 0) -> Iterator[CodedChunk]:
        """Code one frame; yields the chunk before it once this frame opens another."""
        if picture.shape != (self.height, self.width, 3) or picture.dtype != np.uint8:
            raise ValueError(
                f"frames are uint8 ({self.height}, {self.width}, 3), not {picture.dtype} {picture.shape}"
            )
        intra = self.schedule.since_intra < 0 or self.schedule.since_intra + 1 >= self.keyint
        kind = self.schedule.next(intra, self.quality)
        if self.schedule.opens_chunk:
            yield from self.flush()
            self._memory = self.model.symbols.new_memory(*self._size)
        self._code(pad(picture, self.model.multiple), kind)
        self._chunk.kinds.append(kind)
        self._chunk.times.append(time)
        self._chunk.durations.append(duration)

    def _code(self, picture: Picture, kind: FrameKind) -> None:
        analysis = self.model.analyse(picture, self._buffer, self._memory, kind)

        def source(part: Any) -> Any:
            symbols = analysis.symbols(part)
            analysis.take(part.name, symbols)
            return symbols

        self._chunk.packets.append(write_packet(self.model.symbols.parts(kind, self._memory), source))
        self._buffer, features = analysis.finish()
        if self.reconstruct:
            self._chunk.features.append(features)

    def flush(self) -> Iterator[CodedChunk]:
        """Close the open chunk, if there is one."""
        done, self._chunk = self._chunk, _Open()
        if not done.packets:
            return
        assert len(done.packets) <= CHUNK_FRAMES
        pictures: list[Picture] = []
        for window in windows(len(done.features)):
            shown, self._render_state = self.model.render(
                done.features[window], done.kinds[window], self._render_state
            )
            pictures += [picture[: self.height, : self.width] for picture in shown]
        chunk = Chunk(
            intra=done.kinds[0].intra,
            times=done.times,
            qualities=[kind.quality for kind in done.kinds],
            packets=done.packets,
            last_duration=done.durations[-1],
        )
        yield CodedChunk(chunk, pictures)
