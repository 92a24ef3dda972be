"""VVenC: 10 bit, constant quantisation parameter, with and without its perceptual optimisation."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from s2vc.bench.codecs.base import Point
from s2vc.bench.codecs.ffmpeg import FfmpegCodec, curves_of


class Vvenc(FfmpegCodec):
    encoder: ClassVar[str] = "libvvenc"
    format: ClassVar[str] = "vvc"
    suffix: ClassVar[str] = ".vvc"
    rate_mode: ClassVar[str] = "qp"
    gop: ClassVar[str] = "one I-frame, default random access structure"
    charge: ClassVar[str] = "elementary stream without SEI and access unit delimiters"

    kind: Literal["vvenc"]
    preset: str = "medium"
    bit_depth: Literal[10] = 10
    tunes: tuple[Literal["qpa", "psnr"], ...] = ("qpa",)
    """``qpa`` is the encoder's default, perceptually motivated; ``psnr`` is without."""
    qp: tuple[Annotated[int, Field(ge=0, le=63)], ...] = Field(min_length=1)

    def points(self) -> list[Point]:
        return curves_of(self.tunes, "qp", self.qp)

    def options(self, point: Point) -> list[str]:
        return [
            *["-preset", self.preset, "-qp", f"{point.values['qp']}"],
            *["-qpa", "1" if point.values["tune"] == "qpa" else "0", "-threads", "1"],
            *["-vvenc-params", "intraperiod=-1"],
            *["-bsf:v", "filter_units=remove_types=20|23|24"],  # delimiters, prefix and suffix SEI
        ]
