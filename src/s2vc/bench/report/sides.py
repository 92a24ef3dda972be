"""The player's sides: sources and decodings as pictures, or the reason why there are none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from s2vc.bench.frames import conversion, read_rgb
from s2vc.bench.report.data import Kept, Result
from s2vc.bench.report.media import Pictures, decoded_by_ffmpeg, decoded_ours, write_pictures
from s2vc.bench.results import read_json
from s2vc.bench.spec import DATA_VARIABLE
from s2vc.errors import InputError, OutputError, S2vcError

Say = Callable[[str], None]


def add_pictures(
    data: dict[str, Any],
    results: Sequence[Result],
    kept: Kept,
    page: Path,
    clips: str | Path | None,
    say: Say,
) -> None:
    """Set ``pictures`` of ``data``'s clips and points: a ``Pictures`` object, or {"why": one line}.

    A source is read only for a clip of which a coded file was kept.
    """
    good = [result for result in results if "error" not in result]
    files = [kept.get((r["codec"], Path(r["clip"]["name"]).stem, r["label"])) for r in good]
    wanted = {r["clip"]["name"] for r, file in zip(good, files, strict=True) if file is not None}
    folder = Path(clips) if clips is not None else Path(os.environ.get(DATA_VARIABLE) or os.devnull)
    if clips is not None and not folder.is_dir():
        raise InputError(f"no folder {folder}: name the folder of the clips with --clips")
    sources = _find(wanted, folder) if wanted else {}
    for clip in data["clips"]:
        clip["pictures"] = {"why": "no coded file of this clip was kept (s2vc bench run --keep-files)"}
        if clip["name"] in wanted:
            say(f"pictures of {clip['name']}")
            with _said(clip, clip["name"], say):
                path = _chosen(next(r for r in good if r["clip"]["name"] == clip["name"]), sources)
                clip["rate"] = clip["rate"] or _rate(path)
                clip["pictures"] = vars(_source(path, clip["frames"], page))
        for point, result, file in zip(data["points"], good, files, strict=True):
            if data["clips"][point["clip"]] is not clip:
                continue
            point["pictures"] = {"why": "its coded file was not kept (s2vc bench run --keep-files)"}
            if file is not None:
                with _said(point, f"{result['codec']} {clip['name']} {point['label']}", say):
                    point["pictures"] = vars(_point(result, file, page))


@contextmanager
def _said(about: dict[str, Any], name: str, say: Say) -> Iterator[None]:
    """What fails is said, in the page too, and the rest goes on; a page that cannot be written is no page."""
    try:
        yield
    except OutputError:
        raise
    except S2vcError as error:
        say(f"no pictures of {name}: {error}")
        about["pictures"] = {"why": str(error)}


def _find(names: set[str], folder: Path) -> dict[str, list[Path]]:
    """Files of these names under the folder."""
    found: dict[str, list[Path]] = {}
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in names & set(files):
            found.setdefault(name, []).append(Path(place) / name)
    return found


def _chosen(result: Result, sources: dict[str, list[Path]]) -> Path:
    """The source that was measured: by name, and by digest where the result has one."""
    name, digest = result["clip"]["name"], result["clip"].get("sha256")
    paths = sources.get(name, [])
    for path in paths:
        if digest is None or _sha256(path) == digest:
            return path
    if paths:
        raise InputError(f"{paths[0]} is not the source that was measured: its SHA-256 differs")
    raise InputError(f"the source {name} was not found: name its folder with --clips")


def _source(path: Path, count: int, page: Path) -> Pictures:
    key = f"source {_sha256(path)} {count} {conversion()}"
    return write_pictures(_counted(read_rgb(path, count), count), page, key)


def _point(result: Result, file: Path, page: Path) -> Pictures:
    record = read_json(file.with_name(file.name + ".json"))
    if record and any(result.get(key) != value for key, value in (record.get("request") or {}).items()):
        raise InputError(f"{file.name} is of another run than the result")
    settings, count = result["settings"], result["frames"]
    # only what was coded smaller is scaled: where nothing is to be scaled, a scaler has no business
    size = (result["width"], result["height"]) if settings.get("scale", 1) != 1 else None

    def frames() -> Iterator[np.ndarray]:
        ours = settings.get("codec") == "s2vc"
        with decoded_ours(file) if ours else decoded_by_ffmpeg(file, size) as video:
            yield from _counted(read_rgb(video), count)

    key = f"decoded {settings.get('codec')} {size} {_sha256(file)} {conversion()}"
    return write_pictures(frames(), page, key)


def _sha256(path: Path) -> str:
    # with torch in its wake, which a player of two videos does not need
    from s2vc.perceptual import file_sha256

    return file_sha256(path)


def _counted(frames: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The frames, if they are as many as were measured."""
    seen = 0
    for frame in frames:
        seen += 1
        yield frame
    if seen != count:
        raise S2vcError(f"{seen} frames came back, {count} were measured")


def _rate(path: Path) -> float | None:
    from s2vc.video import open_video

    with open_video(path, frames=1) as reader:
        rate = reader.info.average_rate
    return None if rate is None else float(rate)


def view_sides(
    paths: dict[str, Path], page: Path, frames: int | None, model: str | None, device: str, say: Say
) -> dict[str, Any]:
    """{"rate": frames a second, "sides": {side: {"label", "pictures", "aspect"}}} of files to look at.

    ``model`` and ``device`` are for files of ours.
    """
    sides: dict[str, Any] = {}
    rate: Fraction | None = None
    for side, path in paths.items():
        say(f"pictures of {path}" + ("" if frames is None else f", at most {frames}"))
        if path.suffix == ".s2vc":
            with decoded_ours(path, frames, model, device) as video:
                made, found = _file(video, path, page, frames)
        else:
            made, found = _file(path, path, page, frames)
        rate = rate or found
        sides[side] = {"label": path.name, **made}
    return {"rate": float(rate or 25), "sides": sides}


def _file(video: Path, named: Path, page: Path, limit: int | None) -> tuple[dict[str, Any], Fraction | None]:
    """The pictures of a file, upright, and its rate; its shape as shown is ``aspect``."""
    from s2vc.video import open_video

    with open_video(video, frames=limit) as reader:
        info = reader.info
        turns = info.rotation // 90
        stat = named.stat()
        key = f"view {named.resolve()} {stat.st_size} {stat.st_mtime_ns} {limit} {turns} {conversion()}"
        pictures = write_pictures((np.rot90(frame.rgb, -turns) for frame in reader), page, key)
    aspect = info.width * info.sample_aspect_ratio / info.height
    return {
        "pictures": vars(pictures),
        "aspect": float(1 / aspect if turns % 2 else aspect),
    }, info.average_rate
