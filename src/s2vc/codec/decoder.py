"""The decoder's state machine: chunks in, pictures out. Symbols are read ahead of the networks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from s2vc.bitstream import Chunk, Header
from s2vc.codec.packets import read_packet
from s2vc.codec.protocol import FrameKind, FrameModel, Picture, SymbolModel, Symbols
from s2vc.codec.schedule import Schedule, padded_size, windows
from s2vc.errors import DamagedError


@dataclass(frozen=True)
class DecodedFrame:
    """A picture, uint8 RGB (H, W, 3), with its time and duration in ticks of the header's time base."""

    picture: Picture
    time: int
    duration: int


@dataclass
class ChunkSymbols:
    """A chunk's symbols as far as they are sound, and what is wrong with the rest."""

    chunk: Chunk
    kinds: list[FrameKind]
    symbols: list[Symbols]
    damage: str | None


class SymbolReader:
    """Reads every symbol of a file's chunks, in order; needs no networks with ``tiny``."""

    def __init__(self, model: SymbolModel, header: Header, multiple: int) -> None:
        self.model, self.header = model, header
        self._size = padded_size(header.height, header.width, multiple)
        self._schedule = Schedule(header.reset_period)
        self._memory: object = None

    def read(self, chunk: Chunk) -> ChunkSymbols:
        """Symbols of a chunk's packets, up to the first whose checksum does not fit."""
        result = ChunkSymbols(chunk, [], [], None)
        if chunk.opens:
            self._memory = self.model.new_memory(*self._size)
        for number, (packet, quality) in enumerate(zip(chunk.packets, chunk.qualities, strict=True)):
            intra = chunk.intra and number == 0
            kind = self._schedule.next(intra, quality)
            try:
                parts = self.model.parts(kind, self._memory)
                symbols = read_packet(parts, packet, self.header.checksum_bytes)
            except DamagedError:
                symbols = None
            if symbols is None:
                result.damage = f"frame {chunk.first_frame + number} is damaged"
                return result
            result.kinds.append(kind)
            result.symbols.append(symbols)
        return result


class VideoDecoder:
    """Decodes chunks in order. The first chunk given must start with an I-frame."""

    def __init__(self, model: FrameModel, header: Header) -> None:
        self.model, self.header = model, header
        self._symbols = SymbolReader(model.symbols, header, model.multiple)
        size = padded_size(header.height, header.width, model.multiple)
        self._buffer = model.new_buffer(*size)
        self._render_state = model.new_render_state(*size)

    def decode(self, chunks: Iterable[Chunk], *, live: bool = False) -> Iterator[DecodedFrame]:
        """All frames of the chunks. Raises DamagedError after the last sound frame before damage.

        ``live``: give a chunk's frames before asking for the next chunk, which may not have been made yet.
        Otherwise its symbols are read meanwhile.
        """
        source = iter(chunks)
        failure: DamagedError | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="s2vc-symbols") as pool:
            ahead: deque[Future[ChunkSymbols]] = deque()
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
                    yield from self._pictures(ahead.popleft().result())
            while ahead:
                yield from self._pictures(ahead.popleft().result())
        if failure is not None:
            raise failure

    def _pictures(self, read: ChunkSymbols) -> Iterator[DecodedFrame]:
        height, width = self.header.height, self.header.width
        times = list(read.chunk.times)
        durations = [after - before for before, after in pairwise(times)] + [read.chunk.last_duration]
        for window in windows(len(read.symbols)):
            kinds = read.kinds[window]
            features = []
            for kind, symbols in zip(kinds, read.symbols[window], strict=True):
                coding = self.model.coding(self._buffer, kind)
                for name, values in symbols.items():
                    coding.take(name, values)
                self._buffer, feature = coding.finish()
                features.append(feature)
            shown, self._render_state = self.model.render(features, kinds, self._render_state)
            for picture, time, duration in zip(shown, times[window], durations[window], strict=True):
                yield DecodedFrame(picture[:height, :width], time, duration)
        if read.damage is not None:
            raise DamagedError(f"{read.damage}: the frames before it were decoded")
