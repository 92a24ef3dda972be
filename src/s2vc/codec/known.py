"""Frames that were coded before an encoder was stopped: their packets are used again, not made again."""

from __future__ import annotations

from collections.abc import Sequence

from s2vc.bitstream import Chunk, Packet
from s2vc.codec.protocol import FrameKind
from s2vc.errors import OutputError


class KnownPackets:
    """The packets of whole chunks, from a file's first on, in order. ``name``: the file's, for messages."""

    def __init__(self, chunks: Sequence[Chunk], name: str) -> None:
        self.name = name
        self._packets: list[tuple[bool, int, Packet]] = []
        self._last_intra = 0
        for chunk in chunks:
            if chunk.intra:
                self._last_intra = len(self._packets)
            for place, (packet, quality) in enumerate(zip(chunk.packets, chunk.qualities, strict=True)):
                self._packets.append((chunk.intra and place == 0, quality, packet))
        self._next = 0

    def __bool__(self) -> bool:
        return self._next < len(self._packets)

    @property
    def taken(self) -> int:
        """Packets taken so far."""
        return self._next

    @property
    def quality(self) -> int:
        """Of the next packet."""
        return self._packets[self._next][1]

    @property
    def matters(self) -> bool:
        """Whether what comes behind the known packets depends on the next one: no I-frame stands between."""
        return self._next >= self._last_intra

    def take(self, kind: FrameKind, anew: Packet | None) -> Packet:
        """The next packet; ``anew``: what the encoder makes of its frame now, if that was tried.

        Raises OutputError where another source or other settings made the packet.
        """
        intra, quality, packet = self._packets[self._next]
        self._next += 1
        if (intra, quality) != (kind.intra, kind.quality) or (anew is not None and anew != packet):
            raise another_encoding(self.name)
        return packet


def another_encoding(name: str) -> OutputError:
    """What is there was made of something else, or otherwise."""
    return OutputError(
        f"{name} has another source, other settings or another number of threads: give those that it was "
        "begun with, or remove it to begin anew"
    )
