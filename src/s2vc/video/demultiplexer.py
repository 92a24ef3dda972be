"""One pass over a container: its video's packets one by one, the other tracks' gathered on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from s2vc.bitstream import TrackPacket
from s2vc.video.sound import OpusTrack
from s2vc.video.tracks import copy_packet, place_of

# How much of the video is read ahead for sound that lies behind its pictures.
_AHEAD = Fraction(3)
_AHEAD_BYTES = 32 << 20


class Demultiplexer:
    """An iterator over the packets of ``video``; what FFmpeg raises comes when its packet would have come.

    ``numbers``: places of other tracks by stream index. ``opus``: those of them that are coded anew.
    ``others``: their packets so far, on the source's clock.
    """

    def __init__(
        self, container: Any, video: Any, numbers: dict[int, int], opus: dict[int, OpusTrack]
    ) -> None:
        self.others: deque[TrackPacket] = deque()
        self._too_large = 0
        self._video = video
        self._numbers = numbers
        self._opus = opus
        streams = [container.streams[index] for index in numbers]
        self._packets: Iterator[Any] = container.demux([video, *streams])
        self._ahead: deque[Any] = deque()
        self._ahead_bytes = 0
        self._failure: Exception | None = None
        self._sound: dict[int, Fraction | None] = {  # how far each has come
            index: None for index in numbers if container.streams[index].type == "audio"
        }

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._ahead:
            packet = self._ahead.popleft()
            self._ahead_bytes -= packet.size
            return packet
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        while True:
            packet = next(self._packets)
            if packet.stream.index == self._video.index:
                return packet
            self._take(packet)

    @property
    def lost(self) -> int:
        """Packets of other tracks that could not be carried."""
        return self._too_large + sum(coder.failed for coder in self._opus.values())

    def read_to(self, seconds: Fraction) -> None:
        """Read on until all sound has come that is due before ``seconds``, or for three seconds of video."""
        while self._failure is None and self._is_behind(seconds):
            try:
                packet = next(self._packets)
            except Exception as error:  # StopIteration too: the end comes when all before it was given
                self._failure = error
                return
            if packet.stream.index == self._video.index:
                self._ahead.append(packet)
                self._ahead_bytes += packet.size
            else:
                self._take(packet)

    def finish(self) -> None:
        """The video has ended: read what is left of the other tracks."""
        try:
            for packet in self._packets:
                if packet.stream.index != self._video.index:
                    self._take(packet)
        except Exception:  # a break was met before, and said
            return

    def _is_behind(self, seconds: Fraction) -> bool:
        if all(place is not None and place >= seconds for place in self._sound.values()):
            return False
        if not self._ahead:
            return True
        newest = self._ahead[-1]
        time = newest.dts if newest.dts is not None else newest.pts
        far = time is not None and time * newest.time_base > seconds + _AHEAD
        return not far and self._ahead_bytes < _AHEAD_BYTES and len(self._ahead) < 1000

    def _take(self, packet: Any) -> None:
        index = packet.stream.index
        number = self._numbers.get(index)
        if number is None:
            return
        coder = self._opus.get(index)
        if coder is not None:
            packets = coder.push(packet)
        elif packet.size == 0:  # the end
            return
        else:
            copied = copy_packet(packet, number)
            self._too_large += copied is None
            packets = [] if copied is None else [copied]
        self.others.extend(packets)
        if packets and index in self._sound and (place := place_of(packets[-1])) is not None:
            base = coder.time_base if coder is not None else packet.time_base
            self._sound[index] = place * base
