"""SVT-AV1: 10 bit, constant rate factor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from s2vc.bench.codecs import av1
from s2vc.bench.codecs.base import Point
from s2vc.bench.codecs.ffmpeg import FfmpegCodec, curves_of

_TUNES = {"vq": 0, "psnr": 1, "ssim": 2, "ms-ssim": 4}


class SvtAv1(FfmpegCodec):
    encoder: ClassVar[str] = "libsvtav1"
    format: ClassVar[str] = "obu"
    suffix: ClassVar[str] = ".obu"
    rate_mode: ClassVar[str] = "crf"
    gop: ClassVar[str] = "one keyframe, default random access structure"
    charge: ClassVar[str] = av1.CHARGE

    kind: Literal["svt-av1"]
    preset: str = "4"
    tunes: tuple[Literal["vq", "psnr", "ssim", "ms-ssim"], ...] = ("psnr",)
    crf: tuple[Annotated[float, Field(ge=1, le=70, multiple_of=0.25)], ...] = Field(min_length=1)

    def points(self) -> list[Point]:
        return curves_of(self.tunes, "crf", self.crf)

    def options(self, point: Point) -> list[str]:
        # crf here, not as ffmpeg's own option, which ends at 63
        more = f"crf={point.values['crf']:g}:tune={_TUNES[str(point.values['tune'])]}:keyint=-1:scd=0:lp=1"
        return ["-preset", self.preset, "-svtav1-params", more]

    def charged(self, coded: Path) -> int:
        return av1.charged_bytes(coded)
