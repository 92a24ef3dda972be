"""A picture of a file's frames: sizes, kinds and qualities. Needs matplotlib (the extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s2vc.errors import OutputError

from .inspection import FrameInfo


def plot_frames(
    frames: Sequence[FrameInfo], target: str | Path, title: str = "", overwrite: bool = False
) -> None:
    """Bars of the frames' bytes by kind, and below them their quality, as .png, .svg or .pdf.

    Raises OutputError; ModuleNotFoundError without matplotlib.
    """
    from matplotlib.figure import Figure

    path = Path(target)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise OutputError(f"{target} is no plot: name a .png, .svg or .pdf file")
    if path.exists() and not overwrite:
        raise OutputError(f"{target} exists: give -y to overwrite it, or another name")
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    sizes, qualities = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for name, colour in (("I-frame", "#c0392b"), ("reset", "#e08e0b"), ("P-frame", "#2c6fbb")):
        group = [frame for frame in frames if _name(frame) == name]
        if group:
            numbers, heights = [frame.number for frame in group], [frame.bytes for frame in group]
            sizes.bar(numbers, heights, 1.0, color=colour, label=name)
    sizes.set_ylabel("bytes")
    sizes.legend(loc="upper right")
    sizes.set_title(title)
    qualities.step([frame.number for frame in frames], [frame.quality for frame in frames], where="mid")
    qualities.set_ylabel("quality")
    qualities.set_ylim(0, 63)
    qualities.set_xlabel("frame")
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise OutputError(f"cannot write {target} ({error.strerror}): choose another output") from None


def _name(frame: FrameInfo) -> str:
    return "I-frame" if frame.kind == "I" else "reset" if frame.reset else "P-frame"
