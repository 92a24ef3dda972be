"""The golden files, read by a parser written from docs/bitstream.md that shares no code with s2vc.bitstream.

S2VC_WRITE_GOLDEN=1 writes the golden files anew: a new format version, for released files must stay readable.
"""

from __future__ import annotations

import os
import re
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from s2vc import bitstream

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
SPEC = ROOT / "docs" / "bitstream.md"


class Bits:
    def __init__(self, data: bytes) -> None:
        self.bits = "".join(f"{byte:08b}" for byte in data)

    def u(self, n: int) -> int:
        taken, self.bits = self.bits[:n], self.bits[n:]
        assert len(taken) == n
        return int(taken, 2) if n else 0

    def ue(self, k: int) -> int:
        zeros = self.bits.index("1")
        self.u(zeros)
        return self.u(zeros + 1 + k) - 2**k

    def se(self, k: int) -> int:
        z = self.ue(k)
        return -(z + 1) // 2 if z % 2 else z // 2

    def runs(self, count: int, value: int, k: int) -> list[int]:
        values: list[int] = []
        while len(values) < count:
            value += self.se(k)
            values += [value] * (1 + self.ue(0))
        assert len(values) == count
        return values

    def lengths(self, count: int) -> list[int]:
        k = self.u(4)
        return [self.ue(k) for _ in range(count)]

    def end(self) -> None:
        assert len(self.bits) < 8 and "1" not in self.bits


class File:
    """Parses a whole file into ``header``, ``items`` (kind, content), ``index`` and ``frames``."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.items: list[tuple[Any, ...]] = []
        self.frames = None
        self.header = self.read_header()
        self.begin = self.at
        while self.frames is None:
            self.read_item()
        assert self.at == len(data)

    def take(self, n: int) -> bytes:
        self.at += n
        assert self.at <= len(self.data)
        return self.data[self.at - n : self.at]

    def uint(self, n: int) -> int:
        return int.from_bytes(self.take(n), "big")

    def varint(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self.uint(1)
            value += (byte % 128) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self) -> int:
        z = self.varint()
        return -(z + 1) // 2 if z % 2 else z // 2

    def string(self) -> str:
        return self.take(self.varint()).decode("utf-8")

    def ratio(self) -> Fraction:
        return Fraction(self.varint(), self.varint())

    def dictionary(self) -> dict[str, str]:
        return {self.string(): self.string() for _ in range(self.varint())}

    def check(self, start: int) -> None:
        assert zlib.crc32(self.data[start : self.at]) == self.uint(4)

    def read_header(self) -> dict[str, Any]:
        assert self.take(8) == bytes.fromhex("89 53 32 56 43 0D 0A 1A")
        assert self.uint(1) == 1
        length = self.uint(4)
        end = self.at + length
        header: dict[str, Any] = {"model": self.string(), "digest": self.take(8), "profile": self.string()}
        header |= {"size": (self.uint(2), self.uint(2)), "aspect": self.ratio(), "time base": self.ratio()}
        header |= {"frame duration": self.ratio(), "colour": tuple(self.take(3))}
        flags = self.uint(1)
        header |= {"full range": flags & 1, "rotation": (flags >> 1 & 3) * 90, "sums": (flags >> 3 & 3) + 1}
        header["reset period"] = self.varint()
        header["tracks"] = [
            {
                "kind": self.uint(1),
                "codec": self.string(),
                "time base": self.ratio(),
                "language": self.string(),
                "disposition": self.varint(),
                "extradata": self.take(self.varint()),
                "parameters": self.dictionary(),
                "metadata": self.dictionary(),
            }
            for _ in range(self.varint())
        ]
        header["metadata"] = self.dictionary()
        header["chapters"] = [
            (self.ratio(), self.signed(), self.signed(), self.dictionary()) for _ in range(self.varint())
        ]
        while self.at < end:
            self.varint(), self.take(self.varint())
        self.check(0)
        return header

    def regular(self, frame: int) -> int:
        duration = self.header["frame duration"]
        return (frame * duration + Fraction(1, 2)).__floor__()

    def read_item(self) -> None:
        assert self.take(2) == b"\xf5\x53"
        start = self.at
        kind = self.take(1)
        head = self.take(self.varint())
        self.check(start)
        bits = Bits(head)
        if kind == b"C":
            self.read_chunk(bits)
        elif kind == b"L":
            self.read_low_delay(bits)
        elif kind == b"T":
            self.read_group(bits)
        elif kind == b"X":
            self.read_index(bits, start - 2)
        elif kind == b"E":
            self.frames, self.index_size = bits.u(32), bits.u(32)

    def read_body(self, bits: Bits, lengths: list[int]) -> list[bytes]:
        bits.end()
        start = self.at
        pieces = [self.take(length) for length in lengths]
        self.check(start)
        return pieces

    def read_chunk(self, bits: Bits) -> None:
        intra, count, first = bits.u(1), bits.u(5) + 1, bits.ue(10)
        regular = [self.regular(first + k) for k in range(count + 1)]
        offset = bits.se(0)
        times = [time + offset for time in regular[:count]]
        last = regular[count] - regular[count - 1]
        if not bits.u(1):
            for k, step in enumerate(bits.runs(count - 1, regular[1] - regular[0], 4)):
                times[k + 1] = times[k] + step
            last = times[-1] - times[-2]
        last = last if bits.u(1) else bits.ue(8)
        qualities = [bits.u(6)]
        same = bits.u(1)
        for _ in range(count - 1):
            qualities.append(qualities[-1] + (0 if same else bits.se(0)))
        lengths = bits.lengths(count)
        sums = [bits.u(8 * self.header["sums"]) for _ in range(count)]
        payloads = self.read_body(bits, lengths)
        frames = list(zip(times, qualities, payloads, sums, strict=True))
        self.items.append(("chunk", intra, first, frames, last))

    def read_low_delay(self, bits: Bits) -> None:
        intra, first = bits.u(1), bits.ue(10)
        time, quality, frames, raw, step = self.regular(first) + bits.se(0), bits.u(6), [], b"", 0
        bits.end()
        while True:
            start, number = self.at, first + len(frames)
            form = self.uint(1)
            if form >> 6 == 3:
                self.at = start
                self.read_item()
                continue
            if form == 0x80:
                break
            if frames:
                step = (
                    self.regular(number) - self.regular(number - 1) if self.header["frame duration"] else step
                )
                time += step
            if form >> 6 == 0:
                length = form * 256 + self.uint(1)
            else:
                quality = self.uint(1) if form & 1 else quality
                change = self.signed() if form & 2 else 0
                time, step, length = time + change, step + change, self.varint()
            checksum, payload = self.uint(self.header["sums"]), self.take(length)
            frames.append((time, quality, payload, checksum))
            raw += self.data[start : self.at]
        assert zlib.crc32(raw) == self.uint(4)
        self.items.append(("low delay", intra, first, frames))

    def read_group(self, bits: Bits) -> None:
        track, count = bits.u(7), bits.u(7) + 1
        flags = [bits.u(8)] * count if bits.u(1) else [bits.u(8) for _ in range(count)]
        durations = bits.runs(count, 0, 6)
        pts = [bits.se(16) if bits.u(1) else None]
        places = [pts[0] or 0]
        regular = bits.u(1)
        for k in range(1, count):
            expected = places[-1] + durations[k - 1]
            pts.append(expected if regular else expected + bits.se(4) if bits.u(1) else None)
            places.append(expected if pts[k] is None else pts[k])
        dts = pts if bits.u(1) else [place + bits.se(4) if bits.u(1) else None for place in places]
        payloads = self.read_body(bits, bits.lengths(count))
        packets = []
        for k, payload in enumerate(payloads):
            side = {}
            if flags[k] & 128:
                inner = File.__new__(File)
                inner.data, inner.at = payload, 0
                side = {inner.string(): inner.take(inner.varint()) for _ in range(inner.varint())}
                payload = payload[inner.at :]
            packets.append((pts[k], dts[k], durations[k], flags[k] & 127, payload, side))
        self.items.append(("group", track, packets))

    def read_index(self, bits: Bits, start: int) -> None:
        count, k = bits.ue(8) + 1, bits.u(4)
        offset, frame, shift, self.index = self.begin, 0, 0, []
        for _ in range(count):
            intra = bits.u(1)
            frames = 32 if bits.u(1) else bits.u(5)
            shift += bits.se(0)
            self.index.append((offset, frame, self.regular(frame) + shift, intra))
            offset, frame = offset + bits.ue(k), frame + frames
        assert offset + bits.ue(k) == start
        bits.end()


HEADER = {
    "model": "tiny-1",
    "digest": bytes.fromhex("0123456789abcdef"),
    "profile": "",
    "size": (426, 240),
    "aspect": Fraction(1),
    "time base": Fraction(1, 1000),
    "frame duration": Fraction(1001, 30),
    "colour": (1, 1, 1),
    "full range": 0,
    "rotation": 90,
    "sums": 1,
    "reset period": 32,
    "tracks": [
        {
            "kind": 1,
            "codec": "opus",
            "time base": Fraction(1, 48000),
            "language": "eng",
            "disposition": 1,
            "extradata": b"Opus",
            "parameters": {"channels": "2"},
            "metadata": {},
        }
    ],
    "metadata": {"title": "Möwe"},
    "chapters": [(Fraction(1, 1000), -1, 100, {"title": "I"})],
}
SIDE = {"skip_samples": b"\x00\x01"}
ITEMS = [
    ("group", 0, [(-312, -312, 960, 1, b"one", {}), (648, 648, 960, 1, b"two!", {})]),
    ("chunk", 1, 0, [(0, 32, b"intra frame", 0x11), (33, 32, b"", 0x22), (67, 32, b"P2", 0x33)], 33),
    ("group", 0, [(1700, 1608, 960, 2, b"three", SIDE)]),
    ("chunk", 0, 3, [(100, 32, b"P3", 0x44), (150, 33, b"P4", 0x55), (200, 31, b"P5", 0x66)], 7),
]
LOW_DELAY_HEADER = HEADER | {"tracks": [], "metadata": {}, "chapters": [], "rotation": 0, "sums": 2}
LOW_DELAY_ITEMS = [
    ("low delay", 1, 0, [(5, 40, b"intra frame", 0x1111), (38, 40, b"P1", 0x2222), (72, 41, b"P2", 0x3333)]),
    ("low delay", 0, 3, [(105, 41, b"P3", 0x4444), (130, 40, bytes(300), 0x5555)]),
]


def as_ours(header: dict[str, Any]) -> bitstream.Header:
    colour = bitstream.Colour(*header["colour"], bool(header["full range"]))
    tracks = [
        bitstream.Track(
            bitstream.TrackKind(track["kind"]), track["codec"], track["time base"], track["extradata"],
            track["language"], track["disposition"], track["parameters"], track["metadata"],
        )
        for track in header["tracks"]
    ]  # fmt: skip
    return bitstream.Header(
        model_id=header["model"],
        model_digest=header["digest"],
        profile=header["profile"],
        width=header["size"][0],
        height=header["size"][1],
        sample_aspect_ratio=header["aspect"],
        time_base=header["time base"],
        frame_duration=header["frame duration"],
        colour=colour,
        rotation=header["rotation"],
        reset_period=header["reset period"],
        checksum_bytes=header["sums"],
        tracks=tuple(tracks),
        metadata=header["metadata"],
        chapters=tuple(
            bitstream.Chapter(start, end, base, names) for base, start, end, names in header["chapters"]
        ),
    )


class Sink(bytearray):
    def write(self, data: bytes) -> int:
        self.extend(data)
        return len(data)

    def flush(self) -> None:
        pass


def written(header: dict[str, Any], items: list[tuple[Any, ...]], low_delay: bool) -> bytes:
    sink = Sink()
    writer = bitstream.StreamWriter(sink, as_ours(header), low_delay=low_delay)  # type: ignore[arg-type]
    for kind, *content in items:
        if kind == "group":
            for pts, dts, duration, flags, payload, side in content[1]:
                packet = bitstream.TrackPacket(
                    content[0], payload, pts, dts, duration, flags, tuple(side.items())
                )
                writer.write_track_packet(packet)
            continue
        intra, _, frames = content[:3]
        times, qualities, payloads, sums = zip(*frames, strict=True)
        packets = [bitstream.Packet(payload, own) for payload, own in zip(payloads, sums, strict=True)]
        if kind == "chunk":
            writer.write_chunk(bitstream.Chunk(bool(intra), times, qualities, packets, content[3]))
        else:
            for k, packet in enumerate(packets):
                writer.write_packet(
                    packet, times[k], qualities[k], opens=k == 0, intra=bool(intra) and k == 0
                )
    writer.close(index=not low_delay)
    return bytes(sink)


CASES = [
    ("container-1.hex", HEADER, ITEMS, False),
    ("container-1-low-delay.hex", LOW_DELAY_HEADER, LOW_DELAY_ITEMS, True),
]


@pytest.mark.conformance
@pytest.mark.parametrize(("name", "header", "items", "low_delay"), CASES)
def test_golden_file(
    name: str, header: dict[str, Any], items: list[tuple[Any, ...]], low_delay: bool
) -> None:
    """Our writer makes these bytes, and what the specification says reads them."""
    data = written(header, items, low_delay)
    path = GOLDEN / name
    if os.environ.get("S2VC_WRITE_GOLDEN"):
        path.write_text("".join(f"{data[k : k + 32].hex()}\n" for k in range(0, len(data), 32)))
    golden = bytes.fromhex(path.read_text())
    file = File(golden)
    assert file.header == header
    assert file.items == items
    assert file.frames == sum(len(item[3]) for item in items if item[0] != "group")
    assert data == golden
    if low_delay:
        assert file.index_size == 0
    else:
        assert golden[-16 - file.index_size : -16].startswith(b"\xf5SX")
        second = golden.rindex(b"\xf5ST")  # the second chunk's bytes start with its sound
        assert file.index == [(file.begin, 0, 0, 1), (second, 3, 100, 0)]


@pytest.mark.conformance
def test_the_worked_example_is_the_golden_file() -> None:
    """Each line of the example: bytes in hex, a bar, what they are."""
    text = SPEC.read_text(encoding="utf-8")
    example = text[text.index("<!-- golden -->") :]
    lines = re.findall(r"^((?:[0-9a-f]{2} )+) *\| ", example, re.MULTILINE)
    assert bytes.fromhex("".join(lines)) == bytes.fromhex((GOLDEN / "container-1.hex").read_text())
