"""When a packet of sound starts, in samples, where its own clock may be coarser."""

from __future__ import annotations

from fractions import Fraction

from s2vc.bitstream import Track, TrackPacket
from s2vc.video.templates import HIGHEST_RATE, number_of
from s2vc.video.tracks import place_of

_LONGEST_LEAD = 10  # seconds; an encoder's priming takes a tenth, a preroll as much


class SoundClock:
    """Counts the samples of a track's packets from its first one.

    Matroska and MPEG-TS round times to their ticks; what packets last in samples is known better. So a packet
    starts where the one before it ends, unless its own time says otherwise by more than a tick. ``lead``:
    seconds of sound before time 0, decoded and not heard. ValueError where the track has no sample rate.
    """

    def __init__(self, track: Track, first: TrackPacket | None) -> None:
        self.rate = number_of(track, "sample_rate", HIGHEST_RATE)
        self._base = track.time_base
        self._frame = _samples_a_packet(track)
        self._exact = (1 / self._base / self.rate).denominator == 1
        self._next: Fraction | None = None  # seconds
        self.lead = Fraction(0)
        if first is not None:
            place = (place_of(first) or 0) * self._base
            skipped = Fraction(skipped_samples(first)[0], self.rate)
            if -_LONGEST_LEAD <= place < 0:
                agrees = abs(place + skipped) <= self._base
                self.lead = skipped if agrees else -place
                self._next = -self.lead

    def stamp(self, packet: TrackPacket) -> tuple[int, int]:
        """(start, length) of the next packet, in samples."""
        place = place_of(packet)
        due = self._next
        if place is not None:
            said = place * self._base
            if due is None or self._exact or abs(said - due) > self._base:
                due = said
        start = due if due is not None else Fraction(0)
        samples = packet.duration * self._base * self.rate
        if not self._exact and self._frame and abs(samples - self._frame) <= 2 * self._base * self.rate:
            samples = Fraction(self._frame)
        self._next = start + samples / self.rate
        if not self._exact and self._frame and (discarded := skipped_samples(packet)[1]):
            samples = Fraction(max(1, self._frame - discarded))
        return round(start * self.rate), round(samples)


def skipped_samples(packet: TrackPacket) -> tuple[int, int]:
    """Samples to leave out at the start and at the end of what a packet decodes to."""
    for name, data in packet.side_data:
        if name == "skip_samples" and len(data) == 10:
            return int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
    return 0, 0


def _samples_a_packet(track: Track) -> int:
    if track.codec == "flac" and len(track.extradata) >= 4:
        least, most = (int.from_bytes(track.extradata[at : at + 2], "big") for at in (0, 2))
        return most if least == most else 0
    size = track.parameters.get("frame_size", "0")
    return int(size) if size.isdigit() and len(size) < 6 else 0
