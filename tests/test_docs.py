"""Every command and program on the pages of docs/ runs as it stands there.

A fence of ``sh`` or ``python`` is run, in the order of the page, in a folder of the page's own that holds
``in.mp4`` (twelve frames with sound) and ``clips``. Where that cannot be, ``<!-- not run: why -->`` stands
before the fence.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
# Their commands train, import or measure for hours; other tests run short forms of them.
ELSEWHERE = {"training.md", "base.md", "benchmarks.md", "metrics.md", "report.md", "decisions.md"}
PAGES = sorted(
    page
    for page in DOCS.rglob("*.md")
    if page.name not in ELSEWHERE and re.search(r"^```(sh|python)$", page.read_text(), re.MULTILINE)
)
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>.+?) -->\n)?```(?P<kind>sh|python)\n(?P<text>.*?)^```$", re.M | re.S
)


@pytest.fixture(scope="module")
def ffmpeg(tmp_path_factory) -> Path:
    """A folder with FFmpeg's program and ours, for PATH."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    folder = tmp_path_factory.mktemp("bin")
    (folder / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    return folder


def run_shell(text: str, folder: Path, path: Path) -> None:
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PATH": os.pathsep.join([str(path), str(Path(sys.executable).parent), os.environ["PATH"]]),
        },
    )
    assert ran.returncode == 0, f"{text}\n{ran.stderr}"


def run_lines(text: str, folder: Path, path: Path) -> None:
    """Line by line; plain ``s2vc`` commands in this process. ``# exit 3`` behind one: so it ends."""
    from s2vc.cli.app import app

    for line in text.splitlines():
        command = shlex.split(line, comments=True)
        if command[:1] == ["s2vc"]:
            with pytest.raises(SystemExit) as ended:
                app(args=command[1:], prog_name="s2vc")
            said = re.search(r"# exit (\d+)", line)
            assert (ended.value.code or 0) == int(said[1] if said else 0), line
        elif command:
            run_shell(line, folder, path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_runs(page, film, ffmpeg, tmp_path, monkeypatch):
    from s2vc.cli import guard

    monkeypatch.setattr(guard, "_unwind_on_signals", lambda: None)
    monkeypatch.setattr(guard.warnings, "simplefilter", lambda *given, **named: None)
    film(tmp_path / "in.mp4", frames=12, sound=(("aac", 44100, "eng"),))
    (tmp_path / "clips").mkdir()
    film(tmp_path / "clips" / "one.mp4", frames=3)
    monkeypatch.chdir(tmp_path)
    for fence in FENCE.finditer(page.read_text()):
        if fence["why"]:
            continue
        if fence["kind"] == "python":
            exec(compile(fence["text"], f"{page.name}: program", "exec"), {"__name__": "__main__"})
        elif re.search(r"[|$]|^ ", fence["text"], re.M):  # pipes, loops
            run_shell(fence["text"], tmp_path, ffmpeg)
        else:
            run_lines(fence["text"], tmp_path, ffmpeg)


def test_every_page_is_read():
    assert {page.stem for page in PAGES} >= {
        "index",
        "files",
        "sound",
        "pipes",
        "damage",
        "archive",
        "python",
    }
    skipped = [fence["why"] for page in PAGES for fence in FENCE.finditer(page.read_text()) if fence["why"]]
    assert len(skipped) <= 4


def test_cli_reference_is_made_of_the_commands():
    pytest.importorskip("mkdocs")
    namespace: dict[str, object] = {"__name__": "cli_reference"}
    exec((DOCS / "hooks" / "cli_reference.py").read_text(), namespace)
    text = namespace["cli_reference"]()  # type: ignore[operator]
    assert text.startswith("# Command line")
    for option in ("--audio", "--quality", "--lossless"):
        assert option in text
    for command in ("encode", "decode", "info", "verify"):
        assert f"## `s2vc {command}`" in text


@pytest.mark.slow
def test_site_builds(tmp_path):
    """Strictly: no page is missing, no name of the reference unknown."""
    pytest.importorskip("mkdocs")
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=DOCS.parent,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "s2vc encode" in (tmp_path / "site" / "reference" / "cli" / "index.html").read_text()
    assert "video_bytes" in (tmp_path / "site" / "reference" / "api" / "index.html").read_text()


def test_shell_completion(s2vc_command):
    """What a shell asks for when Tab is pressed."""
    asked = {"_S2VC_COMPLETE": "complete_bash", "COMP_WORDS": "s2vc enc", "COMP_CWORD": "1"}
    assert s2vc_command(env=asked).out.split() == [b"encode"]
