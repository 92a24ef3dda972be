"""Codecs under test, one small adapter a file: entries of a spec that know how their commands are written."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from s2vc.bench.codecs.aom import Aom
from s2vc.bench.codecs.base import Codec, CommandCodec, Point, Strict
from s2vc.bench.codecs.external import External
from s2vc.bench.codecs.ffmpeg import ffmpeg, ffmpeg_version
from s2vc.bench.codecs.ours import Ours
from s2vc.bench.codecs.published import Published
from s2vc.bench.codecs.svt_av1 import SvtAv1
from s2vc.bench.codecs.vvenc import Vvenc
from s2vc.bench.codecs.x264 import X264
from s2vc.bench.codecs.x265 import X265

AnyCodec = Annotated[
    X264 | X265 | SvtAv1 | Aom | Vvenc | Ours | External | Published, Field(discriminator="kind")
]
"""What stands under ``codecs`` in a spec."""

__all__ = [
    "X264",
    "X265",
    "AnyCodec",
    "Aom",
    "Codec",
    "CommandCodec",
    "External",
    "Ours",
    "Point",
    "Published",
    "Strict",
    "SvtAv1",
    "Vvenc",
    "ffmpeg",
    "ffmpeg_version",
]
