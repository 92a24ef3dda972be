"""``s2vc play`` and ``s2vc info --frames``."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

import s2vc

FILM = Path(__file__).parent / "golden" / "film-1.s2vc"  # 40 frames, I-frames at 0 and 36


def test_frames_of_a_file():
    facts = s2vc.info(FILM, frame_list=True)
    frames = facts.frame_list
    assert frames is not None and [frame.number for frame in frames] == list(range(40))
    assert [frame.number for frame in frames if frame.kind == "I"] == [0, 36]
    assert [frame.number for frame in frames if frame.reset] == [1, 33, 37]
    assert [frame.number for frame in frames if frame.opens] == [0, 32, 36]
    assert {frame.quality for frame in frames} == {32} and frames[25].time == 1.0
    assert 0.6 * facts.bytes < sum(frame.bytes for frame in frames) < facts.bytes
    assert s2vc.info(FILM).frame_list is None


def test_low_delay_frames_are_listed_alike(mini, scene, tmp_path):
    model = s2vc.load(str(mini), device="cpu")
    listed = []
    for low_delay in (False, True):
        stream = io.BytesIO()
        with s2vc.Encoder(stream, 32, 32, model=model, keyint=4, low_delay=low_delay) as encoder:
            for picture in scene(6, 32, 32):
                encoder.write(picture)
        path = tmp_path / "a.s2vc"
        path.write_bytes(stream.getvalue())
        listed.append(s2vc.info(path, frame_list=True).frame_list)
    assert listed[0] == listed[1]


def test_the_table(s2vc_command):
    ran = s2vc_command("info", FILM, "--frames")
    rows = ran.out.decode().splitlines()[-40:]
    assert ran.code == 0
    assert rows[0].split()[:5] == ["0", "*", "0.000", "I", "32"]
    assert rows[33].split()[:4] == ["33", "1.320", "P", "reset"]
    listed = json.loads(s2vc_command("info", FILM, "--frames", "--json").out)["frame_list"]
    assert len(listed) == 40 and listed[36]["kind"] == "I"
    assert "frame_list" not in json.loads(s2vc_command("info", FILM, "--json").out)


def test_frames_and_play_load_no_torch():
    program = (
        f"import sys; sys.argv = ['s2vc', 'info', {str(FILM)!r}, '--frames']\n"
        "from s2vc.__main__ import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "import s2vc.api.playing\n"
        "assert not {'torch', 'av', 'cv2', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_the_plot(tmp_path):
    pytest.importorskip("matplotlib")
    from s2vc.api.plots import plot_frames

    frames = s2vc.info(FILM, frame_list=True).frame_list
    assert frames is not None
    plot_frames(frames, tmp_path / "a.png", title="film")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(s2vc.OutputError, match="exists"):
        plot_frames(frames, tmp_path / "a.png")
    with pytest.raises(s2vc.OutputError, match="is no plot"):
        plot_frames(frames, tmp_path / "a.txt")


PLAYER = """#!{python}
import sys
data = sys.stdin.buffer.read()
with open({seen!r}, "a") as file:
    print(sys.argv[-1], data[:23].decode(), data.count(b"FRAME"), file=file)
"""


@pytest.fixture
def player(tmp_path, monkeypatch):
    """``player(name)`` installs a player of that name that notes what it is given; the notes' path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    seen = tmp_path / "seen"

    def install(name: str) -> Path:
        (folder / name).write_text(PLAYER.format(python=sys.executable, seen=str(seen)))
        (folder / name).chmod(0o755)
        return seen

    return install


@pytest.mark.parametrize("name", ["mpv", "ffplay"])
def test_a_player_gets_the_pictures(player, mini, name):
    from s2vc.api.playing import play

    seen = player(name)
    assert play(FILM, start=Fraction(3, 2), options=["--model", str(mini)]) == 0
    assert seen.read_text() == "- YUV4MPEG2 W50 H38 F25:1 2\n"


def test_the_decoder_says_what_is_wrong(player, capfd):
    from s2vc.api.playing import play

    player("mpv")
    assert play(FILM) == 1
    assert "the file needs model mini-1" in capfd.readouterr().err


def test_no_player(player):
    from s2vc.api.playing import play

    with pytest.raises(s2vc.OutputError, match="install mpv") as caught:
        play(FILM)
    assert "s2vc decode" in str(caught.value) and "\n" not in str(caught.value)


def test_places_that_are_typed():
    from s2vc.api.playing import _place

    said: list[str] = []
    now = Fraction(30)
    asked = {"12.5": 12.5, "1:02\n": 62, "+10": 40, "-1:00": 0, "-10s": 20, "there": 30}
    for text, place in asked.items():
        assert _place(text, now, said.append) == place
    assert len(said) == 1 and "'there' is not a time" in said[0]
