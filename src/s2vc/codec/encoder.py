"""The encoder's state machine: pictures in, chunks out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from s2vc.bitstream import CHUNK_FRAMES, Chunk, Packet
from s2vc.codec.known import KnownPackets, another_encoding
from s2vc.codec.layers import Layer, key_period
from s2vc.codec.packets import checksum_bytes, read_packet, write_packet
from s2vc.codec.protocol import Adapter, FrameKind, FrameModel, Integers, Part, Picture, Symbols
from s2vc.codec.rate_control import QualityControl
from s2vc.codec.scene_cuts import IntraPlacement
from s2vc.codec.schedule import LOOK_BACK, Schedule, padded_size, windows


@dataclass
class _Open:
    """The chunk being filled."""

    kinds: list[FrameKind] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    features: list[Any] = field(default_factory=list)
    opens: bool = True


@dataclass(frozen=True)
class CodedChunk:
    """A chunk for the writer, and the decoder's pictures of it where they were asked for.

    ``until``: the time of the frame behind it, where that is known and the caller has not just given it.
    ``grown``: bytes by which its I-frame has grown since it was coded.
    """

    chunk: Chunk
    pictures: list[Picture]
    until: int | None = None
    grown: int = 0


def pad(picture: Picture, multiple: int, mode: Literal["edge", "reflect"] = "edge") -> Picture:
    """Repeat the last row and column, or mirror the picture (again where a side is short), until both sides
    are multiples of ``multiple``.
    """
    below, right = (-side % multiple for side in picture.shape[:2])
    if not below and not right:
        return picture
    return np.pad(picture, ((0, below), (0, right), (0, 0)), mode=mode)


class VideoEncoder:
    """Takes uint8 RGB pictures (H, W, 3) of one size, in order, and gives chunks as they fill up.

    ``keyint``: an I-frame at least every so many frames; ``keyint_ticks``: whenever so many ticks have passed
    since the one before. ``scene_cuts``: another where a scene begins, but
    none nearer than ``min_keyint`` frames to the one before. ``low_delay``: every frame comes at once, as a
    Chunk of one frame; only some of them ``opens`` a chunk. ``known``: packets of the first frames, coded by
    a run that was stopped. ``control``: chooses qualities; without it all is coded for ``quality``, which key
    frames have (``Layer``).
    ``reconstruct``: also render what a decoder shows (not of known packets). ``adapter``: chooses each
    I-frame's codes; chunks then wait for the next one. It goes neither with ``low_delay``, ``known`` nor
    ``reconstruct``.
    """

    def __init__(
        self,
        model: FrameModel,
        width: int,
        height: int,
        *,
        quality: int,
        keyint: int | None = None,
        keyint_ticks: int | None = None,
        reset_period: int,
        min_keyint: int = 1,
        scene_cuts: bool = False,
        low_delay: bool = False,
        known: KnownPackets | None = None,
        control: QualityControl | None = None,
        reconstruct: bool = False,
        adapter: Adapter | None = None,
    ) -> None:
        self.model, self.width, self.height = model, width, height
        self.quality, self.low_delay, self.reconstruct = quality, low_delay, reconstruct
        self._is_intra = IntraPlacement(min_keyint, scene_cuts)
        self._keyint, self._keyint_ticks, self._intra_time = keyint, keyint_ticks, 0
        self._known, self._control = known, control
        self._checksum_bytes = checksum_bytes(model.symbols.exact)
        self.schedule = Schedule(reset_period)
        self._key_period = key_period(model.quality_per_frame)
        self._size = padded_size(height, width, model.multiple)
        self._buffer = model.new_buffer(*self._size)
        self._render_state = model.new_render_state(*self._size)
        self._memory: Any = None
        self._chunk = _Open()
        self._features: Any = None
        self._adapter = adapter
        self._held: list[CodedChunk] = []  # since the last I-frame, whose codes are not known yet
        self._opening: tuple[FrameKind, Symbols] | None = None
        self._last: deque[tuple[Any, FrameKind]] = deque(maxlen=LOOK_BACK + 1)

    def push(self, picture: Picture, time: int, duration: int = 0) -> Iterator[CodedChunk]:
        """Code one frame; yields the chunk before once this frame opens another (``low_delay``: its own)."""
        if picture.shape != (self.height, self.width, 3) or picture.dtype != np.uint8:
            raise ValueError(
                f"frames are uint8 ({self.height}, {self.width}, 3), not {picture.dtype} {picture.shape}"
            )
        since_intra = self.schedule.since_intra + 1
        due = self._keyint is not None and since_intra >= self._keyint
        due = due or (self._keyint_ticks is not None and time - self._intra_time >= self._keyint_ticks)
        intra = self._is_intra(picture, since_intra, due)
        if intra:
            self._intra_time = time
        layer = Layer.of(0 if intra else since_intra, self._key_period)
        asked = self.quality if self._control is None else self._control.choose(intra, time)
        quality = layer.quality(asked)
        if self._known and self._control is not None and quality != self._known.quality:
            quality = self._known.quality
            asked = layer.asked(quality)
        kind = self.schedule.next(intra, quality)
        if self.schedule.opens_chunk:
            yield from self._close_chunk()
            if intra:
                yield from self._release()
            self._memory = self.model.symbols.new_memory(*self._size, self._memory)
        padded = pad(picture, self.model.multiple, self.model.padding)
        if not self._chunk.packets:
            self._chunk.opens = self.schedule.opens_chunk
        if self._known:
            packet = self._use_known(padded, kind)
            if self._control is not None:
                self._control.known(asked, 8 * len(packet.payload))
        elif self._control is None:
            packet = self._code(padded, kind)
        else:
            packet, kind = self._code_controlled(padded, kind, layer, self._control)
        if not self._known:
            self._last.append((self._features, kind))
        if self._adapter is not None:
            self._adapter.saw(self._features, padded, intra)
        self._chunk.packets.append(packet)
        self._chunk.kinds.append(kind)
        self._chunk.times.append(time)
        self._chunk.durations.append(duration)
        if self.low_delay:
            yield from self._close_chunk()

    def _use_known(self, picture: Picture, kind: FrameKind) -> Packet:
        """The next known packet; the state behind it is a decoder's, where it is needed."""
        assert self._known is not None
        # The first frame shows a wrong source or setting at once.
        anew = None if self._known.taken else self._code(picture, kind)
        matters = self._known.matters
        packet = self._known.take(kind, anew)
        if matters and anew is None:
            parts = self.model.symbols.parts(kind, self._memory)
            symbols = read_packet(parts, packet, self._checksum_bytes)
            if symbols is None:
                raise another_encoding(self._known.name)
            coding = self.model.coding(self._buffer, kind)
            for name, values in symbols.items():
                coding.take(name, values)
            self._buffer, _ = coding.finish()
        return packet

    def _code_controlled(
        self, picture: Picture, kind: FrameKind, layer: Layer, control: QualityControl
    ) -> tuple[Packet, FrameKind]:
        """Code a frame, again from the same state where the control wants another quality."""
        buffer, memory, features = self._buffer, self._memory, len(self._chunk.features)
        while True:
            self._memory = copy(memory)  # whose fields coding sets
            packet = self._code(picture, kind)
            asked = control.coded(8 * len(packet.payload))
            if asked is None:
                return packet, kind
            kind = replace(kind, quality=layer.quality(asked))
            self._buffer = buffer
            del self._chunk.features[features:]

    def _code(self, picture: Picture, kind: FrameKind) -> Packet:
        analysis = self.model.analyse(picture, self._buffer, self._memory, kind)
        coded: Symbols = {}
        if kind.intra:
            self._opening = (kind, coded)

        def source(part: Part) -> Integers:
            symbols = coded[part.name] = analysis.symbols(part)
            analysis.take(part.name, symbols)
            return symbols

        parts = self.model.symbols.parts(kind, self._memory)
        packet = write_packet(parts, source, self._checksum_bytes)
        self._buffer, self._features = analysis.finish()
        if self.reconstruct:
            self._chunk.features.append(self._features)
        return packet

    def look(self) -> list[Picture]:
        """What a decoder shows of the last frames, four at most, rendered now: the last one as it will be."""
        features, kinds = zip(*self._last, strict=True)
        state = self.model.new_render_state(*self._size)
        shown, _ = self.model.render(features, kinds, state)
        return [picture[: self.height, : self.width] for picture in shown]

    def flush(self) -> Iterator[CodedChunk]:
        """All that waits: the open chunk, if there is one, and those that wait for codes."""
        yield from self._close_chunk()
        yield from self._release()

    def _release(self) -> Iterator[CodedChunk]:
        """The chunks since the last I-frame, which gets its codes."""
        held, self._held = self._held, []
        if not held:
            return
        assert self._adapter is not None
        codes = self._adapter.codes(sum(len(p.payload) for coded in held for p in coded.chunk.packets))
        if codes is not None:
            chunk = held[0].chunk
            packet = self._with_codes(codes)
            grown = len(packet.payload) - len(chunk.packets[0].payload)
            held[0] = replace(
                held[0], chunk=replace(chunk, packets=[packet, *chunk.packets[1:]]), grown=grown
            )
        for coded, after in pairwise(held):
            yield replace(coded, until=after.chunk.times[0])
        yield held[-1]

    def _with_codes(self, codes: Symbols) -> Packet:
        """The last I-frame's packet once more, now with codes: no other symbol depends on them."""
        assert self._opening is not None
        kind, symbols = self._opening
        symbols |= codes
        parts = self.model.symbols.parts(kind, self.model.symbols.new_memory(*self._size))
        return write_packet(parts, lambda part: symbols[part.name], self._checksum_bytes)

    def _close_chunk(self) -> Iterator[CodedChunk]:
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
            opens=done.opens,
        )
        if self._adapter is None:
            yield CodedChunk(chunk, pictures)
        else:
            self._held.append(CodedChunk(chunk, pictures))
