"""The report's page in a browser: what is drawn, and what hands can do with it.

A page takes longer to load than to use: tests share one, and each brings it into the state that it needs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

FRAMES = 6
OTHER = "x<img src=x onerror=alert(1)> &amp; \"'"


def colour(side: str, frame: int, point: int = 0) -> tuple[int, ...]:
    """As in conftest.py, which paints the pictures so."""
    base = {"source": (40, 200, 90), "ours": (210, 60, 30), "other": (30, 60, 210)}[side]
    return base[0], base[1] + 40 * point, base[2] + 5 * frame


def seen(page: Any, *across: float) -> list[tuple[int, ...]]:
    """RGB of the stage as it is on the screen, at parts of its width and a third of its height."""
    shot = cv2.imdecode(np.frombuffer(page.locator(".stage").screenshot(), np.uint8), cv2.IMREAD_COLOR)
    height, width = shot.shape[:2]
    return [tuple(shot[height // 3, int(x * width)][::-1].tolist()) for x in across]


def wait_for_frame(page: Any, number: int) -> None:
    page.wait_for_function(f"document.querySelector('#frame').textContent === 'Frame {number} of {FRAMES}'")


def wait_for_side(page: Any, side: str, label: str) -> None:
    """Until the side of this label is drawn."""
    page.wait_for_function(
        "([side, label]) => document.querySelector(`[data-side=${side}] .tag`).textContent.startsWith(label)"
        " && !document.querySelector('#frame').textContent.includes('Frame 0')",
        arg=[side, label],
    )


@pytest.fixture(scope="module")
def opened(example: Path, open_page: Any) -> tuple[Any, list[str], list[str]]:
    """The page, the troubles it has, and what it had asked for when it was drawn."""
    page, troubles, asked = open_page(example)
    return page, troubles, list(asked)


@pytest.fixture
def page(opened: tuple[Any, list[str], list[str]]) -> Iterator[Any]:
    """The report as it opens, frame 1, wipe, whole pictures, A: ours q1, B: the other's q1."""
    page, troubles, _ = opened
    page.select_option("#clip", label="plain.mkv")
    for select, label in (("#choose-a", "ours q1"), ("#choose-b", f"{OTHER} q1")):
        value = page.evaluate(
            "([select, label]) => [...document.querySelectorAll(`${select} option`)]"
            ".find(option => option.textContent.startsWith(label)).value",
            [select, label],
        )
        page.select_option(select, value)
    page.focus(".stage")
    for key in ("w", "0", "Home"):
        page.keyboard.press(key)
    wait_for_frame(page, 1)
    yield page
    assert troubles == []


def test_the_wipe(page: Any) -> None:
    # source, A and B from left to right
    assert seen(page, 0.1, 0.5, 0.9) == [colour("source", 0), colour("ours", 0), colour("other", 0)]
    handle, stage = (page.locator(which).bounding_box() for which in (".wipe >> nth=1", ".stage"))
    y = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(stage["x"] + 0.45 * stage["width"], y, steps=3)
    page.mouse.up()
    assert page.get_attribute(".wipe >> nth=1", "aria-valuenow") == "45"
    assert seen(page, 0.4, 0.5) == [colour("ours", 0), colour("other", 0)]

    page.keyboard.press("Home")  # the handle has the focus: B covers everything
    assert seen(page, 0.1, 0.9) == [colour("other", 0)] * 2
    page.keyboard.press("End")
    page.focus(".wipe >> nth=0")
    page.keyboard.press("PageUp")
    assert page.get_attribute(".wipe >> nth=0", "aria-valuenow") == "10"
    assert seen(page, 0.05, 0.5) == [colour("source", 0), colour("ours", 0)]


def test_frames(page: Any) -> None:
    page.keyboard.press("2")  # A alone
    page.click("#forward")
    wait_for_frame(page, 2)
    assert seen(page, 0.5) == [colour("ours", 1)]
    page.focus(".stage")
    page.keyboard.press("End")
    wait_for_frame(page, FRAMES)
    page.keyboard.press("ArrowLeft")
    wait_for_frame(page, FRAMES - 1)
    assert seen(page, 0.5) == [colour("ours", FRAMES - 2)]

    page.keyboard.press("Home")
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('#frame').textContent.startsWith('Frame 4')")
    page.keyboard.press("Space")
    assert page.get_attribute("#play", "aria-label") == "Play"
    stopped = page.inner_text("#frame")
    page.wait_for_timeout(250)
    assert page.inner_text("#frame") == stopped


def test_other_points_on_the_sides(page: Any) -> None:
    page.keyboard.press("ArrowRight")
    wait_for_frame(page, 2)
    page.keyboard.press("e")  # side by side
    page.select_option("#choose-a", index=1)
    wait_for_side(page, "a", "ours q2")
    shown = [colour("source", 1), colour("ours", 1, point=1), colour("other", 1)]
    assert seen(page, 0.1, 0.5, 0.9) == shown
    page.click("#swap")
    wait_for_side(page, "b", "ours q2")
    assert seen(page, 0.1, 0.5, 0.9) == [shown[0], shown[2], shown[1]]
    page.locator("#layout label", has_text="Source").click()
    assert seen(page, 0.1, 0.9) == [colour("source", 1)] * 2


def test_zoom_and_pan_are_the_same_on_all_sides(page: Any) -> None:
    shown = page.locator(".stage canvas:visible")

    def transforms() -> set[str]:
        return set(shown.evaluate_all("all => all.map(one => getComputedStyle(one).transform)"))

    assert shown.count() > 1
    page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowRight")
    assert page.inner_text("#zoom") == "2×"
    (only,) = transforms()
    scale, _, _, _, x, _ = (float(value) for value in only[len("matrix(") : -1].split(","))
    box = page.locator(".stage").bounding_box()
    assert scale == 2 and x == pytest.approx(-0.6 * box["width"], abs=1)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 30, box["y"] + 50)
    page.mouse.up()
    (dragged,) = transforms()
    assert float(dragged[len("matrix(") : -1].split(",")[4]) == pytest.approx(x + 30, abs=1)


def test_names_are_texts_and_figures_are_exact(page: Any) -> None:
    assert page.locator("img").count() == 0
    assert page.text_content("h1") == f"ours, {OTHER}"
    for where in ("#points-table", "#means-table", "#settings", "#anchor"):
        assert OTHER in page.text_content(where), where
    assert "</script><i>" in page.text_content("#settings")
    assert page.locator("#clip-plot .legendtext").evaluate_all("all => all.map(one => one.textContent)") == [
        "ours",
        OTHER,
    ]

    page.hover("#clip-plot .scatterlayer .trace >> nth=0 >> .point >> nth=0", force=True)
    page.wait_for_selector("#clip-plot .hovertext", state="attached")
    shown = page.text_content("#clip-plot .hovertext")
    assert "0.0123456 bits a pixel" in shown and shown.endswith("DISTS (VGG-16) 0.3")

    # nothing offers to send figures elsewhere
    assert page.locator(".modebar").count() == 3
    assert "share" not in page.locator(".modebar").first.inner_html().lower()

    page.select_option("#anchor", "ours")
    assert OTHER in page.text_content("#comparison-table thead")
    # at each quality the other costs 0.023 where ours costs 0.0123456
    assert "+86.3 %" in page.text_content("#comparison-table .mean")
    page.select_option("#metric", "psnr")
    page.wait_for_function("document.querySelector('#clip-plot .ytitle').textContent === 'psnr, dB'")
    assert "PSNR" in page.text_content("#frames-caption")


def test_pictures_are_loaded_when_they_are_looked_at(
    opened: tuple[Any, list[str], list[str]], page: Any, example: Path
) -> None:
    _, _, asked = opened
    # of the five sets beside the page the source, A and B, and nothing from elsewhere
    assert len(list(example.parent.glob("media/*"))) == 5
    assert asked[0] == example.as_uri() and len(asked) == 4
    assert all(url.startswith("file:") and url.endswith("/0.webp") for url in asked[1:])
    page.select_option("#clip", index=0)
    page.wait_for_function("document.querySelector('.player').classList.contains('empty')")
    assert "was not kept" in page.inner_text(".stage")
    assert page.locator("#clip-plot .scatterlayer .trace").count() == 2


def test_dark_and_narrow_and_a_picture_that_is_lost(example: Path, open_page: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(example.parent, tmp_path / "copy")
    for path in copy.glob("media/*/0.webp"):
        path.unlink()
    page, troubles, _ = open_page(copy / "index.html", width=360, dark=True)
    page.wait_for_function("document.querySelector('.stage').innerText.includes('is not beside this page')")
    # Chromium itself says which files it did not find
    assert troubles and all("ERR_FILE_NOT_FOUND" in said for said in troubles)

    def background() -> Any:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert background() == "rgb(15, 19, 24)"
    page.click("text=Light")
    assert background() == "rgb(255, 255, 255)"
    page.wait_for_function("document.querySelector('#clip-plot .main-svg').style.background.includes('255')")
    page.click("text=Dark")
    assert background() == "rgb(15, 19, 24)"
    unnamed = (
        "[...document.querySelectorAll('button, select, input')].filter("
        "e => !(e.labels && e.labels.length) && !e.getAttribute('aria-label') && !e.textContent.trim())"
        ".map(e => e.outerHTML)"
    )
    assert page.evaluate(unnamed) == []
