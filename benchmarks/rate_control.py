"""How near encodes come to the rate, size or quality asked for; one JSON of rows (docs/rate-control.md).

    export S2VC_DATA_DIR=…/data S2VC_WEIGHTS_DIR=…/weights
    python benchmarks/rate_control.py two-pass size buffer target --out benchmarks/results/rate-control.json
    python benchmarks/rate_control.py one-pass --out benchmarks/results/rate-control.json
    python benchmarks/rate_control.py hierarchy --out benchmarks/results/quality-in-the-gop.json

Rows that the file holds stand. ``--clips``, ``--rates``, ``--seconds``, ``--size`` make a run shorter.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import s2vc
from s2vc.bench.delta import delta
from s2vc.bench.metrics import Meter
from s2vc.bench.names import HIGHER_IS_BETTER
from s2vc.bitstream import Chunk, StreamReader
from s2vc.codec import layers
from s2vc.video import Frame, VideoInfo, open_output, open_video

CLIPS = [
    "akiyo_176x144_25",
    "carphone_176x144_30",
    "city_352x288_25",
    "foliage_360x240_25",
    "car-roundabout_426x240_24",
    "parkour_426x240_24",
]
RATES = [15_000, 30_000, 60_000, 120_000]  # bit/s at 426 x 240
PIXELS = 426 * 240
TARGETS = ["psnr=26", "lpips_vgg=0.3", "dists=0.15"]
PATTERNS = {  # frames from key frame to key frame, and by how much those between them are coarser
    "flat": (1, 0),
    "8, 12 coarser": (8, 12),
    "8, 22 coarser": (8, 22),
    "8, 30 coarser": (8, 30),
    "4, 22 coarser": (4, 22),
    "16, 22 coarser": (16, 22),
}
QUALITIES = [14, 28, 42, 56]
METRICS = ("psnr", "lpips-alex", "lpips-vgg", "dists")


def concatenation(folder: Path, path: Path, seconds: float, size: str) -> None:
    """Training clips one after another at 24 Hz, losslessly."""
    width, height = map(int, size.split("x"))
    info = VideoInfo(width, height, time_base=Fraction(1, 24), average_rate=Fraction(24))
    number = 0
    with open_output(path, info, lossless=True, overwrite=True) as writer:
        for clip in sorted(folder.iterdir()):
            if clip.suffix not in (".mp4", ".mkv"):
                continue
            with open_video(clip, scale=size) as reader:
                for frame in reader:
                    writer.write(Frame(frame.rgb, number, 1))
                    number += 1
                    if number >= seconds * 24:
                        return


def overfull(path: Path, rate: float, size: float) -> float:
    """The largest share of the buffer that the file's packets ever fill; over 1 it is violated."""
    level = largest = 0.0
    before = None
    with open(path, "rb") as stream:
        reader = StreamReader(stream)
        tick = float(reader.header.time_base)
        for item in reader:
            if not isinstance(item, Chunk):
                continue
            for ticks, packet in zip(item.times, item.packets, strict=True):
                if before is not None:
                    level = max(0.0, level - rate * (ticks - before) * tick)
                before = ticks
                level += 8 * (len(packet.payload) + 4)
                largest = max(largest, level)
    return largest / size


@cache
def meter(*metrics: str) -> Meter:
    return Meter(metrics, step=5)


class Runs:
    """Encodes and what came of them."""

    def __init__(self, model: str, out: Path, folder: Path) -> None:
        self.model = s2vc.load(model, "cpu")
        self.out, self.folder = out, folder
        self.rows: dict[str, Any] = {}
        if out.exists():
            known = json.loads(out.read_text())
            if known["model"] != self.model.id:
                raise SystemExit(f"{out} holds rows of {known['model']}: name another file or remove it")
            self.rows = known["rows"]

    def row(self, name: str, make: Callable[[], dict[str, Any]]) -> None:
        if name not in self.rows:
            self.rows[name] = make()
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.write_text(json.dumps({"model": self.model.id, "rows": self.rows}, indent=1) + "\n")
        print(name, self.rows[name], flush=True)

    def encode(self, clip: Path, **wishes: Any) -> tuple[s2vc.EncodeResult, dict[str, Any]]:
        made = s2vc.encode(
            clip, self.folder / "out.s2vc", model=self.model, overwrite=True, audio="none", **wishes
        )
        qualities = s2vc.info(self.folder / "out.s2vc").quality
        return made, {
            "frames": made.frames,
            "bytes": made.bytes,
            "kbps": round(made.video_kbps, 3),
            "qualities": [min(qualities), max(qualities)],
            "seconds": round(made.seconds, 1),
            "warnings": list(made.warnings),
        }

    def rate(self, clip: Path, rate: float, passes: int) -> dict[str, Any]:
        made, facts = self.encode(clip, bitrate=rate, passes=passes)
        return {"asked": rate / 1000, "off": round(made.video_kbps * 1000 / rate - 1, 4), **facts}

    def size(self, clip: Path, rate: float) -> dict[str, Any]:
        with open_video(clip) as reader:
            frames = sum(1 for _ in reader)
            asked = round(rate * frames / float(reader.info.average_rate or 25) / 8)
        made, facts = self.encode(clip, target_size=asked)
        return {"asked": asked, "off": round(made.bytes / asked - 1, 4), **facts}

    def buffer(self, clip: Path, rate: float) -> dict[str, Any]:
        _, facts = self.encode(clip, bitrate=rate, max_bitrate=rate, bufsize=2 * rate, passes=1)
        return {
            "asked": rate / 1000,
            "fullest": round(overfull(self.folder / "out.s2vc", rate, 2 * rate), 4),
            **facts,
        }

    def target(self, clip: Path, text: str) -> dict[str, Any]:
        """Cost: CPU seconds of search and encode against those of one encode at quality 32."""
        metric, _, value = text.partition("=")
        metric = metric.replace("_", "-")
        single = -time.process_time()
        self.encode(clip, quality=32)
        single += time.process_time()
        cost = -time.process_time()
        _, facts = self.encode(clip, quality_target=text)
        cost += time.process_time()
        shown = self.folder / "shown.mkv"
        s2vc.decode(self.folder / "out.s2vc", shown, model=self.model, lossless=True, overwrite=True)
        with open_video(clip) as source, open_video(shown) as decoded:
            found = meter(metric).measure((f.rgb for f in source), [(f.rgb for f in decoded)])[0]
        if isinstance(found, Exception):
            raise found
        mean = found[metric]["mean"]
        return {
            "asked": float(value),
            "found": mean,
            "off": round(mean / float(value) - 1, 4),
            "cost": round(cost / single, 3),
            **facts,
        }

    def hierarchy(self, clip: Path, quality: int, pattern: tuple[int, int]) -> dict[str, Any]:
        period, coarser = pattern
        with open_video(clip, frames=96) as reader:
            pictures = [frame.rgb for frame in reader]
        shown: list[Any] = []
        with (
            patch.multiple(layers, KEY_PERIOD=period, BETWEEN_COARSER=coarser),
            s2vc.Encoder(
                io.BytesIO(),
                info=reader.info,
                model=self.model,
                quality=quality,
                reconstruct=lambda frame: shown.append(frame.rgb),
            ) as encoder,
        ):
            for picture in pictures:
                encoder.write(picture)
        found = meter(*METRICS).measure(pictures, [shown])[0]
        if isinstance(found, Exception):
            raise found
        size = reader.info.width * reader.info.height * len(pictures)
        means = {metric: found[metric]["mean"] for metric in METRICS}
        return {"bpp": 8 * encoder.bytes_written / size, **means}

    def deltas(self, clips: Iterable[str], patterns: Iterable[str]) -> None:
        """BD-rates of the patterns against the flat one, clip by clip."""
        for metric in METRICS:
            for pattern in patterns:
                if pattern == "flat":
                    continue
                rates = {}
                for clip in clips:
                    curves = [
                        [
                            (row["bpp"], row[metric])
                            for quality in QUALITIES
                            for row in [self.rows[f"hierarchy/{clip}/{name}/{quality}"]]
                        ]
                        for name in ("flat", pattern)
                    ]
                    rates[clip] = delta(*curves, higher_is_better=HIGHER_IS_BETTER[metric]).rate
                known = [rate for rate in rates.values() if rate is not None]
                mean = sum(known) / len(known) if known else float("nan")
                print(f"{metric:10} {pattern:10} BD-rate {mean:+.2f} %", rates)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="+", choices=["two-pass", "one-pass", "size", "buffer", "target", "hierarchy"]
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--clips", nargs="*", default=CLIPS)
    parser.add_argument("--rates", nargs="*", type=float, default=RATES)
    parser.add_argument("--patterns", nargs="*", default=list(PATTERNS), choices=list(PATTERNS))
    parser.add_argument("--targets", nargs="*", default=TARGETS)
    parser.add_argument("--seconds", type=float, default=120, help="length of the concatenation; 0: without")
    parser.add_argument("--size", default="426x240", help="its size; rates scale with the pixels")
    options = parser.parse_args()
    data = Path(os.environ["S2VC_DATA_DIR"])
    with tempfile.TemporaryDirectory(prefix="s2vc-rate-") as name:
        runs = Runs(options.model, options.out, Path(name))
        clips = {clip: data / "dev" / f"{clip}.mp4" for clip in options.clips}
        if options.seconds and {"one-pass", "buffer", "target"} & set(options.what):
            long = Path(name) / "concatenation.mkv"
            concatenation(data / "train" / "video", long, options.seconds, options.size)
            clips[f"concatenation_{options.size}-{options.seconds:g}s"] = long
        if "hierarchy" in options.what:
            for clip in options.clips:
                for name_of in options.patterns:
                    for quality in QUALITIES:
                        runs.row(
                            f"hierarchy/{clip}/{name_of}/{quality}",
                            lambda p=clips[clip], q=quality, o=PATTERNS[name_of]: runs.hierarchy(p, q, o),
                        )
            runs.deltas(options.clips, options.patterns)
        for clip, path in clips.items():
            with open_video(path) as reader:
                scale = reader.info.width * reader.info.height / PIXELS
            long_one = path.suffix == ".mkv"
            for rate in options.rates:
                scaled = rate * scale
                label = f"{clip}/{rate / 1000:g}k"
                if "two-pass" in options.what and not long_one:
                    runs.row(f"two-pass/{label}", lambda p=path, r=scaled: runs.rate(p, r, 2))
                if "one-pass" in options.what and long_one:
                    runs.row(f"one-pass/{label}", lambda p=path, r=scaled: runs.rate(p, r, 1))
                if "size" in options.what and not long_one:
                    runs.row(f"size/{label}", lambda p=path, r=scaled: runs.size(p, r))
                if "buffer" in options.what:
                    runs.row(f"buffer/{label}", lambda p=path, r=scaled: runs.buffer(p, r))
            if "target" in options.what:
                for text in options.targets:
                    runs.row(f"target/{clip}/{text}", lambda p=path, t=text: runs.target(p, t))


if __name__ == "__main__":
    main()
