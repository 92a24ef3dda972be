"""What every codec under test is: an entry of a spec that knows how its own commands are written."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


class Strict(BaseModel):
    """An unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Point(Strict):
    """One setting of one codec: ``values`` are what makes it, ``label`` names files and rows.

    Points of the same ``variant`` (x265's tunes) make one curve.
    """

    label: str
    variant: str
    values: dict[str, int | float | str]


class Codec(Strict):
    """An entry of a spec. ``name`` is that of its rows and folder; without one, the kind's."""

    name: str = ""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: object) -> object:
        if isinstance(values, dict) and not values.get("name"):
            return {**values, "name": cls.default_name(values)}
        return values

    @classmethod
    def default_name(cls, values: dict[str, object]) -> str:
        return str(values.get("kind", ""))

    @abstractmethod
    def points(self) -> list[Point]: ...

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """Everything stated beside the numbers; a change makes old results stale."""


class CommandCodec(Codec):
    """A codec that is run: one command encodes to a file, another one decodes from it.

    ``decode`` leaves something that ``s2vc.bench.frames`` reads under the name ``decoded_name``: lossless
    video that keeps the place of chroma samples (y4m does not), or a folder of PNG.
    """

    suffix: ClassVar[str]
    decoded_name: ClassVar[str] = "decoded.mkv"

    @abstractmethod
    def encode(self, clip: Path, frames: int, point: Point, target: Path) -> list[str]:
        """The command that codes the clip's first ``frames`` frames. Raises S2vcError where there is none."""

    @abstractmethod
    def decode(self, coded: Path, target: Path, clip: Path) -> list[str]:
        """The command that decodes; of ``clip`` it may know the size, and nothing else."""

    def charged(self, coded: Path) -> int:
        """Bytes that count of a coded file."""
        return coded.stat().st_size

    def reported_bpp(self, coded: Path) -> float | None:
        """Bits a pixel of the file as the codec's authors report them, where they count otherwise."""
        return None
