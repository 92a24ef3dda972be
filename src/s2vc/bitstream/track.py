"""Packets of audio, subtitles and other tracks, kept as they came, in groups between chunks.

A group holds packets of one track that lie together in the file, so that short audio packets share one frame
of checks. docs/bitstream.md, "Track group".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s2vc.bitstream import limits
from s2vc.bitstream.bits import BitReader, BitWriter, get_lengths, get_runs, put_lengths, put_runs
from s2vc.bitstream.varint import ByteReader, Malformed, blob, string, varint

KEY, DISCARD, CORRUPT = 1, 2, 4
_SIDE_DATA = 128  # set by the format itself: side data stands before the payload
_MAX_SIDE_DATA = 16

START_ORDER = 16
STEP_ORDER = 4
DURATION_ORDER = 6


@dataclass(frozen=True)
class TrackPacket:
    """One packet of ``Header.tracks[track]``; times in that track's time base, None where the source had
    none.

    ``flags``: KEY, DISCARD (decode, do not show), CORRUPT (so marked by the source). ``side_data``: what a
    demuxer gave beside the payload, as (name, bytes), e.g. the samples to skip at an end.
    """

    track: int
    payload: bytes
    pts: int | None = None
    dts: int | None = None
    duration: int = 0
    flags: int = KEY
    side_data: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class GroupHead:
    track: int
    flags: list[int]
    pts: list[int | None]
    dts: list[int | None]
    durations: list[int]
    lengths: list[int]

    @property
    def body_length(self) -> int:
        return sum(self.lengths)


def body_of(packet: TrackPacket) -> bytes:
    if not packet.side_data:
        return packet.payload
    entries = b"".join(string(name) + blob(data) for name, data in packet.side_data)
    return varint(len(packet.side_data)) + entries + packet.payload


def check_track_packet(packet: TrackPacket, tracks: int) -> None:
    """ValueError where a packet cannot be written."""
    if not 0 <= packet.track < tracks:
        raise ValueError(f"a packet of track {packet.track}, the header has {tracks}")
    if packet.flags & ~(KEY | DISCARD | CORRUPT):
        raise ValueError(f"a track packet with the unknown flags {packet.flags:#x}")
    times = [time for time in (packet.pts, packet.dts, packet.duration) if time is not None]
    if max(map(abs, times)) > limits.MAX_TIME or packet.duration < 0:
        raise ValueError(
            f"a track packet with pts {packet.pts}, dts {packet.dts}, duration {packet.duration}"
        )
    if len(packet.side_data) > _MAX_SIDE_DATA or len(body_of(packet)) > limits.MAX_TRACK_PACKET:
        raise ValueError(f"a track packet of {len(body_of(packet))} bytes, at most {limits.MAX_TRACK_PACKET}")
    if any(len(name.encode()) > limits.MAX_NAME for name, _ in packet.side_data):
        raise ValueError(f"a name of side data of more than {limits.MAX_NAME} bytes")


def expected_pts(pts: Sequence[int | None], durations: Sequence[int]) -> list[int]:
    """For each packet and for the one after the last: where the packet before it ends.

    A packet without pts counts as standing where expected; before the first packet stands 0.
    """
    expected = [0]
    for own, duration in zip(pts, durations, strict=False):
        expected.append((expected[-1] if own is None else own) + duration)
    return expected


def _put_optional(out: BitWriter, value: int | None, expected: int, order: int) -> None:
    out.u(value is not None, 1)
    if value is not None:
        out.se(value - expected, order)


def _get_optional(bits: BitReader, expected: int, order: int) -> int | None:
    value = expected + bits.se(order) if bits.u(1) else None
    if value is not None and abs(value) > limits.MAX_TIME:
        raise Malformed("a time of a track packet is out of range")
    return value


def pack_group(packets: Sequence[TrackPacket]) -> tuple[bytes, bytes]:
    """(head, body) of 1 to 128 packets of one track."""
    bodies = [body_of(packet) for packet in packets]
    flags = [packet.flags | (_SIDE_DATA if packet.side_data else 0) for packet in packets]
    pts = [packet.pts for packet in packets]
    durations = [packet.duration for packet in packets]
    expected = expected_pts(pts, durations)

    out = BitWriter()
    out.u(packets[0].track, 7)
    out.u(len(packets) - 1, 7)
    same = len(set(flags)) == 1
    out.u(same, 1)
    for value in flags[: 1 if same else None]:
        out.u(value, 8)
    put_runs(out, durations, 0, DURATION_ORDER)
    _put_optional(out, pts[0], 0, START_ORDER)
    regular = pts[1:] == expected[1:-1]
    out.u(regular, 1)
    if not regular:
        for own, before in zip(pts[1:], expected[1:-1], strict=True):
            _put_optional(out, own, before, STEP_ORDER)
    same = all(packet.dts == packet.pts for packet in packets)
    out.u(same, 1)
    if not same:
        for packet, place in zip(packets, expected, strict=False):
            _put_optional(out, packet.dts, place if packet.pts is None else packet.pts, STEP_ORDER)
    put_lengths(out, [len(body) for body in bodies])
    return out.getvalue(), b"".join(bodies)


def unpack_group(head: bytes, tracks: int) -> GroupHead:
    bits = BitReader(head)
    track, count = bits.u(7), bits.u(7) + 1
    if track >= tracks:
        raise Malformed(f"a packet of track {track}, the header has {tracks}")
    flags = [bits.u(8)] * count if bits.u(1) else [bits.u(8) for _ in range(count)]
    if any(value & ~(KEY | DISCARD | CORRUPT | _SIDE_DATA) for value in flags):
        raise Malformed("a track packet has unknown flags")
    durations = get_runs(bits, count, 0, DURATION_ORDER)
    if not 0 <= min(durations) <= max(durations) <= limits.MAX_TIME:
        raise Malformed("a duration of a track packet is out of range")
    pts = [_get_optional(bits, 0, START_ORDER)]
    regular = bits.u(1)
    place = pts[0] or 0
    places = [place]
    for before in durations[:-1]:
        place += before
        own = place if regular else _get_optional(bits, place, STEP_ORDER)
        if own is not None:
            if abs(own) > limits.MAX_TIME:
                raise Malformed("a time of a track packet is out of range")
            place = own
        pts.append(own)
        places.append(place)
    dts = list(pts) if bits.u(1) else [_get_optional(bits, place, STEP_ORDER) for place in places]
    lengths = get_lengths(bits, count, limits.MAX_TRACK_PACKET, limits.MAX_TRACK_GROUP)
    bits.finish()
    return GroupHead(track, flags, pts, dts, durations, lengths)


def packets_from(head: GroupHead, body: bytes, *, damaged: bool = False) -> list[TrackPacket]:
    """The packets that end inside ``body``; ``damaged``: some of its bytes are wrong, nobody knows which."""
    packets: list[TrackPacket] = []
    start = 0
    for k, length in enumerate(head.lengths):
        if start + length > len(body):
            break
        data = ByteReader(body[start : start + length])
        start += length
        side: list[tuple[str, bytes]] = []
        try:
            if head.flags[k] & _SIDE_DATA:
                for _ in range(data.varint(_MAX_SIDE_DATA, "the number of side data")):
                    name = data.string(limits.MAX_NAME, "the name of side data")
                    side.append((name, data.blob(limits.MAX_TRACK_PACKET, "side data")))
        except Malformed:
            if not damaged:
                raise
            continue
        packets.append(
            TrackPacket(
                track=head.track,
                payload=data.take(data.left),
                pts=head.pts[k],
                dts=head.dts[k],
                duration=head.durations[k],
                flags=head.flags[k] & ~_SIDE_DATA | (CORRUPT if damaged else 0),
                side_data=tuple(side),
            )
        )
    return packets
