"""The decoder's state machine: chunks in, pictures out. Symbols are read ahead of the networks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from s2vc.bitstream import Chunk, Header
from s2vc.codec.packets import read_packet
from s2vc.codec.protocol import FrameKind, FrameModel, Picture, SymbolModel, Symbols
from s2vc.codec.schedule import LOOK_BACK, Schedule, padded_size, windows
from s2vc.errors import DamagedError, SymbolMismatchError


@dataclass(frozen=True)
class DecodedFrame:
    """A picture, uint8 RGB (H, W, 3), with its time and duration in ticks of the header's time base.

    ``concealed``: the frame itself is lost; the picture is that of the last frame before it that is not.
    """

    picture: Picture
    time: int
    duration: int
    concealed: bool = False


@dataclass
class ChunkSymbols:
    """A chunk's symbols as far as they are sound, and what is wrong with the rest."""

    chunk: Chunk
    kinds: list[FrameKind]
    symbols: list[Symbols]
    damage: str | None
    differs: bool = False  # the bytes are sound: symbols read here differ from those encoded


class SymbolReader:
    """Reads every symbol of a file's chunks, in order; needs no networks with ``tiny``."""

    def __init__(self, model: SymbolModel, header: Header, multiple: int) -> None:
        self.model, self.header = model, header
        self._size = padded_size(header.height, header.width, multiple)
        self._schedule = Schedule(header.reset_period)
        self._memory: object = None
        self.stopped = threading.Event()  # set from another thread, it ends a ``read`` early

    def read(self, chunk: Chunk) -> ChunkSymbols:
        """Symbols of a chunk's packets, up to the first whose checksum does not fit."""
        result = ChunkSymbols(chunk, [], [], None)
        if chunk.opens:
            self._memory = self.model.new_memory(*self._size, self._memory)
        for number, (packet, quality) in enumerate(zip(chunk.packets, chunk.qualities, strict=True)):
            if self.stopped.is_set():
                break
            intra = chunk.intra and number == 0
            kind = self._schedule.next(intra, quality)
            try:
                parts = self.model.parts(kind, self._memory)
                symbols = read_packet(parts, packet, self.header.checksum_bytes)
            except DamagedError:
                symbols = None
            if symbols is None:
                result.damage = f"frame {chunk.first_frame + number} is damaged"
                result.differs = not self.model.exact and not chunk.damaged
                return result
            result.kinds.append(kind)
            result.symbols.append(symbols)
        return result


@dataclass
class _Window:
    """Frames that go through the generator at once."""

    kinds: list[FrameKind]
    features: list[Any]
    times: list[int]
    durations: list[int]


def chunks_of_part(chunks: Iterable[Chunk], start: int, until: int | None) -> Iterator[Chunk]:
    """The chunks that pictures from ``start`` on depend on, up to a time ``until``; ticks, None: to the end.

    What comes before the last I-frame is read and dropped, for a pipe cannot be searched.
    """
    waiting: list[Chunk] = []
    begun = False
    for chunk in chunks:
        times = [*chunk.times, *chunk.lost_times]
        if until is not None and times[0] >= until:
            return
        if chunk.intra and not begun:
            waiting.clear()
        waiting.append(chunk)
        begun = begun or times[-1] >= start
        if begun:
            yield from waiting
            waiting.clear()


class VideoDecoder:
    """Decodes chunks in order. The first chunk given must start with an I-frame.

    ``start``: pictures of frames before this time, in ticks, are not given, nor painted where the pictures
    from there on do not depend on them.
    """

    def __init__(self, model: FrameModel, header: Header, *, start: int | None = None) -> None:
        self.model, self.header, self.start = model, header, start
        self._symbols = SymbolReader(model.symbols, header, model.multiple)
        size = padded_size(header.height, header.width, model.multiple)
        self._buffer = model.new_buffer(*size)
        self._render_state = model.new_render_state(*size)
        self._unpainted: deque[_Window] = deque()  # before ``start``
        self.differs: str | None = None  # what ``decode_chunk`` met first of what reads differently here

    def decode(self, chunks: Iterable[Chunk], *, live: bool = False) -> Iterator[DecodedFrame]:
        """All frames of the chunks. Raises DamagedError after the last sound frame before damage,
        SymbolMismatchError after the last that reads as it was encoded.

        ``live``: give a chunk's frames before asking for the next chunk, which may not have been made yet.
        Otherwise its symbols are read meanwhile.
        """
        source = iter(chunks)
        failure: DamagedError | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="s2vc-symbols") as pool:
            ahead: deque[Future[ChunkSymbols]] = deque()
            try:
                while True:
                    try:
                        chunk = next(source, None)
                    except DamagedError as error:
                        failure = error
                        break
                    if chunk is None:
                        break
                    ahead.append(pool.submit(self._symbols.read, chunk))
                    while len(ahead) > (0 if live else 1):
                        yield from self._sound(ahead.popleft().result())
                while ahead:
                    yield from self._sound(ahead.popleft().result())
            finally:
                # Whoever interrupts does not wait for the symbols of a whole chunk.
                self._symbols.stopped.set()
                for future in ahead:
                    future.cancel()
        if failure is not None:
            raise failure

    def decode_chunk(self, chunk: Chunk) -> tuple[int, list[DecodedFrame]]:
        """(packets before the first damaged one, their frames) of a chunk that the one before led up to."""
        read = self._symbols.read(chunk)
        if read.differs and self.differs is None:
            self.differs = self._difference(read)
        return len(read.symbols), list(self._pictures(read))

    def _difference(self, read: ChunkSymbols) -> str:
        frame = read.chunk.first_frame + len(read.symbols)
        return (
            f"frame {frame} reads differently here than where it was encoded: decode it with "
            f"{self.header.profile or 'the arithmetic it was made with'}"
        )

    def _sound(self, read: ChunkSymbols) -> Iterator[DecodedFrame]:
        yield from self._pictures(read)
        if read.differs:
            raise SymbolMismatchError(self._difference(read))
        if read.damage is not None:
            raise DamagedError(f"{read.damage}: the frames before it were decoded")

    def _pictures(self, read: ChunkSymbols) -> Iterator[DecodedFrame]:
        """The frames of symbols that were read, from ``start`` on."""
        times = list(read.chunk.times)
        durations = [after - before for before, after in pairwise(times)] + [read.chunk.last_duration]
        for part in windows(len(read.symbols)):
            window = _Window(read.kinds[part], [], times[part], durations[part])
            for kind, symbols in zip(window.kinds, read.symbols[part], strict=True):
                coding = self.model.coding(self._buffer, kind)
                for name, values in symbols.items():
                    coding.take(name, values)
                self._buffer, feature = coding.finish()
                window.features.append(feature)
            if self.start is not None and window.times[-1] < self.start:
                self._hold(window)
                continue
            while self._unpainted:
                self._paint(self._unpainted.popleft())
            yield from (f for f in self._paint(window) if self.start is None or f.time >= self.start)

    def _hold(self, window: _Window) -> None:
        """Keep as many unpainted windows as the generator looks back."""
        self._unpainted.append(window)
        while sum(len(held.times) for held in self._unpainted) - len(self._unpainted[0].times) >= LOOK_BACK:
            self._unpainted.popleft()

    def _paint(self, window: _Window) -> list[DecodedFrame]:
        height, width = self.header.height, self.header.width
        shown, self._render_state = self.model.render(window.features, window.kinds, self._render_state)
        return [
            DecodedFrame(picture[:height, :width], time, duration)
            for picture, time, duration in zip(shown, window.times, window.durations, strict=True)
        ]
