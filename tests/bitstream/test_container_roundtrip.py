"""What is written is read: through files and pipes, with index and without, whole and packet by packet."""

from __future__ import annotations

import io
import math
import random
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.bitstream import (
    Chapter,
    Chunk,
    Colour,
    Header,
    Packet,
    StreamReader,
    StreamWriter,
    Track,
    TrackKind,
    TrackPacket,
    fitted,
)
from s2vc.bitstream.bits import BitReader, BitWriter
from s2vc.bitstream.header import pack_header
from s2vc.bitstream.varint import MAX_RATIO
from s2vc.errors import FormatError


@given(st.fractions(min_value=0))
def test_any_fraction_finds_room(value: Fraction) -> None:
    found = fitted(value)
    assert max(found.numerator, found.denominator) <= MAX_RATIO
    if value <= MAX_RATIO:
        assert abs(found - value) <= Fraction(1, MAX_RATIO // max(1, math.ceil(value)))
    if max(value.numerator, value.denominator) < 1 << 15:
        assert found == value


class Sink:
    """Takes bytes and can do nothing else; like an unbuffered pipe it may take less than it is given."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        taken = min(len(data), 1000)
        self.data += data[:taken]
        return taken

    def flush(self) -> None:
        pass


class Pipe:
    """Gives bytes in small pieces and cannot be searched."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, 7))

    def seekable(self) -> bool:
        return False


def plain_header(**changes: object) -> Header:
    fields: dict[str, object] = {
        "model_id": "tiny-1",
        "model_digest": bytes(range(8)),
        "width": 426,
        "height": 240,
        "time_base": Fraction(1, 12800),
        "frame_duration": Fraction(512),
    }
    return Header(**(fields | changes))  # type: ignore[arg-type]


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
name = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
dictionary = st.dictionaries(text, text, max_size=3)
positive = st.fractions(min_value=Fraction(1, 90000), max_value=10000, max_denominator=90000)
time = st.one_of(st.integers(-(1 << 60), 1 << 60), st.integers(-5000, 5000))

tracks = st.builds(
    Track,
    kind=st.sampled_from(TrackKind),
    codec=name,
    time_base=positive,
    extradata=st.binary(max_size=20),
    language=text,
    disposition=st.integers(0, (1 << 31) - 1),
    parameters=dictionary,
    metadata=dictionary,
)
headers = st.builds(
    Header,
    model_id=name,
    model_digest=st.binary(min_size=8, max_size=8),
    width=st.integers(16, 4096),
    height=st.integers(16, 4096),
    time_base=positive,
    profile=text,
    sample_aspect_ratio=positive,
    frame_duration=st.one_of(st.just(Fraction(0)), positive),
    colour=st.builds(Colour, *[st.integers(0, 255)] * 3, st.booleans()),
    rotation=st.sampled_from([0, 90, 180, 270]),
    reset_period=st.integers(0, 65535),
    checksum_bytes=st.integers(1, 4),
    tracks=st.lists(tracks, min_size=1, max_size=3).map(tuple),
    metadata=dictionary,
    chapters=st.lists(st.builds(Chapter, time, time, positive, dictionary), max_size=2).map(tuple),
)
track_packets = st.builds(
    TrackPacket,
    track=st.just(0),
    payload=st.binary(max_size=30),
    pts=st.one_of(st.none(), time),
    dts=st.one_of(st.none(), time),
    duration=st.one_of(st.just(960), st.integers(0, 1 << 60)),
    flags=st.integers(0, 7),
    side_data=st.lists(st.tuples(text, st.binary(max_size=9)), max_size=2).map(tuple),
)


@st.composite
def films(draw: st.DrawFn) -> tuple[Header, list[Chunk]]:
    """A header and chunks whose times rise, regular and not."""
    header = draw(headers)
    clock, frame, chunks = draw(st.integers(-100, 1 << 40)), 0, []
    for number in range(draw(st.integers(1, 4))):
        count = draw(st.sampled_from([1, 2, 5, 31, 32]))
        rng = random.Random(draw(st.integers(0, 1000)))
        times = []
        regular = draw(st.booleans()) and header.frame_duration >= 1
        for k in range(count):
            times.append(clock)
            if regular:
                clock += header.regular_time(frame + k + 1) - header.regular_time(frame + k)
            else:
                clock += rng.choice([1, 3, 3, 3, 3, 100000])
        qualities = range(64) if draw(st.booleans()) else [draw(st.integers(0, 63))]
        packets = [
            Packet(rng.randbytes(rng.choice([0, 1, 40])), rng.randrange(256**header.checksum_bytes))
            for _ in range(count)
        ]
        chunks.append(
            Chunk(
                intra=number == 0 or draw(st.booleans()),
                times=times,
                qualities=rng.choices(qualities, k=count),
                packets=packets,
                last_duration=draw(st.sampled_from([0, 3, clock - times[-1]])),
                first_frame=frame,
            )
        )
        frame += count
    return header, chunks


def write(header: Header, items: list[Chunk | TrackPacket], index: bool | None = None) -> bytes:
    sink = Sink()
    writer = StreamWriter(sink, header)  # type: ignore[arg-type]
    for piece in items:
        if isinstance(piece, Chunk):
            writer.write_chunk(piece)
        else:
            writer.write_track_packet(piece)
    writer.close(index)
    assert writer.bytes_written == len(sink.data)
    return bytes(sink.data)


@settings(max_examples=30, deadline=None)
@given(films(), st.data())
def test_chunks_and_tracks_come_back_in_order(film: tuple[Header, list[Chunk]], data: st.DataObject) -> None:
    header, chunks = film
    items: list[Chunk | TrackPacket] = []
    for chunk in chunks:
        items += data.draw(st.lists(track_packets, max_size=4))
        items.append(chunk)
    items += data.draw(st.lists(track_packets, max_size=3))
    written = write(header, items, index=True)

    reader = StreamReader(Pipe(written))  # type: ignore[arg-type]
    assert reader.header == header
    assert list(reader) == items
    assert reader.frames == sum(len(chunk.packets) for chunk in chunks)

    # the index, a scan in its place, and reading from each of its entries
    indexed = StreamReader(io.BytesIO(written))
    places = indexed.index()
    assert StreamReader(io.BytesIO(write(header, items, index=False))).index() == places
    assert [(p.frame, p.frames, p.time, p.intra) for p in places] == [
        (chunk.first_frame, len(chunk.packets), chunk.times[0], chunk.intra) for chunk in chunks
    ]
    assert list(indexed) == items
    for number in reversed(range(len(chunks))):
        indexed.seek_chunk(number)
        first = items.index(chunks[number - 1]) + 1 if number else 0
        assert list(indexed) == items[first:]


@settings(max_examples=30, deadline=None)
@given(films(), st.data())
def test_low_delay_packets_come_back_one_by_one(
    film: tuple[Header, list[Chunk]], data: st.DataObject
) -> None:
    header, chunks = film
    sink = Sink()
    given_: list[tuple[bool, bool, int, int, Packet] | TrackPacket] = []
    with StreamWriter(sink, header, low_delay=True) as writer:  # type: ignore[arg-type]
        for chunk in chunks:
            for k, packet in enumerate(chunk.packets):
                if data.draw(st.integers(0, 9)) == 0:
                    audio = data.draw(track_packets)
                    writer.write_track_packet(audio)
                    given_.append(audio)
                intra = chunk.intra and k == 0
                at, quality = chunk.times[k], chunk.qualities[k]
                writer.write_packet(packet, at, quality, opens=k == 0, intra=intra)
                given_.append((intra, k == 0, at, quality, packet))
    reader = StreamReader(Pipe(bytes(sink.data)))  # type: ignore[arg-type]
    read = [
        piece
        if isinstance(piece, TrackPacket)
        else (piece.intra, piece.opens, piece.times[0], piece.qualities[0], piece.packets[0])
        for piece in reader
    ]
    assert read == given_
    places = StreamReader(io.BytesIO(sink.data)).index()
    assert [(p.frame, p.frames, p.time) for p in places] == [
        (chunk.first_frame, len(chunk.packets), chunk.times[0]) for chunk in chunks
    ]


def test_a_low_delay_packet_is_read_before_the_next_is_written() -> None:
    """The reader asks for no byte beyond the packet it gives."""

    class Live:
        """A pipe with nothing in it yet may not be read."""

        def __init__(self) -> None:
            self.data = bytearray()

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

        def flush(self) -> None:
            pass

        def read(self, count: int) -> bytes:
            assert len(self.data) >= count, "this would block"
            taken = bytes(self.data[:count])
            del self.data[:count]
            return taken

        def seekable(self) -> bool:
            return False

    live = Live()
    writer = StreamWriter(live, plain_header(), low_delay=True)  # type: ignore[arg-type]
    reader = StreamReader(live)  # type: ignore[arg-type]
    for frame in range(70):
        packet = Packet(bytes([frame]) * (50 + 400 * (frame % 3)), frame)
        writer.write_packet(packet, 512 * frame, 30 + frame % 2, opens=frame % 32 == 0, intra=frame == 0)
        chunk = next(reader)
        assert isinstance(chunk, Chunk) and chunk.packets == [packet] and chunk.first_frame == frame
        assert (chunk.times, chunk.last_duration) == ([512 * frame], 512)
    writer.close()
    assert list(reader) == []


def film_of(frames: int, mean: int, seed: int, header: Header | None = None) -> tuple[Header, list[Chunk]]:
    """Packets of 0.3 to 1.7 times ``mean`` bytes, 32 a chunk, an I-frame every eighth chunk."""
    header = header or plain_header()
    rng = random.Random(seed)
    chunks = []
    for first in range(0, frames, 32):
        count = min(32, frames - first)
        packets = [
            Packet(rng.randbytes(int(mean * rng.uniform(0.3, 1.7))), rng.randrange(256)) for _ in range(count)
        ]
        times = [header.regular_time(first + k) for k in range(count)]
        last = header.regular_time(first + count) - times[-1]
        chunks.append(Chunk(first % 256 == 0, times, [32] * count, packets, last, first))
    return header, chunks


def overhead(header: Header, chunks: list[Chunk], low_delay: bool = False) -> float:
    payload = sum(len(packet.payload) for chunk in chunks for packet in chunk.packets)
    if low_delay:
        sink = Sink()
        with StreamWriter(sink, header, low_delay=True) as writer:  # type: ignore[arg-type]
            for chunk in chunks:
                for k, packet in enumerate(chunk.packets):
                    opens = k == 0
                    writer.write_packet(packet, chunk.times[k], chunk.qualities[k], opens=opens, intra=k == 0)
        return len(sink.data) / payload - 1
    return len(write(header, chunks)) / payload - 1


@pytest.mark.parametrize("header", [plain_header(), plain_header(frame_duration=Fraction(0))])
def test_overhead_at_20_kbit_a_second(header: Header) -> None:
    """DESIGN §8: under 4 % with packets of 100 bytes; a minute of film; header, index, end mark counted."""
    _, chunks = film_of(1500, 100, 1)
    assert overhead(header, chunks) < (0.03 if header.frame_duration else 0.035)
    assert overhead(header, chunks, low_delay=True) < 0.04


def test_overhead_of_a_short_clip() -> None:
    assert overhead(*film_of(96, 100, 2)) < 0.04


def test_quality_that_changes_with_every_fourth_frame() -> None:
    header, chunks = film_of(1500, 100, 3)
    chunks = [
        replace(chunk, qualities=[34 if k % 4 == 0 else 32 for k in range(len(chunk.times))])
        for chunk in chunks
    ]
    assert overhead(header, chunks) < 0.035


def test_index_of_an_hour_is_small() -> None:
    """Issue 15: below 0.1 % of the file."""
    header, chunks = film_of(90000, 100, 4)
    with_index, without = (len(write(header, chunks, index=index)) for index in (True, False))
    assert 0 < with_index - without < 0.001 * without


def test_coarse_ticks_at_a_constant_rate_cost_nothing() -> None:
    """30000/1001 frames a second in milliseconds, as Matroska has them: 0, 33, 67, 100, …"""
    header = plain_header(time_base=Fraction(1, 1000), frame_duration=Fraction(1001, 30))
    _, chunks = film_of(960, 100, 5, header)
    assert list(chunks[0].times[:4]) == [0, 33, 67, 100]
    assert overhead(header, chunks) < overhead(*film_of(960, 100, 5)) + 0.0001
    blind = replace(header, frame_duration=Fraction(0))
    assert 0.003 < overhead(blind, chunks) - overhead(header, chunks) < 0.01


@given(st.lists(st.tuples(st.integers(-(1 << 61), 1 << 61), st.integers(0, 15)), max_size=20))
def test_exp_golomb(values: list[tuple[int, int]]) -> None:
    out = BitWriter()
    for value, order in values:
        out.se(value, order)
        out.ue(abs(value), order)
    bits = BitReader(out.getvalue())
    assert [(bits.se(order), bits.ue(order)) for _, order in values] == [
        (value, abs(value)) for value, _ in values
    ]
    bits.finish()


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 15},
        {"height": 16385},
        {"width": 16384, "height": 16384},
        {"width": 70000},
        {"model_id": ""},
        {"model_id": "tiny\n1"},
        {"model_digest": b"short"},
        {"rotation": 45},
        {"checksum_bytes": 5},
        {"time_base": Fraction(0)},
        {"time_base": Fraction(1, 1 << 40)},
        {"sample_aspect_ratio": Fraction(-1)},
        {"reset_period": -1},
        {"colour": Colour(256)},
        {"metadata": {"key": "x" * 70000}},
        {"metadata": {str(k): "" for k in range(2000)}},
        {"tracks": (Track(TrackKind.AUDIO, "opus", Fraction(1, 48000)),) * 65},
        {"tracks": (Track(TrackKind.AUDIO, "opus", Fraction(1, 48000), bytes((1 << 20) + 1)),)},
    ],
)
def test_a_header_out_of_bounds_is_not_written(changes: dict[str, object]) -> None:
    with pytest.raises(FormatError) as caught:
        pack_header(plain_header(**changes))
    assert "\n" not in str(caught.value)


def test_wrong_calls() -> None:
    packet = Packet(b"x", 1)
    writer = StreamWriter(io.BytesIO(), plain_header())
    for chunk in (
        Chunk(False, [0], [32], [packet]),
        Chunk(True, [], [], []),
        Chunk(True, [0] * 33, [32] * 33, [packet] * 33),
        Chunk(True, [0, 0], [32, 32], [packet] * 2),
        Chunk(True, [0], [64], [packet]),
        Chunk(True, [0], [32], [Packet(b"x", 256)]),
        Chunk(True, [0], [32], [Packet(bytes(2 << 20), 0)]),
        Chunk(True, [1 << 61], [32], [packet]),
    ):
        with pytest.raises(ValueError):
            writer.write_chunk(chunk)
    with pytest.raises(ValueError):
        writer.write_packet(packet, 0, 32, intra=True)
    with pytest.raises(ValueError):
        writer.write_track_packet(TrackPacket(0, b"x"))
    writer.write_chunk(Chunk(True, [0], [32], [packet]))
    with pytest.raises(ValueError):
        writer.write_chunk(Chunk(False, [0], [32], [packet]))
    writer.close()
    writer.close()
    with pytest.raises(ValueError):
        writer.write_chunk(Chunk(True, [9], [32], [packet]))


def test_the_room_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, s2vc.bitstream; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'av')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
