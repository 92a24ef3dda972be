"""Published numbers: results in the form that DCVC's tools write, laid beside those measured here.

    {data set: {sequence: {rate point: {"ave_all_frame_bpp": …, "ave_all_frame_psnr": …, "i_frame_num": …}}}}

Nothing is coded or measured; where the clip was another one or its frames were, the numbers do not compare.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator

from s2vc.bench.codecs.base import Codec, Point
from s2vc.errors import InputError

_METRICS = {"psnr": "psnr", "msssim": "ms-ssim", "psnr_y": "psnr-y", "dists": "dists"}
# With planes beside it, the plain figure is a mean over Y, U and V, which we have no name for.
_OF_PLANES = {"psnr", "msssim"}


class Published(Codec):
    """``about`` says what the codec is and how it was run; it stands beside its numbers."""

    kind: Literal["published"]
    results: Path
    """Relative to the spec."""
    about: str

    @field_validator("results", mode="after")
    @classmethod
    def _beside_the_spec(cls, results: Path, info: ValidationInfo) -> Path:
        return Path((info.context or {}).get("folder", ".")) / results

    def points(self) -> list[Point]:
        labels = {label for sequence in self._sequences().values() for label in sequence}
        return [Point(label=label, variant="", values={"point": label}) for label in sorted(labels)]

    def settings(self) -> dict[str, object]:
        return {"codec": "published", "about": self.about, "charged": "as published"}

    def result(self, clip: Path, point: Point) -> dict[str, Any]:
        """Frames, bytes, bpp and metrics of one (clip, point). Raises InputError where there are none."""
        found = self._sequences().get(clip.stem, {}).get(point.label)
        if found is None:
            raise InputError(f"{self.results} has no {clip.stem} at {point.label}: name sequences as clips")
        try:
            bpp = float(found["ave_all_frame_bpp"])
            frames = int(found["i_frame_num"]) + int(found["p_frame_num"])
            pixels = int(found["frame_pixel_num"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.results}: {clip.stem} {point.label} lacks {error}") from error
        planes = "ave_all_frame_psnr_y" in found
        metrics: dict[str, Any] = {}
        for theirs, ours in _METRICS.items():
            value = found.get(f"ave_all_frame_{theirs}")
            if isinstance(value, (int, float)) and not (planes and theirs in _OF_PLANES):
                metrics[ours] = {"mean": float(value)}
                if len(per_frame := found.get(f"frame_{theirs}", [])) == frames:
                    metrics[ours]["frames"] = per_frame
        return {
            "frames": frames,
            "bytes": round(bpp * pixels * frames / 8),
            "bpp": bpp,
            "metrics": metrics,
            "missing": {},
        }

    def _sequences(self) -> dict[str, dict[str, Any]]:
        """Sequence, without its ending -> rate point -> figures, of all data sets together."""
        try:
            content = json.loads(self.results.read_text(encoding="utf-8"))
            return {
                Path(name).stem: {str(label): dict(figures) for label, figures in points.items()}
                for sequences in content.values()
                for name, points in sequences.items()
            }
        except OSError as error:
            raise InputError(f"results {self.results} cannot be read: {error.strerror}") from error
        except (ValueError, AttributeError, TypeError) as error:
            raise InputError(f"{self.results} has not the form of DCVC's results: see its docs") from error
