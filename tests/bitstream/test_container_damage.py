"""Damaged, cut and hostile files: what is whole is given, what is wrong is named, nothing else is raised."""

from __future__ import annotations

import io
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.bitstream import (
    FORMAT_VERSION,
    Chunk,
    Header,
    Packet,
    StreamReader,
    StreamWriter,
    Track,
    TrackKind,
    TrackPacket,
)
from s2vc.bitstream.header import MAGIC, pack_header
from s2vc.bitstream.item import CHUNK, crc, pack_item
from s2vc.bitstream.varint import varint
from s2vc.errors import DamagedError, FormatError

HEADER = Header(
    model_id="tiny-1",
    model_digest=bytes(range(8)),
    width=426,
    height=240,
    time_base=Fraction(1, 12800),
    frame_duration=Fraction(512),
    tracks=(Track(TrackKind.AUDIO, "opus", Fraction(1, 48000)),),
)
FRAMES = 240


@cache
def packet(frame: int) -> Packet:
    """Its bytes say which frame it is."""
    return Packet(frame.to_bytes(2, "big") + random.Random(frame).randbytes(20 + frame % 37), frame & 255)


def film(low_delay: bool, index: bool | None = True) -> bytes:
    """240 frames in chunks of 32, an I-frame every other chunk, sound between them."""
    out = io.BytesIO()
    writer = StreamWriter(out, HEADER, low_delay=low_delay)
    write_film(writer)
    writer.close(index)
    return out.getvalue()


def write_film(writer: StreamWriter, start: int = 0) -> None:
    low_delay = writer.low_delay
    for first in range(start, FRAMES, 32):
        frames = range(first, min(first + 32, FRAMES))
        for k in range(64):
            writer.write_track_packet(TrackPacket(0, bytes([k]) * 40, first * 1920 + 960 * k, duration=960))
        packets, times = [packet(frame) for frame in frames], [512 * frame for frame in frames]
        if low_delay:
            for frame in frames:
                opens, intra = frame == first, frame % 64 == 0
                writer.write_packet(packets[frame - first], 512 * frame, 32, opens=opens, intra=intra)
        else:
            writer.write_chunk(Chunk(first % 64 == 0, times, [32] * len(times), packets, 512))


WHOLE = {low_delay: film(low_delay) for low_delay in (False, True)}
BEGIN = len(pack_header(HEADER))


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


def frames_of(reader: StreamReader, check_symbols: bool = True) -> Iterator[tuple[int, int, bytes]]:
    """(number, time, payload) for a decoder; here the bytes show what symbol checksums show there."""
    for piece in reader:
        if isinstance(piece, TrackPacket):
            continue
        for k, one in enumerate(piece.packets):
            frame = piece.first_frame + k
            if check_symbols and one != packet(frame):
                if reader.conceal:
                    reader.resync()
                    break
                raise DamagedError(f"symbols of frame {frame}")
            yield frame, piece.times[k], one.payload


def read_all(data: bytes, conceal: bool = False) -> tuple[list[tuple[int, int, bytes]], str | None]:
    frames = []
    try:
        for frame in frames_of(StreamReader(Pipe(data), conceal=conceal)):
            frames.append(frame)
    except DamagedError as error:
        assert "\n" not in str(error)
        return frames, str(error)
    return frames, None


ALL = [(frame, 512 * frame, packet(frame).payload) for frame in range(FRAMES)]


@pytest.mark.parametrize("low_delay", [False, True])
def test_a_cut_file_gives_its_whole_frames(low_delay: bool) -> None:
    """Wherever the file breaks off: every frame whose last byte is there, then DamagedError."""
    data = WHOLE[low_delay]
    ends = [data.index(payload, BEGIN) + len(payload) for _, _, payload in ALL]
    for cut in [*range(BEGIN, len(data), 211), len(data) - 1]:
        frames, error = read_all(data[:cut])
        there = sum(end <= cut for end in ends)
        assert frames == ALL[:there]
        assert error is not None and f"at frame {there} " in error
        concealed, error = read_all(data[:cut], conceal=True)
        assert (concealed, error) == (frames, None)
    assert read_all(data) == (ALL, None)


@pytest.mark.parametrize("low_delay", [False, True])
@settings(max_examples=60, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_damage_is_found_and_what_comes_before_is_given(low_delay: bool, rng: random.Random) -> None:
    """Flips, cuts, insertions: strictly, frames before the damage; concealing, also those of later chunks."""
    damaged = damage(WHOLE[low_delay], rng)
    frames, _ = read_all(damaged)
    assert frames == ALL[: len(frames)]
    concealed, error = read_all(damaged, conceal=True)
    assert error is None
    assert set(frames) <= set(concealed) <= set(ALL)
    numbers = [frame for frame, _, _ in concealed]
    assert numbers == sorted(set(numbers))
    # one place of damage costs at most the chunk it lies in and, where it hides that one's end, the next
    assert FRAMES - len(numbers) <= (64 if low_delay else 32)


def damage(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(BEGIN, len(data))
    kind = rng.choice(["flip", "burst", "cut out", "insert"])
    if kind == "flip":
        return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    count = rng.choice([1, 2, 10, 100])
    if kind == "burst":
        return data[:place] + rng.randbytes(min(count, len(data) - place)) + data[place + count :]
    if kind == "cut out":
        return data[:place] + data[place + count :]
    return data[:place] + rng.randbytes(count) + data[place:]


@pytest.mark.parametrize("low_delay", [False, True])
@settings(max_examples=20, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_many_damages_are_concealed(low_delay: bool, rng: random.Random) -> None:
    data = WHOLE[low_delay]
    for _ in range(20):
        data = damage(data, rng)
    concealed, error = read_all(data, conceal=True)
    assert error is None and set(concealed) <= set(ALL)
    places = StreamReader(io.BytesIO(data), conceal=True).index()
    assert all(
        0 <= place.frame < FRAMES and BEGIN <= place.offset < place.end <= len(data) for place in places
    )
    assert [place.frame for place in places] == sorted({place.frame for place in places})


def test_a_flipped_byte_anywhere_in_the_header_is_a_format_error() -> None:
    whole = WHOLE[False]
    for place in range(BEGIN):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        with pytest.raises(FormatError) as caught:
            StreamReader(Pipe(bytes(data)))
        assert "\n" not in str(caught.value)
    for cut in range(BEGIN):
        with pytest.raises(FormatError):
            StreamReader(Pipe(whole[:cut]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"\x00\x00\x00\x20ftypisom", "not an s2vc file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not an s2vc file"),
        (MAGIC[:5], "cut short"),
        (MAGIC + b"\x01\xff\xff\xff\xff" + bytes(99), "claims 4294967295 bytes"),
        (MAGIC + b"\x07\xff\xff\xff\xff" + bytes(99), "needs format version 7, this s2vc reads up to 1"),
        (MAGIC + b"\x01\x00\x00\x00\x04" + bytes(8), "checksum"),
    ],
)
def test_files_that_are_no_s2vc_file(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        StreamReader(Pipe(data))


def test_a_newer_version_says_so() -> None:
    front = MAGIC + bytes([FORMAT_VERSION + 1]) + (5).to_bytes(4, "big") + b"other"
    with pytest.raises(FormatError, match="needs format version 2, this s2vc reads up to 1: install"):
        StreamReader(Pipe(front + crc(front)))


def test_header_fields_and_items_that_a_later_writer_adds_are_passed_over() -> None:
    packed = pack_header(HEADER)
    body = packed[len(MAGIC) + 5 : -4] + varint(9) + varint(3) + b"new"
    front = MAGIC + b"\x01" + len(body).to_bytes(4, "big") + body
    foreign = pack_item(b"n", (6).to_bytes(4, "big") + b"?", b"\xf5SC...")
    whole = WHOLE[False]
    data = front + crc(front) + foreign + whole[BEGIN:]
    reader = StreamReader(Pipe(data))
    assert reader.header == HEADER
    assert list(frames_of(reader)) == ALL
    assert len(StreamReader(io.BytesIO(data)).index()) == 8  # its own index does not fit: by the heads
    with pytest.raises(DamagedError, match="at frame 0"):
        list(StreamReader(Pipe(front + crc(front) + pack_item(b"Q", b"?") + whole[BEGIN:])))


def test_missing_chunks_are_named() -> None:
    places = StreamReader(io.BytesIO(WHOLE[False])).index()
    data = WHOLE[False][: places[2].offset] + WHOLE[False][places[4].offset :]
    frames, error = read_all(data)
    assert frames == ALL[:64] and error is not None and "64 frames are missing at frame 64" in error
    reader = StreamReader(Pipe(data), conceal=True)
    assert list(frames_of(reader)) == ALL[:64] + ALL[128:]
    assert [(found.frame, found.message) for found in reader.damages] == [(64, "64 frames are missing")]
    assert reader.frames == FRAMES


def test_of_a_damaged_chunk_the_times_of_lost_frames_are_known() -> None:
    """The head is whole, the bytes behind the tenth packet are gone."""
    places = StreamReader(io.BytesIO(WHOLE[False])).index()
    keep = WHOLE[False].index(packet(41).payload) + 60
    data = WHOLE[False][:keep] + WHOLE[False][places[2].offset :]
    reader = StreamReader(Pipe(data), conceal=True)
    chunks = [piece for piece in reader if isinstance(piece, Chunk)]
    hurt = chunks[1]
    assert hurt.damaged and not any(chunk.damaged for chunk in chunks if chunk is not hurt)
    assert [*hurt.times, *hurt.lost_times] == [512 * frame for frame in range(32, 64)]
    assert hurt.last_duration == 512 and len(hurt.times) == len(hurt.packets) >= 10
    assert [chunk.first_frame for chunk in chunks] == list(range(0, FRAMES, 32))


def test_index_and_seeking_in_a_file_without_its_end() -> None:
    for low_delay, whole in WHOLE.items():
        places = StreamReader(io.BytesIO(whole)).index()
        reader = StreamReader(io.BytesIO(whole[: places[6].end]))
        assert reader.index() == places[:7]
        reader.seek_chunk(5)
        frames = []
        with pytest.raises(DamagedError, match="at frame 224"):
            for frame in frames_of(reader):
                frames.append(frame)
        assert frames == ALL[160:224], low_delay
        with pytest.raises(io.UnsupportedOperation):
            StreamReader(Pipe(whole)).index()


@pytest.mark.parametrize("low_delay", [False, True])
def test_a_stopped_writer_resumes_to_the_same_bytes(low_delay: bool) -> None:
    """Issue 15: killed anywhere, gone on behind the last whole chunk, the file is that of an unbroken run."""
    whole = WHOLE[low_delay]
    rng = random.Random(7)
    for cut in sorted(rng.sample(range(BEGIN, len(whole)), 12)):
        left = io.BytesIO(whole[:cut])
        places = StreamReader(left).index()
        left.seek(places[-1].end if places else 0)
        left.truncate()
        writer = StreamWriter(left, HEADER, low_delay=low_delay, after=places)
        assert writer.frames == 32 * len(places)
        write_film(writer, writer.frames)
        writer.close(index=True)
        assert left.getvalue() == whole


def test_a_false_index_is_not_trusted() -> None:
    """An index of another film, and one that points behind itself: the heads are read in its place."""
    whole, places = WHOLE[False], StreamReader(io.BytesIO(WHOLE[False])).index()
    other = io.BytesIO()
    writer = StreamWriter(other, HEADER)
    writer.write_chunk(Chunk(True, [0], [32], [Packet(bytes(5000), 0)]))
    writer.close(index=True)
    end = StreamReader(io.BytesIO(other.getvalue())).index()[-1].end
    spliced = whole[: places[-1].end] + other.getvalue()[end:]
    assert StreamReader(io.BytesIO(spliced)).index() == places
    short = pack_header(HEADER) + other.getvalue()[end:]
    assert StreamReader(io.BytesIO(short)).index() == []


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_random_bytes(data: bytes, header: bool, conceal: bool) -> None:
    for source in (Pipe, io.BytesIO):
        try:
            reader = StreamReader(source((pack_header(HEADER) if header else b"") + data), conceal=conceal)
            if reader.seekable:
                reader.index()
            assert not list(reader)
        except (FormatError, DamagedError):
            assert not conceal or not header


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(b"CLTXEzQ"), st.binary(max_size=60), st.binary(max_size=60)), max_size=5
    ),
    st.booleans(),
)
def test_random_heads_with_right_checksums(items: list[tuple[int, bytes, bytes]], conceal: bool) -> None:
    """Past the checksums stands the parser alone."""
    data = b"".join(pack_item(bytes([kind]), head, body) for kind, head, body in items)
    for source in (Pipe, io.BytesIO):
        reader = StreamReader(source(pack_header(HEADER) + data), conceal=conceal)
        if reader.seekable:
            reader.index()
        try:
            for piece in reader:
                assert isinstance(piece, Chunk | TrackPacket)
        except DamagedError:
            assert not conceal


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_header_with_right_checksum(body: bytes) -> None:
    front = MAGIC + b"\x01" + len(body).to_bytes(4, "big") + body
    try:
        StreamReader(Pipe(front + crc(front)))
    except FormatError as error:
        assert "\n" not in str(error)


def test_memory_follows_the_bytes_that_are_there() -> None:
    """A head may claim the largest packets; nothing is taken for them before they come."""
    big = replace(HEADER, width=4096, height=4096)
    out = io.BytesIO()
    writer = StreamWriter(out, big)
    writer.write_chunk(Chunk(True, [0], [32], [Packet(bytes(16 << 20), 0)]))
    data = out.getvalue()[: len(pack_header(big)) + 100000]
    del out, writer
    tracemalloc.start()
    with pytest.raises(DamagedError):
        list(StreamReader(Pipe(data)))
    list(StreamReader(Pipe(data), conceal=True))
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_long_stretch_without_an_item_is_not_kept() -> None:
    class Noise:
        """64 MiB of sync marks with nothing behind them, then the end."""

        left = 64 << 20

        def read(self, count: int) -> bytes:
            count = min(count, self.left)
            self.left -= count
            return bytes(count)

        read1 = read

        def seekable(self) -> bool:
            return False

    class Joined(Noise):
        front = io.BytesIO(WHOLE[False][:2000])

        def read(self, count: int) -> bytes:
            return self.front.read(count) or super().read(count)

        read1 = read

    tracemalloc.start()
    list(StreamReader(Joined(), conceal=True))  # type: ignore[arg-type]
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_marks_everywhere_cost_time_in_proportion() -> None:
    """Twice the bytes made to look like heads, about twice the calls: a scan never starts over."""

    def reads(size: int) -> int:
        source = CountingPipe(pack_header(HEADER) + b"\xf5SC\xff\x07" * size)
        assert not list(StreamReader(source, conceal=True))
        return source.taken

    assert reads(20000) < 2.2 * reads(10000)


class CountingPipe(Pipe):
    taken = 0

    def read(self, count: int | None = -1, /) -> bytes:
        data = super().read(count)
        self.taken += 1
        return data

    def read1(self, count: int | None = -1, /) -> bytes:
        self.taken += 1
        return super().read1(count)


def test_chunk_heads_out_of_bounds() -> None:
    """Heads that pass their checksum but break a rule of the format."""
    good = pack_item(CHUNK, b"\x00")
    for head in (b"", b"\xff" * 8, bytes(40), b"\x04" + bytes(1000)):
        frames, error = read_all(pack_header(HEADER) + pack_item(CHUNK, head) + good)
        assert frames == [] and error is not None and "at frame 0" in error
