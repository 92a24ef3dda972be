"""Codecs under test: what is in their files, what is charged, and those that were run elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from pydantic import TypeAdapter

pytest.importorskip("imageio_ffmpeg")

from s2vc.bench.codecs import X265, AnyCodec, CommandCodec, ffmpeg
from s2vc.bench.codecs.av1 import charged_bytes
from s2vc.bench.frames import picture_size, read_rgb
from s2vc.bench.process import run_child
from s2vc.errors import InputError, S2vcError

FRAMES = 5
QUICK = [
    {"kind": "x264", "preset": "ultrafast", "tunes": ["ssim"], "crf": [40]},
    {"kind": "x265", "preset": "ultrafast", "crf": [40]},
    {"kind": "svt-av1", "preset": "12", "tunes": ["vq"], "crf": [50]},
    {"kind": "libaom", "preset": "8", "crf": [50]},
    {"kind": "vvenc", "preset": "faster", "tunes": ["psnr"], "qp": [40]},
]


def codec(entry: dict[str, object]) -> CommandCodec:
    return TypeAdapter(AnyCodec).validate_python(entry)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "moving.mkv"
    source = ["-f", "lavfi", "-i", "testsrc2=size=130x98:rate=25", "-frames:v", "8", "-pix_fmt", "yuv420p"]
    subprocess.run([ffmpeg(), "-loglevel", "error", "-y", *source, "-c:v", "ffv1", str(path)], check=True)
    return path


def units(data: bytes, kind: str) -> list[int]:
    """Types of the NAL units of an elementary stream."""
    starts = [found.end() for found in re.finditer(rb"\x00\x00\x01", data)]
    if kind == "x264":
        return [data[at] & 31 for at in starts]
    return [(data[at] >> 1) & 63 if kind == "x265" else (data[at + 1] >> 3) & 31 for at in starts]


@pytest.mark.parametrize("entry", QUICK, ids=lambda entry: entry["kind"])
def test_one_keyframe_nothing_informational_all_frames(clip: Path, tmp_path: Path, entry) -> None:
    under_test = codec(entry)
    (point,) = under_test.points()
    coded, decoded = tmp_path / ("a" + under_test.suffix), tmp_path / under_test.decoded_name
    run_child(under_test.encode(clip, FRAMES, point, coded))
    run_child(under_test.decode(coded, decoded, clip))
    assert len(list(read_rgb(decoded))) == FRAMES and picture_size(decoded) == (130, 98)
    data = coded.read_bytes()
    if under_test.suffix == ".obu":
        # two bytes of temporal delimiter a picture shown, and nothing else, are not charged
        assert len(data) - under_test.charged(coded) == 2 * FRAMES
    else:
        assert under_test.charged(coded) == len(data)
        # types of intra pictures; of delimiters and SEI
        intra, informational = {
            "x264": ({5}, {6, 9}),
            "x265": (set(range(16, 22)), {35, 39, 40}),
            "vvenc": ({7, 8, 9}, {20, 23, 24}),
        }[entry["kind"]]
        types = units(data, entry["kind"])
        assert sum(kind in intra for kind in types) == 1 and not informational & set(types)
    settings = under_test.settings()
    assert {"ffmpeg", "preset", "rate", "frames", "bit_depth", "charged"} <= set(settings)
    # the same file every time
    again = tmp_path / ("b" + under_test.suffix)
    run_child(under_test.encode(clip, FRAMES, point, again))
    assert again.read_bytes() == data


def test_the_bit_depth_is_that_of_the_file(clip: Path, tmp_path: Path) -> None:
    for entry, expected in ((QUICK[0], "yuv420p"), (QUICK[1], "yuv420p10le")):
        under_test = codec(entry)
        coded = tmp_path / ("a" + under_test.suffix)
        run_child(under_test.encode(clip, 1, under_test.points()[0], coded))
        said = subprocess.run([ffmpeg(), "-i", str(coded)], capture_output=True, text=True).stderr
        assert re.search(rf"Video: .*\b{expected}\b", said), said


def test_half_size_is_scaled_up_again_and_named(clip: Path, tmp_path: Path) -> None:
    half = codec({**QUICK[1], "scale": 0.5})
    assert half.name == "x265-scaled-0.5" and half.settings()["scale"] == 0.5
    coded = tmp_path / "a.hevc"
    run_child(half.encode(clip, FRAMES, half.points()[0], coded))
    assert picture_size(coded) == (66, 50)  # even sides
    run_child(half.decode(coded, tmp_path / "a.mkv", clip))
    assert picture_size(tmp_path / "a.mkv") == (130, 98)
    with pytest.raises(ValueError, match="less than or equal to 1"):
        codec({**QUICK[1], "scale": 2})


def test_a_codec_that_the_build_lacks(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poor = tmp_path / "ffmpeg"
    poor.write_text("#!/bin/sh\necho ffmpeg version 1 Copyright\necho ' V....D libx264 H.264'\n")
    poor.chmod(0o755)
    monkeypatch.setenv("S2VC_FFMPEG", str(poor))
    under_test = codec(QUICK[4])
    assert under_test.settings()["ffmpeg"] == "1 (S2VC_FFMPEG)"
    with pytest.raises(InputError, match="has no libvvenc: name another one with S2VC_FFMPEG"):
        under_test.encode(clip, 1, under_test.points()[0], tmp_path / "a.vvc")
    assert codec(QUICK[0]).encode(clip, 1, codec(QUICK[0]).points()[0], tmp_path / "a.h264")[0] == str(poor)
    monkeypatch.setenv("S2VC_FFMPEG", str(tmp_path / "none"))
    with pytest.raises(InputError, match="cannot be run as ffmpeg"):
        under_test.settings()


def test_units_of_av1(tmp_path: Path) -> None:
    """Delimiter, sequence header, metadata, a frame of 200 bytes (two bytes of length), padding."""
    made = [bytes([0x12, 0]), bytes([0x0A, 3, 1, 2, 3]), bytes([0x2A, 4, 0, 0, 0, 0])]
    made += [bytes([0x32, 0xC8, 0x01, *[7] * 200]), bytes([0x7A, 1, 0])]
    path = tmp_path / "a.obu"
    path.write_bytes(b"".join(made))
    assert charged_bytes(path) == 5 + 203
    for damaged in (b"".join(made)[:-1], b"\x10\x00", b"\x92\x00"):
        path.write_bytes(damaged)
        with pytest.raises(S2vcError, match="AV1"):
            charged_bytes(path)


def test_decoded_clips_and_their_sizes(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "sizes.csv").write_text(
        "point,clip,bytes\nlow,moving,100\nhigh,moving.mkv,200\nhigh,other,1\n"
    )
    (tmp_path / "high" / "moving").mkdir(parents=True)
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "moving.y4m").touch()
    entry = {"kind": "external", "name": "mine", "folder": tmp_path, "about": "GOP of one I-frame"}
    external = codec(entry)
    high, low = external.points()
    assert (external.size(clip, low), external.size(clip, high)) == (100, 200)
    assert external.decoded(clip, high).name == "moving" and external.decoded(clip, low).suffix == ".y4m"
    assert external.settings()["about"] == "GOP of one I-frame"
    with pytest.raises(InputError, match="no decoded clip"):
        external.decoded(Path("other.mp4"), high)
    with pytest.raises(InputError, match="no size of other at low"):
        external.size(Path("other.mp4"), low)
    (tmp_path / "sizes.json").write_text(json.dumps({"p": {"moving": 7}}))
    assert external.size(clip, external.points()[0]) == 7
    (tmp_path / "sizes.json").write_text("[1]")
    with pytest.raises(InputError, match="cannot be read"):
        external.points()
    with pytest.raises(InputError, match="state each clip's bytes"):
        codec({**entry, "folder": tmp_path / "none"}).points()


def test_results_of_dcvcs_tools(tmp_path: Path) -> None:
    common = {"frame_pixel_num": 100, "i_frame_num": 1, "p_frame_num": 3, "ave_all_frame_bpp": 0.5}
    rgb = {**common, "ave_all_frame_psnr": 30.5, "ave_all_frame_msssim": 0.9, "frame_psnr": [30, 31, 30, 31]}
    planes = {**common, "ave_all_frame_psnr": 33.0, "ave_all_frame_psnr_y": 32.0, "ave_all_frame_msssim": 0.8}
    path = tmp_path / "results.json"
    path.write_text(
        json.dumps({"UVG": {"one.yuv": {"000": rgb, "001": planes}}, "B": {"two.png": {"000": rgb}}})
    )
    published = codec({"kind": "published", "name": "vtm", "results": path, "about": "VTM-17, low delay B"})
    first, second = published.points()
    found = published.result(Path("one.mp4"), first)
    assert (found["frames"], found["bytes"], found["bpp"]) == (4, 25, 0.5)
    assert found["metrics"]["psnr"] == {"mean": 30.5, "frames": [30, 31, 30, 31]}
    assert found["metrics"]["ms-ssim"] == {"mean": 0.9}
    # a mean over Y, U and V is not PSNR over R, G and B
    assert published.result(Path("one.mp4"), second)["metrics"] == {"psnr-y": {"mean": 32.0}}
    with pytest.raises(InputError, match="no two at 001"):
        published.result(Path("two.mp4"), second)
    path.write_text(json.dumps({"UVG": {"one.yuv": {"000": {"bpp": 1}}}}))
    with pytest.raises(InputError, match="ave_all_frame_bpp"):
        published.result(Path("one.mp4"), first)
    path.write_text("[]")
    with pytest.raises(InputError, match="form of DCVC's results"):
        published.points()


def test_x265s_settings_have_not_changed() -> None:
    """Committed results stand for these: another word in them makes every anchor anew."""
    settings = X265(kind="x265", crf=(40,)).settings()
    assert list(settings) == ["codec", "ffmpeg", "preset", "rate", "frames", "bit_depth", "charged"]
    del settings["ffmpeg"]
    assert settings == {
        "codec": "x265", "preset": "veryslow", "rate": "crf", "frames": "one I-frame, default B-frames",
        "bit_depth": 10, "charged": "elementary stream without informational SEI",
    }  # fmt: skip
