"""Codecs under test: one small adapter each, which only knows how its commands are written.

An adapter gives command lines; ``run`` starts each in a process of its own. ``decode`` leaves something that
``s2vc.bench.frames`` reads: lossless video that keeps the place of chroma samples (y4m does not), or PNG
pictures.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Protocol

from s2vc.bench.spec import X265, Codec, Ours, Point
from s2vc.errors import S2vcError


class Adapter(Protocol):
    """What the runner needs of a codec."""

    suffix: str
    decoded_name: str

    def encode(self, clip: Path, frames: int, point: Point, target: Path) -> list[str]: ...

    def decode(self, coded: Path, target: Path) -> list[str]: ...

    def settings(self) -> dict[str, object]:
        """Everything stated beside the numbers; a change makes old results stale."""
        ...


def adapter(codec: Codec) -> Adapter:
    return X265Adapter(codec) if isinstance(codec, X265) else OursAdapter(codec)


@cache
def ffmpeg() -> str:
    """The imageio-ffmpeg wheel's own binary."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as error:
        raise S2vcError("x265 needs imageio-ffmpeg's ffmpeg: pip install 's2vc[bench]'") from error
    return get_ffmpeg_exe()


@cache
def ffmpeg_version() -> str:
    shown = subprocess.run([ffmpeg(), "-version"], capture_output=True, text=True, check=True).stdout
    return f"{shown.split()[2]} (imageio-ffmpeg {importlib.metadata.version('imageio-ffmpeg')})"


class X265Adapter:
    """One thread without wavefronts: the same file every time, and the smallest."""

    suffix = ".hevc"
    decoded_name = "decoded.mkv"

    def __init__(self, codec: X265) -> None:
        self.codec = codec

    def encode(self, clip: Path, frames: int, point: Point, target: Path) -> list[str]:
        tune = point.values["tune"]
        options = "keyint=-1:min-keyint=1:scenecut=0:info=0:pools=none:frame-threads=1:log-level=error"
        return [
            *[ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-threads", "1"],
            *["-i", str(clip), "-map", "0:v:0", "-frames:v", str(frames), "-fps_mode", "passthrough"],
            *["-c:v", "libx265", "-preset", self.codec.preset],
            *([] if tune == "none" else ["-tune", str(tune)]),
            *["-crf", f"{point.values['crf']:g}", "-pix_fmt", "yuv420p10le", "-x265-params", options],
            *["-f", "hevc", str(target)],
        ]

    def decode(self, coded: Path, target: Path) -> list[str]:
        return [
            *[ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-threads", "1"],
            *["-i", str(coded), "-fps_mode", "passthrough", "-c:v", "ffv1"],
            str(target),
        ]

    def settings(self) -> dict[str, object]:
        return {
            "codec": "x265",
            "ffmpeg": ffmpeg_version(),
            "preset": self.codec.preset,
            "rate": "crf",
            "frames": "one I-frame, default B-frames",
            "bit_depth": 10,
            "charged": "elementary stream without informational SEI",
        }


class OursAdapter:
    """``python -m s2vc``: what a user runs, PNG pictures out."""

    suffix = ".s2vc"
    decoded_name = "decoded"

    def __init__(self, codec: Ours) -> None:
        self.codec = codec

    def encode(self, clip: Path, frames: int, point: Point, target: Path) -> list[str]:
        return [
            *[sys.executable, "-m", "s2vc", "encode", str(clip), str(target), "-y", "-q"],
            *["--model", self.codec.model, "--quality", str(point.values["quality"])],
            *["--keyint", str(self.codec.keyint), "--frames", str(frames)],
            *[*self._machine(), *self.codec.options],
        ]

    def decode(self, coded: Path, target: Path) -> list[str]:
        from s2vc.models import find_model

        # only models outside the package must be named to a decoder
        path = find_model(self.codec.model).path
        named = ["--model", self.codec.model] if path == Path(self.codec.model) else []
        pictures = str(target / "%05d.png")
        target.mkdir(parents=True, exist_ok=True)
        return [
            sys.executable,
            "-m",
            "s2vc",
            "decode",
            str(coded),
            pictures,
            "-y",
            "-q",
            *named,
            *self._machine(),
        ]

    def _machine(self) -> list[str]:
        threads = [] if self.codec.threads is None else ["--threads", str(self.codec.threads)]
        return ["--device", self.codec.device, *threads]

    def settings(self) -> dict[str, object]:
        from s2vc.models import find_model

        model = find_model(self.codec.model)
        return {
            "codec": "s2vc",
            "version": importlib.metadata.version("s2vc"),
            "model": model.id,
            "model_digest": model.digest.hex(),
            "keyint": self.codec.keyint,
            "device": self.codec.device,
            "options": list(self.codec.options),
            "charged": "the whole .s2vc file",
        }
