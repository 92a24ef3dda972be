"""A browser, and a report whose every pixel is known."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FRAMES = 6
SIZE = (64, 48)
CLIPS = ("plain.mkv", "<b>o & \"q'.mkv")
CODECS = ("ours", "x<img src=x onerror=alert(1)> &amp; \"'")
POINTS = ("q1", "q2")


def colour(side: str, frame: int, point: int = 0) -> tuple[int, int, int]:
    """RGB of the middle of a picture: which side, which of its points and which frame can be read from it."""
    base = {"source": (40, 200, 90), "ours": (210, 60, 30), "other": (30, 60, 210)}[side]
    return base[0], base[1] + 40 * point, base[2] + 5 * frame


def pictures(side: str, point: int = 0, count: int = FRAMES) -> list[np.ndarray]:
    return [np.full((SIZE[1], SIZE[0], 3), colour(side, frame, point), np.uint8) for frame in range(count)]


def write_clip(path: Path, frames: list[np.ndarray]) -> Path:
    """Lossless, 10 frames a second."""
    from s2vc.video import Frame, VideoInfo, open_output

    path.parent.mkdir(parents=True, exist_ok=True)
    info = VideoInfo(*SIZE, time_base=Fraction(1, 10), average_rate=Fraction(10))
    # the name under test may be one that no video has
    part = path.with_name("part.mkv")
    with open_output(part, info, lossless=True, overwrite=True) as writer:
        for number, rgb in enumerate(frames):
            writer.write(Frame(rgb, number, 1))
    part.replace(path)
    return path


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a report of two clips and two codecs; no coded file of the second clip was kept."""
    for package in ("torch", "plotly", "jinja2", "bjontegaard"):
        pytest.importorskip(package)
    from s2vc.bench.report import write_report
    from s2vc.bench.results import write_json

    results, clips, out = (tmp_path_factory.mktemp(name) for name in ("results", "clips", "report"))
    for clip in CLIPS:
        source = write_clip(clips / clip, pictures("source"))
        for codec, side in zip(CODECS, ("ours", "other"), strict=True):
            for point, label in enumerate(POINTS):
                coded = results / ".files" / codec / Path(clip).stem / f"{label}.mkv"
                write_clip(coded, pictures(side, point))
                size = coded.stat().st_size
                if clip == CLIPS[1]:
                    coded.unlink()
                rate = (0.0123456 if side == "ours" else 0.023) * (1 + point)
                result = make_result(source, codec, label, size, rate, 0.3 - 0.1 * point)
                write_json(results / codec / Path(clip).stem / f"{label}.json", result)
    return write_report([results], out, clips=clips)


def make_result(source: Path, codec: str, label: str, size: int, bpp: float, dists: float) -> dict[str, Any]:
    from s2vc.perceptual import file_sha256

    return {
        "schema": 1, "codec": codec, "variant": "", "label": label,
        "clip": {"name": source.name, "sha256": file_sha256(source)},
        "settings": {"codec": "none", "note": "</script><i>"},
        "width": SIZE[0], "height": SIZE[1], "frames": FRAMES, "bytes": size, "bpp": bpp,
        "metrics": {
            "psnr": {"mean": 40 - 50 * dists, "frames": [40 - 50 * dists] * FRAMES},
            "dists": {"mean": dists, "frames": [dists + 0.01 * n for n in range(FRAMES)]},
        },
        "missing": {}, "measured_with": {"step": 1},
        "encode": {"command": "encode <x>", "seconds": 2.0}, "decode": {"command": "decode", "seconds": 0.5},
    }  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The system's Chromium, without a window."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="make setup brings playwright")
    with playwright.sync_playwright() as driver:
        # CI runs as root, where Chromium's sandbox does not start
        launched = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def open_page(browser: Any) -> Iterator[Any]:
    """``open_page(path, width=1280, dark=False)``: (page, troubles, asked) when all is drawn.

    ``troubles`` grows by what is said in its console as warning or error, ``asked`` by the files it loads.
    """
    contexts = []

    def open_it(path: Path, width: int = 1280, dark: bool = False) -> tuple[Any, list[str], list[str]]:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        troubles: list[str] = []
        asked: list[str] = []
        page.set_default_timeout(120_000)  # a busy machine is no error
        page.on(
            "console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else 0
        )
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_function("document.querySelector('#frame').textContent !== ''")
        if "report" in page.get_attribute("body", "class"):
            page.wait_for_selector("#frames-plot .main-svg", state="attached")
        return page, troubles, asked

    yield open_it
    for context in contexts:
        context.close()


@pytest.fixture
def paint() -> Callable[..., Path]:
    """``paint(path, rgb, count)``: a clip of plain pictures, the red of the next always one more."""

    def write(path: Path, rgb: tuple[int, int, int], count: int) -> Path:
        red, green, blue = rgb
        frames = [np.full((SIZE[1], SIZE[0], 3), (red + n, green, blue), np.uint8) for n in range(count)]
        return write_clip(path, frames)

    return write
