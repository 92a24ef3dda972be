"""Codecs that were run elsewhere: a folder of decoded clips, with the sizes of their files.

FOLDER/sizes.csv          point,clip,bytes        or sizes.json: {"POINT": {"CLIP": bytes}}
FOLDER/POINT/CLIP.mkv     or .mp4, .y4m, or a folder CLIP of PNG; CLIP as in the spec, without its ending
"""

from __future__ import annotations

import csv
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import ValidationInfo, field_validator

from s2vc.bench.codecs.base import Codec, Point
from s2vc.errors import InputError
from s2vc.perceptual import file_sha256

_VIDEOS = (".mkv", ".mp4", ".y4m", ".mov", ".avi")


@cache
def _digest(decoded: Path) -> str:
    """SHA-256 over the names and contents of a file or of a folder's files."""
    total = hashlib.sha256()
    for path in sorted(decoded.iterdir()) if decoded.is_dir() else [decoded]:
        if path.is_file():
            total.update(f"{path.name}\0{file_sha256(path)}\0".encode())
    return total.hexdigest()


class External(Codec):
    """``about`` says what the codec is and how it was run; it stands beside its numbers."""

    kind: Literal["external"]
    folder: Path
    """Relative to the spec."""
    about: str

    @field_validator("folder", mode="after")
    @classmethod
    def _beside_the_spec(cls, folder: Path, info: ValidationInfo) -> Path:
        return Path((info.context or {}).get("folder", ".")) / folder

    def points(self) -> list[Point]:
        return [Point(label=p, variant="", values={"point": p}) for p in sorted(self._sizes())]

    def settings(self) -> dict[str, object]:
        return {"codec": "external", "about": self.about, "charged": "bytes as stated beside the clips"}

    def given(self, clip: Path, point: Point) -> dict[str, object]:
        """What a result stands on: bytes stated, and a digest of the decoded file or files."""
        return {"bytes": self.size(clip, point), "sha256": _digest(self.decoded(clip, point))}

    def size(self, clip: Path, point: Point) -> int:
        """Bytes of the clip's coded file. Raises InputError where they are not stated."""
        sizes = self._sizes()[point.label]
        for name in (clip.stem, clip.name):
            if name in sizes:
                return sizes[name]
        raise InputError(f"no size of {clip.stem} at {point.label} in {self.folder}: state it in sizes.csv")

    def decoded(self, clip: Path, point: Point) -> Path:
        """Where the decoded clip is. Raises InputError where it is missing."""
        place = self.folder / point.label
        for path in (place / clip.stem, *(place / (clip.stem + ending) for ending in _VIDEOS)):
            if path.exists():
                return path
        raise InputError(
            f"no decoded clip {place / clip.stem}: a folder of PNG, or a file {' '.join(_VIDEOS)}"
        )

    def _sizes(self) -> dict[str, dict[str, int]]:
        table, tree = self.folder / "sizes.csv", self.folder / "sizes.json"
        try:
            if tree.is_file():
                content = json.loads(tree.read_text(encoding="utf-8"))
                return {str(p): {str(c): int(b) for c, b in clips.items()} for p, clips in content.items()}
            found: dict[str, dict[str, int]] = {}
            with table.open(encoding="utf-8", newline="") as lines:
                for row in csv.DictReader(lines):
                    found.setdefault(row["point"], {})[row["clip"]] = int(row["bytes"])
            return found
        except OSError as error:
            raise InputError(f"no {table} or {tree.name}: state each clip's bytes there") from error
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            wanted = 'columns point,clip,bytes, or JSON {"POINT": {"CLIP": bytes}}'
            raise InputError(f"sizes in {self.folder} cannot be read: {wanted}") from error
