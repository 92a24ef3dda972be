"""The commands in processes of their own, on real files, with the tests' own model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

WIDTH, HEIGHT, FRAMES = 50, 34, 5


@pytest.fixture(scope="module")
def y4m() -> bytes:
    across, down = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    frames = []
    for number in range(FRAMES):
        luma = 60 + (across + 2 * number) * 2 % 128 + down
        planes = np.stack([luma, 128 + 0 * luma, 110 + across])
        frames.append(b"FRAME\n" + planes.astype(np.uint8).tobytes())
    return f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1 Ip A1:1 C444\n".encode() + b"".join(frames)


@pytest.fixture(scope="module")
def coded(mini, y4m, s2vc_command, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("coded") / "a.s2vc"
    ran = s2vc_command("encode", "-", path, "--model", mini, "--quality", "20", "--json", "-q", stdin=y4m)
    assert (ran.code, ran.err) == (0, "")
    facts = json.loads(ran.out)
    assert facts["frames"] == FRAMES and facts["bytes"] == path.stat().st_size
    assert [file.name for file in path.parent.iterdir()] == ["a.s2vc"]
    return path


def test_stdout_carries_the_same_bytes(mini, y4m, coded, s2vc_command):
    ran = s2vc_command("encode", "-", "-", "--model", mini, "--quality", "20", stdin=y4m)
    assert ran.code == 0 and ran.out == coded.read_bytes()
    assert ran.err.startswith("-: 5 frames")


def test_decode_through_pipes(mini, coded, s2vc_command):
    ran = s2vc_command("decode", "-", "-", "--model", mini, "-q", stdin=coded.read_bytes())
    assert (ran.code, ran.err) == (0, "")
    assert (
        ran.out.startswith(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1".encode())
        and ran.out.count(b"FRAME") == FRAMES
    )


def test_info_needs_no_model(coded, s2vc_command):
    ran = s2vc_command("info", coded, "--json")
    facts = json.loads(ran.out)
    assert ran.code == 0
    assert (facts["width"], facts["height"], facts["frames"]) == (WIDTH, HEIGHT, FRAMES)
    assert facts["quality"] == [20] and facts["model"] == "mini-1"


@pytest.mark.parametrize("command", ["info", "verify"])
def test_info_and_verify_load_no_torch(mini, coded, command):
    arguments = [command, str(coded), *(["--model", str(mini)] if command == "verify" else [])]
    program = (
        f"import sys; sys.argv = ['s2vc', *{arguments!r}]\n"
        "from s2vc.__main__ import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'av', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_another_model_is_needed(coded, tmp_path, s2vc_command):
    ran = s2vc_command("decode", coded, tmp_path / "a.mkv")
    assert ran.code == 1 and ran.err.count("\n") == 1
    assert "mini-1" in ran.err
    assert not list(tmp_path.iterdir())


def test_an_output_that_exists_is_refused(mini, y4m, coded, s2vc_command):
    before = coded.read_bytes()
    ran = s2vc_command("encode", "-", coded, "--model", mini, stdin=y4m)
    assert ran.code == 1 and ran.err.startswith("s2vc: ") and "-y" in ran.err and ran.err.count("\n") == 1
    assert coded.read_bytes() == before


def test_a_missing_input_is_one_line(mini, tmp_path, s2vc_command):
    ran = s2vc_command("encode", tmp_path / "no.mp4", tmp_path / "a.s2vc", "--model", mini)
    assert ran.code == 1 and ran.err.count("\n") == 1 and ran.err.startswith("s2vc: ")
    assert not list(tmp_path.iterdir())


def test_damage(mini, coded, tmp_path, s2vc_command):
    """A byte of the header is exit 1 and no output; one of the payload, and a cut, are exit 3."""
    whole = coded.read_bytes()
    damaged = tmp_path / "damaged.s2vc"

    damaged.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert s2vc_command("info", damaged).code == 1
    assert s2vc_command("verify", damaged, "--model", mini).code == 1
    damaged.write_bytes(whole[: len(whole) * 3 // 4])
    for command in ("info", "verify"):
        ran = s2vc_command(command, damaged, *(["--model", mini] if command == "verify" else []))
        assert ran.code == 3 and ran.err.count("\n") == 1
    ran = s2vc_command("decode", damaged, tmp_path / "a.mkv", "--model", mini, "-y")
    assert ran.code in (1, 3) and "Traceback" not in ran.err
    assert {file.name for file in tmp_path.iterdir()} <= {"damaged.s2vc", "a.mkv"}
