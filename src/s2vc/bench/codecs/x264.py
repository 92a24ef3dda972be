"""x264, as most of the world's video is coded: 8 bit, constant rate factor."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from s2vc.bench.codecs.base import Point
from s2vc.bench.codecs.ffmpeg import FfmpegCodec, curves_of


class X264(FfmpegCodec):
    encoder: ClassVar[str] = "libx264"
    format: ClassVar[str] = "h264"
    suffix: ClassVar[str] = ".h264"
    rate_mode: ClassVar[str] = "crf"

    kind: Literal["x264"]
    preset: str = "veryslow"
    bit_depth: Literal[8, 10] = 8
    tunes: tuple[Literal["none", "film", "animation", "grain", "psnr", "ssim"], ...] = ("none",)
    crf: tuple[Annotated[float, Field(ge=0, le=51)], ...] = Field(min_length=1)

    def points(self) -> list[Point]:
        return curves_of(self.tunes, "crf", self.crf)

    def options(self, point: Point) -> list[str]:
        tune = point.values["tune"]
        return [
            *["-preset", self.preset, *([] if tune == "none" else ["-tune", str(tune)])],
            *["-crf", f"{point.values['crf']:g}"],
            *["-x264-params", "keyint=infinite:min-keyint=1:scenecut=0:threads=1"],
            *["-bsf:v", "filter_units=remove_types=6"],  # the SEI that names the encoder
        ]
