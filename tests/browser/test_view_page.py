"""``s2vc view``: the player alone, for two files and their source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def test_two_videos_and_their_source(
    open_page: Any, tmp_path: Path, paint: Callable[..., Path], s2vc_command: Callable[..., Any]
) -> None:
    source = paint(tmp_path / "source.mkv", (10, 20, 30), 4)
    longer = paint(tmp_path / "a&<b>.mkv", (200, 20, 30), 5)
    shorter = paint(tmp_path / "b.mkv", (10, 20, 200), 3)
    out = tmp_path / "out"
    ran = s2vc_command("view", longer, shorter, "--source", source, "--out", out, "-q")
    assert (ran.code, ran.err) == (0, "")
    page, troubles, asked = open_page(out / "index.html")
    assert page.title().startswith("a&<b>.mkv and b.mkv")

    def seen(across: float) -> list[int]:
        picture = cv2.imdecode(np.frombuffer(page.locator(".stage").screenshot(), np.uint8), cv2.IMREAD_COLOR)
        return picture[picture.shape[0] // 3, int(across * picture.shape[1])][::-1].tolist()

    assert [seen(x) for x in (0.1, 0.5, 0.9)] == [[10, 20, 30], [200, 20, 30], [10, 20, 200]]
    page.keyboard.press("End")  # the player has the focus from the start
    page.wait_for_function("document.querySelector('#frame').textContent === 'Frame 5 of 5'")
    # what ended earlier stays on its last picture, and says so
    assert [seen(x) for x in (0.1, 0.5, 0.9)] == [[13, 20, 30], [204, 20, 30], [12, 20, 200]]
    assert page.text_content("[data-side=b] .tag") == "b.mkv (ended)"
    assert troubles == [] and all(url.startswith("file:") for url in asked)
