"""Films with sound, subtitles and chapters through the codec: what comes back, and where it stands."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import s2vc
from s2vc.bitstream import Chunk, Header, Packet, StreamReader, StreamWriter, Track, TrackKind, TrackPacket

VARIABLE = [0, 1, 2, 5, 6, 7, 9, 12, 13, *range(14, 55)]  # frames of 1/25 s
LINES = [(0, 500, "Hello"), (700, 1500, "Zweite Zeile"), (1600, 2100, "ünï")]
CHAPTERS = ((0, 800, "Eins"), (800, 2200, "Zwei"))
TAGS = {"title": "Ein Film", "artist": "wir"}


@pytest.fixture(scope="module")
def model(mini) -> s2vc.Model:
    return s2vc.load(str(mini), device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, film) -> Path:
    """``a.mp4``: variable frame rate, AAC, subtitles, chapters, tags; ``a.mkv``: two sound tracks."""
    path = tmp_path_factory.mktemp("tracks")
    film(
        path / "a.mp4",
        times=VARIABLE,
        sound=(("aac", 44100, "fra"),),
        subtitles=(("mov_text", "deu", LINES),),
        chapters=CHAPTERS,
        metadata=TAGS,
    )
    film(path / "bare.mp4", times=VARIABLE)
    film(path / "a.mkv", frames=100, sound=(("libopus", 48000, "eng"), ("flac", 44100, "deu")))
    return path


@pytest.fixture(scope="module")
def coded(folder, model) -> Path:
    s2vc.encode(folder / "a.mp4", folder / "a.s2vc", model=model)
    return folder / "a.s2vc"


@pytest.fixture(scope="module")
def long_coded(folder, model) -> Path:
    s2vc.encode(folder / "a.mkv", folder / "b.s2vc", model=model, keyint=32)
    return folder / "b.s2vc"


def test_damage_before_a_part_with_sound_does_not_matter(long_coded, model, tmp_path):
    """The chunk before the part is read for its sound alone."""
    with long_coded.open("rb") as stream:
        entry = StreamReader(stream).index()[1]
    data = bytearray(long_coded.read_bytes())
    data[entry.end - 5] ^= 0x55
    (tmp_path / "b.s2vc").write_bytes(data)
    with pytest.raises(s2vc.DamagedError):
        list(s2vc.Decoder(io.BytesIO(data), model=model))
    part = {"start": "2.6", "duration": "0.4", "model": model}  # in the third chunk
    whole = s2vc.decode(long_coded, tmp_path / "whole.mkv", lossless=True, **part)
    found = s2vc.decode(tmp_path / "b.s2vc", tmp_path / "part.mkv", lossless=True, **part)
    assert (found.frames, found.damaged) == (whole.frames, None)
    assert times_of(tmp_path / "part.mkv") == times_of(tmp_path / "whole.mkv")


def times_of(path: Path) -> list[tuple[Fraction, Fraction]]:
    with av.open(str(path)) as container:
        track = container.streams.video[0]
        return [
            (frame.pts * track.time_base, frame.duration * track.time_base)
            for frame in container.decode(track)
        ]


@pytest.mark.parametrize("output", ["mp4", "mkv", "mov"])
def test_a_film_comes_back(folder, coded, model, listen, tmp_path, output):
    """Stamps of a variable rate, sound to the sample, subtitles and chapters."""
    source, target = folder / "a.mp4", tmp_path / f"b.{output}"
    result = s2vc.decode(coded, target, model=model)
    assert result.frames == len(VARIABLE) and result.warnings == () and result.damaged is None
    before, after = listen(source), listen(target)
    np.testing.assert_array_equal(after.samples, before.samples)
    assert after.start == before.start == 0 and after.language == "fra"
    with av.open(str(source)) as one, av.open(str(target)) as other:
        titles = [chapter["metadata"]["title"] for chapter in other.chapters()]
        starts = [float(chapter["start"] * chapter["time_base"]) for chapter in other.chapters()]
        assert (titles, starts) == (["Eins", "Zwei"], [0.0, 0.8])
        kept = {key.lower(): value for key, value in other.metadata.items()}
        assert {key: kept[key] for key in TAGS} == TAGS
        texts = [
            [(p.pts * track.time_base, bytes(p)[-5:]) for p in file.demux(track) if p.size > 2]
            for file, track in ((one, one.streams.subtitles[0]), (other, other.streams.subtitles[0]))
        ]
        assert texts[0] == texts[1] and len(texts[0]) == len(LINES)
        if output == "mp4":
            assert other.duration == one.duration
    expected = [(Fraction(time, 25)) for time in VARIABLE]
    assert [time for time, _ in times_of(target)] == expected
    if output == "mp4":
        assert times_of(target) == times_of(source)


def test_info_tells_tracks_from_video(folder, coded, model, s2vc_command):
    facts = s2vc.info(coded)
    sound, text = facts.tracks
    assert (sound.kind, sound.codec, sound.language, text.codec, text.language) == (
        *("audio", "aac", "fra"),
        *("mov_text", "deu"),
    )
    with av.open(str(folder / "a.mp4")) as container:
        sizes = [packet.size for packet in container.demux(container.streams.audio[0]) if packet.size]
    assert (sound.packets, sound.bytes) == (len(sizes), sum(sizes))
    assert facts.chapters == ["0.000 Eins", "0.800 Zwei"] and facts.metadata == TAGS
    bare = s2vc.encode(folder / "bare.mp4", folder / "bare.s2vc", model=model, overwrite=True)
    assert bare.video_bytes == bare.bytes == facts.video_bytes
    assert (
        facts.video_bytes + sound.bytes + text.bytes
        < facts.bytes
        < facts.video_bytes * 1.1 + sound.bytes + 500
    )
    ran = s2vc_command("info", coded, "--json")
    printed = json.loads(ran.out)
    assert (printed["video_bytes"], printed["tracks"][0]["codec"]) == (facts.video_bytes, "aac")
    assert "kind audio, codec aac, language fra" in s2vc_command("info", coded).out.decode()


def test_no_audio_leaves_nothing_of_it(folder, model, film, tmp_path):
    """A film without its sound is coded as if it had had none, byte for byte."""
    loud = film(tmp_path / "loud.mp4", times=VARIABLE, sound=(("aac", 44100, "fra"),))
    s2vc.encode(loud, tmp_path / "a.s2vc", model=model, audio="none")
    s2vc.encode(folder / "bare.mp4", tmp_path / "b.s2vc", model=model)
    assert (tmp_path / "a.s2vc").read_bytes() == (tmp_path / "b.s2vc").read_bytes()
    made = s2vc.encode(loud, tmp_path / "c.s2vc", model=model, audio="opus")
    assert [track.codec for track in s2vc.info(tmp_path / "c.s2vc").tracks] == ["opus"]
    assert made.video_bytes < made.bytes


def test_sound_stands_before_its_pictures(long_coded):
    """A reader who has a chunk has all sound that is due before its end, and hardly more."""
    with long_coded.open("rb") as stream:
        reader = StreamReader(stream)
        reached = {0: Fraction(0), 1: Fraction(0)}
        for item in reader:
            if isinstance(item, TrackPacket):
                base = reader.header.tracks[item.track].time_base
                reached[item.track] = (item.pts + item.duration) * base
            else:
                end = (item.times[-1] + item.last_duration) * reader.header.time_base
                for place in reached.values():
                    assert end - Fraction(2, 1000) <= place < end + Fraction(11, 100)


def test_low_delay_sends_sound_with_each_picture(folder, model, tmp_path):
    s2vc.encode(folder / "a.mkv", tmp_path / "live.s2vc", model=model, low_delay=True, frames=20)
    with (tmp_path / "live.s2vc").open("rb") as stream:
        reader, reached, shown = StreamReader(stream), Fraction(0), 0
        for item in reader:
            if isinstance(item, Chunk):
                end = (item.times[-1] + item.last_duration) * reader.header.time_base
                assert end - Fraction(2, 1000) <= reached < end + Fraction(3, 100)
                shown += len(item.packets)
            elif item.track == 0:
                reached = (item.pts + item.duration) * reader.header.tracks[0].time_base
    assert shown == 20


def test_a_stopped_run_goes_on_with_its_sound(folder, long_coded, model, tmp_path):
    """What was left of it is compared and goes on: the same file, byte for byte."""
    whole = long_coded.read_bytes()
    (tmp_path / "b.s2vc.part").write_bytes(whole[: len(whole) * 6 // 10])
    s2vc.encode(folder / "a.mkv", tmp_path / "b.s2vc", model=model, keyint=32, resume=True)
    assert (tmp_path / "b.s2vc").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["b.s2vc"]


@pytest.mark.parametrize("start", ["1.28", "2"])
def test_a_part_is_in_step(folder, long_coded, model, listen, tmp_path, start):
    """From where a chunk starts, and from inside one: the sound of that moment, FLAC to the sample."""
    s2vc.decode(long_coded, tmp_path / "part.mkv", model=model, start=start, duration="1")
    whole, part = listen(folder / "a.mkv", 1), listen(tmp_path / "part.mkv", 1)
    at = round(Fraction(start) * 44100)
    begin = min(
        range(at - 60, at + 60),  # Matroska's milliseconds
        key=lambda place: np.abs(
            whole.samples[:, place : place + 300].astype(int) - part.samples[:, :300]
        ).sum(),
    )
    np.testing.assert_array_equal(part.samples[:, :44100], whole.samples[:, begin : begin + 44100])
    assert part.start == 0 and 44100 <= part.samples.shape[1] < 44100 + 4608
    opus = listen(tmp_path / "part.mkv", 0)
    assert opus.start == 0 and 48000 - 48 <= opus.samples.shape[1] <= 48000 + 960
    assert len(times_of(tmp_path / "part.mkv")) == 25


def test_damage_in_sound_costs_sound(coded, model, folder, tmp_path, s2vc_command):
    """A byte of a packet: every picture, all other packets, one warning; info and verify say so."""
    whole = coded.read_bytes()
    with av.open(str(folder / "a.mp4")) as container:
        packets = [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size > 100]
    place = whole.index(packets[20]) + 50
    damaged = tmp_path / "damaged.s2vc"
    damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    result = s2vc.decode(damaged, tmp_path / "a.mp4", model=model)
    assert result.frames == len(VARIABLE)
    assert result.damaged is not None and "sound or subtitles are damaged" in result.damaged
    with av.open(str(tmp_path / "a.mp4")) as container:
        after = [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size > 100]
    assert [k for k, (a, b) in enumerate(zip(packets, after, strict=True)) if a != b] == [20]
    assert times_of(tmp_path / "a.mp4") == times_of(folder / "a.mp4")
    assert s2vc.info(damaged).damaged is not None
    ran = s2vc_command("info", damaged)
    assert ran.code == 3 and ran.err.count("\n") == 1


def test_through_a_pipe(long_coded, mini, folder, listen, tmp_path, s2vc_command):
    """Sound that is read from standard input, which cannot be searched; y4m holds none and says so once."""
    data = long_coded.read_bytes()
    ran = s2vc_command("decode", "-", tmp_path / "a.mkv", "--model", mini, "-q", stdin=data)
    assert (ran.code, ran.err) == (0, "")
    for number in (0, 1):
        np.testing.assert_array_equal(
            listen(tmp_path / "a.mkv", number).samples, listen(folder / "a.mkv", number).samples
        )
    ran = s2vc_command("decode", "-", "-", "--model", mini, "-q", "--frames", 3, stdin=data)
    assert ran.code == 0 and ran.out.count(b"FRAME") == 3
    assert ran.err.count("\n") == 1 and "pictures only" in ran.err


def test_an_hour_is_quickly_searched():
    """90 000 frames at 20 kbit/s with sound: the index is under a thousandth, and leads to every second."""
    header = Header(
        model_id="tiny-1",
        model_digest=bytes(8),
        width=426,
        height=240,
        time_base=Fraction(1, 25),
        frame_duration=Fraction(1),
        tracks=(Track(TrackKind.AUDIO, "opus", Fraction(1, 48000)),),
    )
    stream = io.BytesIO()
    lengths = np.random.default_rng(1).integers(40, 160, 90_000).tolist()
    filler = bytes(160)
    with StreamWriter(stream, header) as writer:
        for first in range(0, 90_000, 32):
            frames = range(first, min(first + 32, 90_000))
            for sound in range(0, len(frames), 8):
                place = 1920 * (first + sound)
                writer.write_track_packet(TrackPacket(0, filler[:60], place, place, 15360))
            packets = [Packet(filler[: lengths[frame]], frame & 255) for frame in frames]
            writer.write_chunk(Chunk(first % 256 == 0, list(frames), [20] * len(frames), packets, 1))
    size = len(stream.getvalue())
    assert 19_500 < 8 * sum(lengths) / 3600 < 20_500
    reader = StreamReader(io.BytesIO(stream.getvalue()))
    index = int.from_bytes(stream.getvalue()[-8:-4], "big")
    assert 0 < index < sum(lengths) / 1000 < size / 1000
    entries = reader.index()
    assert reader.position < 200  # the index was read, not the chunks
    for second in range(0, 3600, 450):
        number = max(n for n, entry in enumerate(entries) if entry.time <= 25 * second)
        reader.seek_chunk(number)
        items = [next(reader) for _ in range(2)]
        assert isinstance(items[0], TrackPacket) and items[0].pts == 1920 * entries[number].frame
