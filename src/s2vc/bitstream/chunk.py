"""A chunk: up to 32 frames that leave together. docs/bitstream.md, "Chunk"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from s2vc.bitstream import limits
from s2vc.bitstream.bits import BitReader, BitWriter, get_lengths, get_runs, put_lengths, put_runs
from s2vc.bitstream.header import Header
from s2vc.bitstream.varint import Malformed

FRAME_ORDER = 10
RUN_ORDER = 4
DURATION_ORDER = 8


@dataclass(frozen=True)
class Packet:
    """One frame's coded bytes; the low ``checksum_bytes`` bytes of the CRC-32 of its symbols, as a number."""

    payload: bytes
    checksum: int


@dataclass(frozen=True)
class Chunk:
    """Frames that belong together: the entropy model's memory starts anew where ``opens`` is true.

    ``intra``: the first frame is an I-frame; all others are P-frames. ``times``: presentation time of each
    frame in ticks, strictly rising. ``last_duration``: ticks of the last frame, 0 if unknown (the others last
    until the next frame). ``qualities``: 0..63 each.

    A reader sets the rest, a writer ignores it. ``first_frame``: number of the first frame in the file, from
    0. ``opens`` is false for a low-delay packet that goes on with the chunk opened before it (such a Chunk
    has one frame). ``damaged``: the bytes are not those that were written or stop short; the symbol checksums
    say from which packet on. ``lost_times``: times of further frames of the chunk whose packets are not
    there.
    """

    intra: bool
    times: Sequence[int]
    qualities: Sequence[int]
    packets: Sequence[Packet]
    last_duration: int = 0
    first_frame: int = 0
    opens: bool = True
    damaged: bool = False
    lost_times: Sequence[int] = ()


@dataclass(frozen=True)
class ChunkHead:
    """What a chunk's head says; the packets' bytes follow it in this order."""

    intra: bool
    first_frame: int
    times: list[int]
    last_duration: int
    qualities: list[int]
    lengths: list[int]
    checksums: list[int]

    @property
    def body_length(self) -> int:
        return sum(self.lengths)


def check_times(times: Sequence[int]) -> None:
    if max(abs(times[0]), abs(times[-1])) > limits.MAX_TIME:
        raise Malformed("a time is out of range")
    if any(after <= before for before, after in pairwise(times)):
        raise Malformed("times do not rise")


def check_chunk(chunk: Chunk, header: Header) -> None:
    """ValueError where a chunk cannot be written."""
    count = len(chunk.packets)
    if not 1 <= count <= limits.CHUNK_FRAMES:
        raise ValueError(f"a chunk of {count} frames, 1 to {limits.CHUNK_FRAMES} are allowed")
    if not count == len(chunk.times) == len(chunk.qualities):
        raise ValueError(f"{count} packets, {len(chunk.times)} times and {len(chunk.qualities)} qualities")
    if not all(0 <= quality <= limits.MAX_QUALITY for quality in chunk.qualities):
        raise ValueError(f"qualities {list(chunk.qualities)}, 0 to {limits.MAX_QUALITY} are allowed")
    if not 0 <= chunk.last_duration <= limits.MAX_TIME:
        raise ValueError(f"a last duration of {chunk.last_duration} ticks")
    longest = max(len(packet.payload) for packet in chunk.packets)
    if longest > header.max_packet or sum(len(packet.payload) for packet in chunk.packets) > limits.MAX_CHUNK:
        raise ValueError(f"a packet of {longest} bytes, at most {header.max_packet} are allowed")
    if any(packet.checksum >> 8 * header.checksum_bytes for packet in chunk.packets):
        raise ValueError(f"a checksum of more than {header.checksum_bytes} bytes")
    try:
        check_times(chunk.times)
    except Malformed as problem:
        raise ValueError(f"{problem}: {list(chunk.times)}") from None


def pack_chunk(chunk: Chunk, first_frame: int, header: Header) -> tuple[bytes, bytes]:
    """(head, body) of a chunk whose first frame has this number."""
    count, times = len(chunk.packets), list(chunk.times)
    out = BitWriter()
    out.u(chunk.intra, 1)
    out.u(count - 1, 5)
    out.ue(first_frame, FRAME_ORDER)

    regular = [header.regular_time(first_frame + k) for k in range(count + 1)]
    offset = times[0] - regular[0]
    out.se(offset)
    if times == [time + offset for time in regular[:-1]]:
        out.u(1, 1)
        usual = regular[-1] - regular[-2]
    else:
        out.u(0, 1)
        steps = [after - before for before, after in pairwise(times)]
        put_runs(out, steps, regular[1] - regular[0], RUN_ORDER)
        usual = steps[-1]
    out.u(chunk.last_duration == usual, 1)
    if chunk.last_duration != usual:
        out.ue(chunk.last_duration, DURATION_ORDER)

    qualities = list(chunk.qualities)
    out.u(qualities[0], 6)
    changes = [after - before for before, after in pairwise(qualities)]
    out.u(not any(changes), 1)
    if any(changes):
        for change in changes:
            out.se(change)

    put_lengths(out, [len(packet.payload) for packet in chunk.packets])
    for packet in chunk.packets:
        out.u(packet.checksum, 8 * header.checksum_bytes)
    return out.getvalue(), b"".join(packet.payload for packet in chunk.packets)


def unpack_chunk(head: bytes, header: Header) -> ChunkHead:
    bits = BitReader(head)
    intra, count = bool(bits.u(1)), bits.u(5) + 1
    first_frame = bits.ue(FRAME_ORDER, limits.MAX_FRAMES - count)

    regular = [header.regular_time(first_frame + k) for k in range(count + 1)]
    times = [regular[0] + bits.se()]
    if bits.u(1):
        times = [time + times[0] - regular[0] for time in regular[:-1]]
        usual = regular[-1] - regular[-2]
    else:
        steps = get_runs(bits, count - 1, regular[1] - regular[0], RUN_ORDER)
        if not steps:
            raise Malformed("one time cannot be irregular")
        for step in steps:
            times.append(times[-1] + step)
        usual = steps[-1]
    check_times(times)
    last_duration = usual if bits.u(1) else bits.ue(DURATION_ORDER, limits.MAX_TIME)

    qualities = [bits.u(6)]
    constant = bits.u(1)
    for _ in range(count - 1):
        qualities.append(qualities[-1] + (0 if constant else bits.se()))
    if not 0 <= min(qualities) <= max(qualities) <= limits.MAX_QUALITY:
        raise Malformed("a quality is out of range")

    lengths = get_lengths(bits, count, header.max_packet, limits.MAX_CHUNK)
    checksums = [bits.u(8 * header.checksum_bytes) for _ in range(count)]
    bits.finish()
    return ChunkHead(intra, first_frame, times, last_duration, qualities, lengths, checksums)


def chunk_from(head: ChunkHead, body: bytes, whole: bool) -> Chunk:
    """The chunk as far as ``body`` reaches: packets that end inside it."""
    packets: list[Packet] = []
    start = 0
    for length, checksum in zip(head.lengths, head.checksums, strict=True):
        if start + length > len(body):
            break
        packets.append(Packet(body[start : start + length], checksum))
        start += length
    count = len(packets)
    lost = head.times[count:]
    return Chunk(
        intra=head.intra,
        times=head.times[:count],
        qualities=head.qualities[:count],
        packets=packets,
        last_duration=lost[0] - head.times[count - 1] if lost and count else head.last_duration,
        first_frame=head.first_frame,
        damaged=not whole,
        lost_times=tuple(lost),
    )
