"""Sound, subtitles, chapters, metadata and attachments, from file to file without the codec between."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from s2vc.bitstream import Track, TrackKind, TrackPacket
from s2vc.video import Extras, Frame, VideoInfo, open_output, open_video

SOUND = {"sample_rate": "48000", "channels": "2"}

LINES = [(0, 500, "Hello <i>there</i>"), (700, 1500, "Zweite Zeile\nmit Umbruch"), (1600, 1900, "ünï")]
CHAPTERS = ((0, 800, "Eins"), (800, 2000, "Zwei"))


def carry(source: Path, target: Path, sound: str = "copy", **part: object) -> list[str]:
    """What encode and decode do with a file, less the codec; gives the writer's warnings."""
    with open_video(source, sound=sound, **part) as reader:  # type: ignore[arg-type]
        writer = None
        for frame in reader:
            writer = writer or open_output(target, reader.info, extras=reader.extras, overwrite=True)
            for packet in reader.packets():
                writer.write_packet(packet)
            writer.write(frame)
        assert writer is not None
        for packet in reader.packets():
            writer.write_packet(packet)
        writer.close()
    return [*reader.warnings, *writer.warnings]


SOUNDS = [
    ("aac", 44100, "mp4", "mp4"),
    ("aac", 44100, "mp4", "mkv"),
    ("aac", 44100, "mkv", "mov"),
    ("aac", 48000, "ts", "mp4"),
    ("libopus", 48000, "mkv", "mp4"),
    ("libopus", 48000, "mp4", "mkv"),
    ("libopus", 48000, "mkv", "mkv"),
    ("libmp3lame", 44100, "mkv", "mkv"),
    ("libmp3lame", 44100, "mp4", "mp4"),
    ("flac", 44100, "mkv", "mp4"),
    ("flac", 44100, "mkv", "mkv"),
    ("ac3", 48000, "mkv", "mp4"),
    ("pcm_s16le", 48000, "mov", "mov"),
    ("pcm_s16le", 48000, "mov", "mkv"),
]


@pytest.mark.parametrize(("codec", "rate", "kind", "output"), SOUNDS, ids=lambda value: str(value))
def test_sound_is_copied(film, listen, tmp_path, codec, rate, kind, output):
    """Same packets, same samples, at the same time: to the sample in MP4, to the millisecond in Matroska."""
    source = film(tmp_path / f"a.{kind}", frames=30, sound=((codec, rate, "fra"),))
    target = tmp_path / f"b.{output}"
    assert carry(source, target) == []
    before, after = listen(source), listen(target)
    if kind != "ts":  # its packets have a head each, which the others have once
        assert [packet[2] for packet in after.packets] == [packet[2] for packet in before.packets]
    shared = min(before.samples.shape[1], after.samples.shape[1])
    assert shared > 1.1 * rate
    np.testing.assert_array_equal(after.samples[:, :shared], before.samples[:, :shared])
    if kind == output or {kind, output} == {"mov", "mkv"}:
        assert after.samples.shape == before.samples.shape
    with av.open(str(source)) as container:
        origin = Fraction(container.start_time, av.time_base) if kind == "ts" else Fraction(0)
    assert abs(after.start - (before.start - origin)) <= (Fraction(1, 1000) if "mkv" in (kind, output) else 0)
    if kind == output:
        assert [packet[:2] for packet in after.packets] == [packet[:2] for packet in before.packets]
    assert after.language == "fra"


def test_coarse_clocks_are_made_fine(film, listen, tmp_path):
    """Matroska rounds to milliseconds; an MP4 made of it has whole packets' lengths again."""
    source = film(tmp_path / "a.mkv", sound=(("aac", 44100, "eng"),))
    carry(source, tmp_path / "b.mp4")
    packets = listen(tmp_path / "b.mp4").packets
    assert [packet[0] for packet in packets] == list(range(-1024, 1024 * (len(packets) - 1), 1024))


def texts_of(path: Path, number: int = 0) -> tuple[list[tuple[int, int, bytes]], object]:
    with av.open(str(path)) as container:
        track = container.streams.subtitles[number]
        milli = [(p.pts, p.duration, bytes(p)) for p in container.demux(track) if p.size > 2]
        scale = track.time_base * 1000
        return [(round(a * scale), round(b * scale), text) for a, b, text in milli], track.language


@pytest.mark.parametrize(("codec", "kind"), [("subrip", "mkv"), ("ass", "mkv"), ("mov_text", "mp4")])
def test_subtitles_chapters_and_tags_are_identical(film, tmp_path, codec, kind):
    tags = {"title": "Ein Film", "comment": "Möwe", "artist": "wir"}
    source = film(
        tmp_path / f"a.{kind}",
        subtitles=((codec, "deu", LINES), (codec, "eng", LINES[1:])),
        chapters=CHAPTERS,
        metadata=tags,
        attachment=b"FONT" * 100 if kind == "mkv" else None,
    )
    target = tmp_path / f"b.{kind}"
    assert carry(source, target) == []
    for number in (0, 1):
        assert texts_of(target, number) == texts_of(source, number)
        assert len(texts_of(target, number)[0]) == 3 - number
    with av.open(str(source)) as before, av.open(str(target)) as after:
        named = [
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]) for c in after.chapters()
        ]
        assert [(float(begin * 1000), float(end * 1000), tag["title"]) for begin, end, tag in named] == [
            *CHAPTERS
        ]
        kept = {key.lower(): value for key, value in after.metadata.items()}
        assert {key: kept[key] for key in tags} == tags
        # Behind the styles of MP4 stands a box of bit rates.
        heads = [
            [
                (track.codec_context.extradata or b"").split(b"\0\0\0\x14btrt")[0]
                for track in file.streams.subtitles
            ]
            for file in (before, after)
        ]
        assert heads[0] == heads[1]
        if kind == "mkv":
            files = [track for track in after.streams if track.type == "attachment"]
            assert [(track.name, track.data) for track in files] == [("face.ttf", b"FONT" * 100)]


@pytest.mark.parametrize(
    ("codec", "kind", "output", "warned"),
    [
        ("subrip", "mkv", "mp4", False),
        ("mov_text", "mp4", "mkv", False),
        ("ass", "mkv", "mov", True),
    ],
)
def test_text_is_written_anew_where_it_must(film, tmp_path, codec, kind, output, warned):
    source = film(tmp_path / f"a.{kind}", subtitles=((codec, "fra", LINES[1:]),))
    warnings = carry(source, tmp_path / f"b.{output}")
    assert len(warnings) == warned and all("styled" in message for message in warnings)
    lines, language = texts_of(tmp_path / f"b.{output}")
    assert language == "fra"
    assert [line[:2] for line in lines] == [(700, 800), (1600, 300)]
    for (_, _, data), (_, _, text) in zip(lines, LINES[1:], strict=True):
        assert text.replace("\n", "\n").encode() in data.replace(b"\r\n", b"\n")


def test_what_has_no_place_is_said_once(film, tmp_path):
    source = film(
        tmp_path / "a.mkv",
        sound=(("libopus", 48000, "eng"), ("aac", 44100, "fra")),
        attachment=b"x",
    )
    warnings = carry(source, tmp_path / "b.mov")
    assert [message.split(": ", 1)[1] for message in warnings] == [
        "has no place for opus sound, left out: .mkv does",
        "has no place for attachments, left out: .mkv does",
    ]
    for target in ("b.y4m", "pictures"):
        assert len(carry(source, tmp_path / target)) == 1


@pytest.mark.parametrize("output", ["mp4", "mkv"])
@pytest.mark.parametrize(("codec", "kind", "rate"), [("aac", "mp4", 44100), ("flac", "mkv", 44100)])
def test_a_part_keeps_in_step(film, listen, tmp_path, codec, kind, rate, output):
    """What is heard at a moment of the part is what was heard then in the whole."""
    source = film(
        tmp_path / f"a.{kind}",
        frames=100,
        sound=((codec, rate, "eng"),),
        subtitles=(
            (
                "mov_text" if kind == "mp4" else "subrip",
                "eng",
                [(1000, 2500, "over"), (3000, 3900, "inside")],
            ),
        ),
        chapters=((0, 1500, "out"), (1500, 4000, "in")),
    )
    target = tmp_path / f"b.{output}"
    assert carry(source, target, start="2", duration="1.5") == []
    whole, part = listen(source), listen(target)
    assert part.start == 0
    exact = kind == "mp4"
    begin = min(
        range(2 * rate - (0 if exact else 60), 2 * rate + (1 if exact else 60)),
        key=lambda at: np.abs(whole.samples[:, at : at + 500] - part.samples[:, :500]).sum(),
    )
    length = min(part.samples.shape[1], round(1.5 * rate))
    assert length > 1.49 * rate
    np.testing.assert_array_equal(part.samples[:, :length], whole.samples[:, begin : begin + length])
    assert part.samples.shape[1] < 1.5 * rate + 5000  # no more than the packet that the end lies in
    lines, _ = texts_of(target)
    assert [line[:2] for line in lines] == [(0, 500), (1000, 500)]
    with av.open(str(target)) as container:
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["in"]
        assert float(container.duration / av.time_base) < 1.65


def test_sound_that_lags_comes_in_time(film, tmp_path):
    source = film(tmp_path / "a.mkv", sound=(("aac", 44100, "eng"),), late=True)
    with open_video(source, sound="copy") as reader:
        for frame in reader:
            packets = reader.packets()
            until = (frame.pts + frame.duration) * reader.info.time_base
            if frame.pts:
                assert packets  # 23 ms of sound a packet, 40 ms a frame
            assert all(packet.pts is not None and packet.pts / 1000 < until for packet in packets)


def test_sound_that_ends_early_holds_nothing_up(film, tmp_path):
    """Three seconds are read ahead, not the whole film."""
    source = film(tmp_path / "a.mkv", frames=200, sound=(("aac", 44100, "eng"),), seconds=1.0)
    with open_video(source, sound="copy") as reader:
        count = 0
        for _ in reader:
            reader.packets()
            assert len(reader._demultiplexer._ahead) <= 80
            count += 1
        assert count == 200


def test_opus_is_the_same_sound(film, listen, tmp_path):
    """44.1 kHz in milliseconds in, 48 kHz out: the tones are there, in step, for as long."""
    source = film(tmp_path / "a.mkv", sound=(("flac", 44100, "eng"),))
    carry(source, tmp_path / "b.mkv", sound="opus")
    heard = listen(tmp_path / "b.mkv")
    assert heard.start == 0 and heard.language == "eng"
    assert abs(heard.samples.shape[1] - 2 * 48000) <= 48
    moments = np.arange(heard.samples.shape[1]) / 48000
    tones = np.stack([np.sin(2 * np.pi * 440 * moments), np.sin(2 * np.pi * 660 * moments)])
    for channel in (0, 1):
        level = 2 * np.mean(heard.samples[channel] * tones[channel])
        assert abs(level - 0.3) < 0.02  # in phase: a millisecond of shift would halve it
    assert sum(len(packet[2]) for packet in heard.packets) < 1.1 * 2 * 40_000 / 8


def test_pictures_only_stay_as_they_were(film, tmp_path):
    source = film(tmp_path / "a.mp4", frames=10)
    with open_video(source) as bare, open_video(source, sound="copy") as reader:
        for one, other in zip(bare, reader, strict=True):
            assert one.pts == other.pts and np.array_equal(one.rgb, other.rgb)
            assert reader.packets() == []
        assert reader.extras == bare.extras and not reader.extras.tracks and not reader.extras.metadata


def test_tracks_are_described(film, tmp_path):
    source = film(
        tmp_path / "a.mkv",
        frames=5,
        sound=(("aac", 44100, "eng"),),
        subtitles=(("subrip", "deu", LINES[:1]),),
        attachment=b"font",
    )
    with open_video(source, sound="copy") as reader:
        next(iter(reader))
        sound, text, font = reader.extras.tracks
    assert (sound.kind, sound.codec, sound.language) == (TrackKind.AUDIO, "aac", "eng")
    assert sound.parameters["sample_rate"] == "44100" and sound.parameters["channel_layout"] == "stereo"
    assert (text.kind, text.codec) == (TrackKind.SUBTITLE, "subrip")
    assert (font.kind, font.extradata, font.metadata["filename"]) == (
        TrackKind.ATTACHMENT,
        b"font",
        "face.ttf",
    )
    with open_video(source, sound="none") as reader:
        next(iter(reader))
        assert [track.codec for track in reader.extras.tracks] == ["subrip", "attachment"]


HOSTILE = [
    Track(TrackKind.AUDIO, "aac", Fraction(1, 44100), parameters={"sample_rate": "0", "channels": "2"}),
    Track(TrackKind.AUDIO, "aac", Fraction(1, 44100), parameters={"sample_rate": "9" * 30, "channels": "2"}),
    Track(TrackKind.AUDIO, "aac", Fraction(1, 3), b"\xff" * 99, parameters=SOUND | {"channels": "64"}),
    Track(TrackKind.AUDIO, "flac", Fraction(1, 48000), b"fLaC", parameters=SOUND),
    Track(TrackKind.AUDIO, "opus", Fraction(1, 2**31 - 1), parameters=SOUND | {"channel_layout": "x"}),
    Track(TrackKind.AUDIO, "vorbis", Fraction(2**31 - 1), bytes(40), parameters=SOUND),
    Track(TrackKind.AUDIO, "wmav2", Fraction(1, 1000), bytes(3), parameters=SOUND | {"block_align": "-1"}),
    Track(TrackKind.AUDIO, "no such codec", Fraction(1, 1000), parameters=SOUND),
    Track(TrackKind.SUBTITLE, "ass", Fraction(1, 1000), b"\0\xff[Events"),
    Track(TrackKind.SUBTITLE, "subrip", Fraction(1, 2**31 - 1), language="x" * 255),
    Track(TrackKind.SUBTITLE, "mov_text", Fraction(1, 1000), bytes(7)),
    Track(TrackKind.ATTACHMENT, "attachment", Fraction(1), metadata={"filename": "", "mimetype": ""}),
    Track(TrackKind.DATA, "bin_data", Fraction(1)),
    Track(TrackKind.VIDEO, "mjpeg", Fraction(1)),
]


@pytest.mark.parametrize("output", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_track_costs_itself(make, tmp_path, output, number):
    """Nonsense in a header and in packets: the pictures are written, and nothing but warnings comes of it."""
    extras = Extras((HOSTILE[number],), (), {"": "", "title": "x" * 4000})
    info = VideoInfo(64, 48)
    with open_output(tmp_path / f"a.{output}", info, extras=extras) as writer:
        for count, picture in enumerate(make.scene(3)):
            for place in (None, -(2**60), 5 * count, 2**60):
                side = (("skip_samples", b"\xff" * 10), ("webvtt_settings", b""), ("unknown", b"x"))
                writer.write_packet(TrackPacket(0, b"\xff\xf1" * 20, place, place, 2**60, 7, side))
            assert writer.write(Frame(picture, count, 1))
    with av.open(str(tmp_path / f"a.{output}")) as container:
        assert len(list(container.decode(video=0))) == 3
