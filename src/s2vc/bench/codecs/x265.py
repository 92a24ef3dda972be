"""x265: 10 bit, constant rate factor; one thread without wavefronts, which gives the smallest file."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from s2vc.bench.codecs.base import Point
from s2vc.bench.codecs.ffmpeg import FfmpegCodec, curves_of


class X265(FfmpegCodec):
    encoder: ClassVar[str] = "libx265"
    format: ClassVar[str] = "hevc"
    suffix: ClassVar[str] = ".hevc"
    rate_mode: ClassVar[str] = "crf"

    kind: Literal["x265"]
    preset: str = "veryslow"
    tunes: tuple[Literal["none", "psnr", "ssim", "grain", "animation"], ...] = ("none",)
    crf: tuple[Annotated[float, Field(ge=0, le=51)], ...] = Field(min_length=1)

    def points(self) -> list[Point]:
        return curves_of(self.tunes, "crf", self.crf)

    def options(self, point: Point) -> list[str]:
        tune = point.values["tune"]
        more = "keyint=-1:min-keyint=1:scenecut=0:info=0:pools=none:frame-threads=1:log-level=error"
        return [
            *["-preset", self.preset, *([] if tune == "none" else ["-tune", str(tune)])],
            *["-crf", f"{point.values['crf']:g}", "-x265-params", more],
        ]
