"""From file to file in processes of their own: what --recon shows is what decode shows, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

import s2vc

FRAMES, WIDTH, HEIGHT = 100, 50, 38


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def source(folder, scene) -> Path:
    """A lossless clip: what is read from it is what the scene was."""
    path = folder / "source.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
        for number, picture in enumerate(scene(FRAMES, WIDTH, HEIGHT)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def pictures_of(path: Path) -> np.ndarray:
    """All pictures of a folder of PNG, by another reader than ours."""
    pictures = []
    for name in sorted(path.iterdir()):
        with av.open(str(name)) as container:
            pictures.append(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    return np.stack(pictures)


@pytest.fixture(scope="module")
def encoded(s2vc_command, folder, source, mini):
    """100 frames, one I-frame: four chunks, resets at 1, 33, 65 and 97; with the encoder's reconstruction."""
    path, recon = folder / "a.s2vc", folder / "recon"
    ran = s2vc_command("encode", source, path, "--model", mini, "--recon", recon, "--json", "-q")
    assert (ran.code, ran.err) == (0, "")
    return path, pictures_of(recon), json.loads(ran.out)


def test_recon_is_what_decode_shows(s2vc_command, encoded, mini, tmp_path):
    path, recon, facts = encoded
    assert recon.shape == (FRAMES, HEIGHT, WIDTH, 3) and facts["frames"] == FRAMES
    assert facts["bytes"] == path.stat().st_size
    described = s2vc.info(path)
    assert (described.frames, described.chunks, described.intra_frames) == (FRAMES, 4, 1)
    ran = s2vc_command("decode", path, tmp_path / "png", "--model", mini)
    assert ran.code == 0 and ran.err.startswith(f"{tmp_path / 'png'}: {FRAMES} frames")
    np.testing.assert_array_equal(pictures_of(tmp_path / "png"), recon)


def test_intra_frames_and_y4m(s2vc_command, source, mini, tmp_path):
    """Chunks of 32 and 12 frames, twice, and one of 12."""
    path, recon = tmp_path / "a.s2vc", tmp_path / "recon.y4m"
    ran = s2vc_command(
        *("encode", source, path, "--model", mini, "-q"),
        *("--keyint", 44, "--quality", 50, "--recon", recon),
    )
    assert (ran.code, ran.err) == (0, "")
    described = s2vc.info(path)
    assert (described.chunks, described.intra_frames, described.quality) == (5, 3, [50])
    ran = s2vc_command("decode", path, "-", "--model", mini, "-q")
    assert ran.code == 0 and ran.out == recon.read_bytes()


def test_a_part_is_that_part_of_the_whole(s2vc_command, encoded, source, mini, tmp_path):
    """--start seeks to an I-frame; frames are the same and get their times from 0."""
    _, recon, _ = encoded
    ran = s2vc_command(
        *("decode", encoded[0], tmp_path / "part.mkv", "--model", mini, "-q", "--lossless"),
        *("--start", "1.4", "--duration", "0.6"),
    )
    assert (ran.code, ran.err) == (0, "")
    with av.open(str(tmp_path / "part.mkv")) as container:
        frames = list(container.decode(video=0))
    assert [round(float(frame.time) * 25) for frame in frames] == list(range(15))
    pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    np.testing.assert_array_equal(pictures, recon[35:50])


def test_lossless_outputs_hold_the_same_pictures(s2vc_command, encoded, mini, tmp_path):
    path, recon, _ = encoded
    ran = s2vc_command(
        "decode", path, tmp_path / "a.mp4", "--lossless", "--model", mini, "--frames", 40, "-q"
    )
    assert (ran.code, ran.err) == (0, "")
    with av.open(str(tmp_path / "a.mp4")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(np.stack(pictures), recon[:40])


def test_the_same_input_gives_the_same_file(s2vc_command, encoded, source, mini, tmp_path):
    path, _, _ = encoded
    ran = s2vc_command("encode", source, tmp_path / "b.s2vc", "--model", mini, "-q")
    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "b.s2vc").read_bytes() == path.read_bytes()


def test_info_and_verify(s2vc_command, encoded, mini):
    path, _, _ = encoded
    ran = s2vc_command("info", "-", "--json", stdin=path.read_bytes())
    piped = json.loads(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert piped == json.loads(s2vc_command("info", path, "--json").out)
    assert piped["frames"] == FRAMES and piped["bytes"] == path.stat().st_size
    assert piped["model"] == "mini-1" and piped["damaged"] is None and piped["duration"] == FRAMES / 25
    ran = s2vc_command("verify", path, "--model", mini)
    assert ran.code == 0 and f"{FRAMES} frames" in ran.err
    ran = s2vc_command("verify", "-", "--model", mini, "--json", "-q", stdin=path.read_bytes())
    assert (ran.code, ran.err) == (0, "") and json.loads(ran.out)["frames"] == FRAMES


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["encode", "--help"], ["info", "{path}"], ["verify", "{path}", "--model", "{mini}"]],
    ids=lambda arguments: arguments[0],
)
def test_no_torch_where_none_is_needed(encoded, mini, arguments):
    import subprocess
    import sys

    arguments = [argument.format(path=encoded[0], mini=mini) for argument in arguments]
    program = (
        "import sys\n"
        f"sys.argv = ['s2vc', *{arguments!r}]\n"
        "from s2vc.__main__ import main\n"
        "try:\n    main()\n"
        "except SystemExit as ended:\n"
        "    loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "    print(ended.code or 0, 'torch' in loaded, 'av' in loaded, 'cv2' in loaded, file=sys.stderr)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stderr.splitlines()[-1] == "0 False False False"
