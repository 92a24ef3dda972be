"""Codecs that are run through ffmpeg: the imageio-ffmpeg wheel's binary, or the one S2VC_FFMPEG names."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
from abc import abstractmethod
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from s2vc.bench.codecs.base import CommandCodec, Point
from s2vc.errors import InputError
from s2vc.video.ffmpeg import FFMPEG_VARIABLE, ffmpeg


def ffmpeg_version() -> str:
    """What a result says of the ffmpeg it was made with."""
    shown = _ask(ffmpeg(), "-version").split()[2]
    if os.environ.get(FFMPEG_VARIABLE):
        return f"{shown} ({FFMPEG_VARIABLE})"
    return f"{shown} (imageio-ffmpeg {importlib.metadata.version('imageio-ffmpeg')})"


def check_encoder(name: str) -> None:
    """Raises InputError where the ffmpeg build has no such encoder."""
    if name not in _ask(ffmpeg(), "-encoders").split():
        raise InputError(f"this ffmpeg build has no {name}: name another one with {FFMPEG_VARIABLE}")


@cache
def _ask(program: str, question: str) -> str:
    try:
        return subprocess.run(
            [program, "-hide_banner" if question != "-version" else "-nostdin", question],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"{program} cannot be run as ffmpeg: check {FFMPEG_VARIABLE}: {error}") from error


class FfmpegCodec(CommandCodec):
    """One thread, so that the same file comes out every time; one I-frame; the encoder's own B-frames.

    ``scale``: code the picture at this part of its width and height, and scale it up again after decoding
    (Lanczos both ways); such an entry is another codec and its name says so.
    """

    encoder: ClassVar[str]
    format: ClassVar[str]
    gop: ClassVar[str] = "one I-frame, default B-frames"
    rate_mode: ClassVar[str]
    charge: ClassVar[str] = "elementary stream without informational SEI"

    preset: str
    bit_depth: Literal[8, 10] = 10
    scale: float = Field(default=1, gt=0, le=1)

    @classmethod
    def default_name(cls, values: dict[str, object]) -> str:
        scale = values.get("scale", 1)
        return str(values.get("kind", "")) + ("" if scale == 1 else f"-scaled-{scale}")

    @abstractmethod
    def options(self, point: Point) -> list[str]:
        """The encoder's own options, bit depth and file format left out."""

    def encode(self, clip: Path, frames: int, point: Point, target: Path) -> list[str]:
        check_encoder(self.encoder)
        smaller = f"scale=trunc(iw*{self.scale:g}/2+.5)*2:trunc(ih*{self.scale:g}/2+.5)*2:flags={_SCALER}"
        return [
            *[ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-threads", "1"],
            *["-noautorotate", "-i", str(clip), "-map", "0:v:0", "-frames:v", str(frames)],
            *["-fps_mode", "passthrough", *([] if self.scale == 1 else ["-vf", smaller])],
            *["-c:v", self.encoder, *self.options(point)],
            *["-pix_fmt", "yuv420p" if self.bit_depth == 8 else "yuv420p10le"],
            *["-f", self.format, str(target)],
        ]

    def decode(self, coded: Path, target: Path, clip: Path) -> list[str]:
        larger = []
        if self.scale != 1:
            from s2vc.bench.frames import picture_size

            larger = ["-vf", "scale={}:{}:flags={}".format(*picture_size(clip), _SCALER)]
        return [
            *[ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-threads", "1"],
            *["-i", str(coded), "-fps_mode", "passthrough", *larger, "-c:v", "ffv1", str(target)],
        ]

    def settings(self) -> dict[str, object]:
        found: dict[str, object] = {
            "codec": getattr(self, "kind", ""),
            "ffmpeg": ffmpeg_version(),
            "preset": self.preset,
            "rate": self.rate_mode,
            "frames": self.gop,
            "bit_depth": self.bit_depth,
            "charged": self.charge,
        }
        return found if self.scale == 1 else {**found, "scale": self.scale}


_SCALER = "lanczos+accurate_rnd"


def curves_of(tunes: tuple[str, ...], rate: str, values: tuple[float, ...]) -> list[Point]:
    """A point for every tune and value: ``ssim-crf30``."""
    return [
        Point(label=f"{tune}-{rate}{value:g}", variant=tune, values={"tune": tune, rate: value})
        for tune in tunes
        for value in values
    ]
