"""libaom: 10 bit, good quality, constant quality in one pass with its default look-ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from s2vc.bench.codecs import av1
from s2vc.bench.codecs.base import Point
from s2vc.bench.codecs.ffmpeg import FfmpegCodec, curves_of


class Aom(FfmpegCodec):
    encoder: ClassVar[str] = "libaom-av1"
    format: ClassVar[str] = "obu"
    suffix: ClassVar[str] = ".obu"
    rate_mode: ClassVar[str] = "constant quality, one pass"
    gop: ClassVar[str] = "one keyframe, default alternate references"
    charge: ClassVar[str] = av1.CHARGE

    kind: Literal["libaom"]
    preset: str = "1"
    """libaom's ``cpu-used``."""
    tunes: tuple[Literal["psnr", "ssim"], ...] = ("psnr",)
    crf: tuple[Annotated[int, Field(ge=0, le=63)], ...] = Field(min_length=1)

    def points(self) -> list[Point]:
        return curves_of(self.tunes, "crf", self.crf)

    def options(self, point: Point) -> list[str]:
        return [
            *["-usage", "good", "-cpu-used", self.preset, "-tune", str(point.values["tune"])],
            *["-crf", f"{point.values['crf']}", "-b:v", "0", "-row-mt", "0", "-threads", "1"],
            *["-g", "99999", "-keyint_min", "99999"],
        ]

    def charged(self, coded: Path) -> int:
        return av1.charged_bytes(coded)
