"""s2vc itself: ``python -m s2vc``, what a user runs, PNG pictures out."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from s2vc.bench.codecs.base import CommandCodec, Point


class Ours(CommandCodec):
    suffix: ClassVar[str] = ".s2vc"
    decoded_name: ClassVar[str] = "decoded"

    kind: Literal["s2vc"]
    model: str = "tiny"
    quality: tuple[Annotated[int, Field(ge=0, le=63)], ...] = Field(min_length=1)
    keyint: int = Field(default=1000, ge=1)
    device: str = "cpu"
    threads: int | None = Field(default=None, ge=1)
    options: tuple[str, ...] = ()
    """More options of ``s2vc encode``."""

    @classmethod
    def default_name(cls, values: dict[str, object]) -> str:
        return "tiny"

    def points(self) -> list[Point]:
        return [Point(label=f"q{q:02d}", variant="", values={"quality": q}) for q in self.quality]

    def encode(self, clip: Path, frames: int, point: Point, target: Path) -> list[str]:
        return [
            *[sys.executable, "-m", "s2vc", "encode", str(clip), str(target), "-y", "-q"],
            *["--model", self.model, "--quality", str(point.values["quality"])],
            *["--keyint", str(self.keyint), "--frames", str(frames), "--audio", "none"],
            *[*self._machine(), *self.options],
        ]

    def decode(self, coded: Path, target: Path, clip: Path) -> list[str]:
        from s2vc.models import find_model

        # only models outside the package must be named to a decoder
        named = ["--model", self.model] if find_model(self.model).path == Path(self.model) else []
        target.mkdir(parents=True, exist_ok=True)
        return [
            *[sys.executable, "-m", "s2vc", "decode", str(coded), str(target / "%05d.png"), "-y", "-q"],
            *[*named, *self._machine()],
        ]

    def reported_bpp(self, coded: Path) -> float | None:
        """Of ``base``: the estimate that published curves show (docs/base.md)."""
        from s2vc.bitstream import Chunk, StreamReader

        with open(coded, "rb") as stream:
            reader = StreamReader(stream)
            if not reader.header.profile:  # any machine reads it: not the published system
                return None
            from s2vc.api.models import load
            from s2vc.codec.base import BaseFrameModel
            from s2vc.codec.base_rate import reported_rate

            networks = load(self.model, self.device).networks
            assert isinstance(networks, BaseFrameModel)
            return reported_rate(networks, reader.header, (c for c in reader if isinstance(c, Chunk)))

    def _machine(self) -> list[str]:
        threads = [] if self.threads is None else ["--threads", str(self.threads)]
        return ["--device", self.device, *threads]

    def settings(self) -> dict[str, object]:
        from s2vc.models import find_model

        model = find_model(self.model)
        return {
            "codec": "s2vc",
            "version": importlib.metadata.version("s2vc"),
            "model": model.id,
            "model_digest": model.digest.hex(),
            "keyint": self.keyint,
            "device": self.device,
            "options": list(self.options),
            "charged": "the whole .s2vc file",
        }
