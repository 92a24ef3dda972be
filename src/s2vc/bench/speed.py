"""``s2vc bench speed``: where an encode and a decode spend their time, as ratios to this machine's own rates.

The networks' floor is their multiply-accumulates over the rate of a 3x3 convolution of 128 channels at 1/8,
measured in the same run before, between and after. Everything else is given as a ratio to the networks. So
figures of different machines can be compared; seconds are given beside.
"""

from __future__ import annotations

import importlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from s2vc.bench.codecs import ffmpeg
from s2vc.bench.process import run_child
from s2vc.bench.run import machine
from s2vc.bench.timing import Stages, convolution_rate, count_macs, product_rate
from s2vc.errors import InputError, S2vcError

SIZE = (426, 240)
NETWORKS = "networks"
OTHER = "other"

WATCHED: tuple[tuple[str, str, str], ...] = (
    # module, function or Class.method, stage
    ("s2vc.video.base", "VideoReader.__iter__", "reading"),
    ("s2vc.video.base", "VideoWriter.write", "writing"),
    ("s2vc.video.base", "VideoWriter.close", "writing"),
    ("s2vc.bitstream.writer", "StreamWriter.write_chunk", "writing"),
    ("s2vc.bitstream.reader", "StreamReader.__next__", "reading"),
    ("s2vc.codec.motion_search", "MotionSearch.__call__", "motion search"),
    ("s2vc.entropy.coder", "SymbolEncoder.put", "entropy coding"),
    ("s2vc.entropy.coder", "SymbolEncoder.put_motion", "entropy coding"),
    ("s2vc.entropy.coder", "SymbolEncoder.getvalue", "entropy coding"),
    ("s2vc.entropy.coder", "SymbolDecoder.__init__", "entropy coding"),
    ("s2vc.entropy.coder", "SymbolDecoder.get", "entropy coding"),
    ("s2vc.entropy.coder", "SymbolDecoder.get_motion", "entropy coding"),
    ("s2vc.entropy.coder", "SymbolDecoder.close", "entropy coding"),
    ("s2vc.entropy.integer", "IntegerEntropyModel.hyper_tables", "entropy model"),
    ("s2vc.entropy.integer", "IntegerEntropyModel.first_pass", "entropy model"),
    ("s2vc.entropy.integer", "IntegerEntropyModel.second_pass", "entropy model"),
    ("s2vc.codec.tiny", "TinyFrameModel.analyse", NETWORKS),
    ("s2vc.codec.tiny", "TinyFrameModel.coding", NETWORKS),
    ("s2vc.codec.tiny", "TinyFrameModel.render", NETWORKS),
    ("s2vc.codec.tiny", "TinyCoding.take", NETWORKS),
    ("s2vc.codec.tiny", "TinyAnalysis.symbols", NETWORKS),
)


@contextmanager
def watching() -> Iterator[Stages]:
    """The codec's stages on a clock, from outside, until the block ends."""
    stages = Stages()
    try:
        for module, path, stage in WATCHED:
            owner: Any = importlib.import_module(module)
            *classes, name = path.split(".")
            for part in classes:
                owner = getattr(owner, part)
            stages.watch(owner, name, stage)
        yield stages
    finally:
        stages.unwatch()


def measure_speed(
    *,
    clip: str | Path | None = None,
    model: str = "tiny",
    quality: int = 32,
    threads: int | None = None,
    frames: int = 100,
    long_frames: int = 400,
) -> dict[str, Any]:
    """Encode and decode ``frames`` frames of 426x240 on ``threads`` threads (default: all cores).

    ``clip``: footage to scale to 426x240 and play forward and backward for as long as needed; default a
    picture that ffmpeg draws. Peak memory is that of fresh processes on ``frames`` and on ``long_frames``
    frames; 0 leaves that out. Returns a JSON object.
    """
    from s2vc import api

    before = torch.get_num_threads()
    count = threads or before
    torch.set_num_threads(count)
    try:
        with tempfile.TemporaryDirectory(prefix="s2vc-speed-") as folder:
            loaded = api.load(model, "cpu")
            source = _footage(clip, Path(folder), max(frames, long_frames))
            coded, decoded = Path(folder) / "coded.s2vc", Path(folder) / "decoded.mp4"

            def encode(n: int = frames) -> None:
                api.encode(
                    source, coded, model=loaded, quality=quality, frames=n, device="cpu",
                    threads=count, overwrite=True,
                )  # fmt: skip

            def decode() -> None:
                api.decode(coded, decoded, model=loaded, device="cpu", threads=count, overwrite=True)

            rates = [convolution_rate(*SIZE)]
            counted = min(frames, 34)  # an I-frame, P-frames and a reset
            sides: dict[str, Any] = {}
            for name, function in (("encode", encode), ("decode", decode)):
                encode(counted)
                macs = count_macs((lambda: encode(counted)) if name == "encode" else decode) / counted
                encode(frames)
                sides[name] = (macs, *_timed(function))
                rates.append(convolution_rate(*SIZE))
            rate = statistics.median(rates)
            result: dict[str, Any] = {
                "schema": 1,
                "command": f"s2vc bench speed --threads {count} --frames {frames} --model {model}"
                f" --quality {quality}" + (f" --clip {Path(clip).name}" if clip else ""),
                "machine": machine(),
                "torch": torch.__version__,
                "threads": count,
                "width": SIZE[0],
                "height": SIZE[1],
                "frames": frames,
                "convolution_gmacs_per_second": [round(r / 1e9, 2) for r in rates],
                "product_gmacs_per_second": round(product_rate() / 1e9, 2),
            }
            for name, (macs, seconds, stages) in sides.items():
                result[name] = _side(macs, seconds, stages, rate, frames)
            if long_frames:
                result["peak_memory_bytes"] = _memory(
                    source, Path(folder), model, quality, count, (frames, long_frames)
                )
            return result
    finally:
        torch.set_num_threads(before)


def _timed(function: Callable[[], None]) -> tuple[float, Stages]:
    with watching() as stages:
        began = time.perf_counter()
        function()
        return time.perf_counter() - began, stages


def _side(macs: float, seconds: float, stages: Stages, rate: float, frames: int) -> dict[str, Any]:
    networks = stages.seconds.pop(NETWORKS, 0.0)
    if not networks:
        raise S2vcError("no network was seen at work: the table of watched functions is out of date")
    floor = macs * frames / rate
    rest = dict(sorted(stages.seconds.items()))
    # what no stage claims; threads that work beside each other may claim more than passes
    rest[OTHER] = max(0.0, seconds - networks - sum(rest.values()))
    return {
        "seconds": round(seconds, 3),
        "frames_per_second": round(frames / seconds, 2),
        "networks": {
            "kmacs_per_pixel": round(macs / (SIZE[0] * SIZE[1]) / 1e3, 2),
            "seconds": round(networks, 3),
            "floor_seconds": round(floor, 3),
            "times_floor": round(networks / floor, 3),
        },
        "everything_else_to_networks": round(sum(rest.values()) / networks, 3),
        "stages": {
            name: {"seconds": round(value, 3), "to_networks": round(value / networks, 4)}
            for name, value in rest.items()
        },
    }


def _memory(
    source: Path, folder: Path, model: str, quality: int, threads: int, counts: tuple[int, int]
) -> dict[str, dict[str, int]]:
    result: dict[str, dict[str, int]] = {"encode": {}, "decode": {}}
    coded, decoded = str(folder / "memory.s2vc"), str(folder / "memory.mp4")
    program = [sys.executable, "-m", "s2vc"]
    for count in counts:
        encode = ["encode", str(source), coded, "-y", "--frames", str(count), "--model", model]
        more = ["--quality", str(quality), "--device", "cpu", "--threads", str(threads)]
        result["encode"][str(count)] = run_child([*program, *encode, *more]).peak_memory
        named = ["--model", model] if Path(model).is_file() else []
        decode = ["decode", coded, decoded, "-y", *named, "--device", "cpu", "--threads", str(threads)]
        result["decode"][str(count)] = run_child([*program, *decode]).peak_memory
    return result


def _footage(clip: str | Path | None, folder: Path, frames: int) -> Path:
    """At least ``frames`` frames of 426x240, quickly decoded."""
    size = f"{SIZE[0]}:{SIZE[1]}"
    target = folder / "footage.mp4"
    if clip is None:
        source, graph = ["-f", "lavfi", "-i", f"testsrc2=size={SIZE[0]}x{SIZE[1]}:rate=25"], "null"
    else:
        if not Path(clip).is_file():
            raise InputError(f"no clip {clip}: name a video file")
        there_and_back = folder / "there-and-back.mkv"
        graph = f"[0:v]trim=end_frame={frames},scale={size},split[a][b];[b]reverse[c];[a][c]concat"
        _ffmpeg(["-i", str(clip), "-filter_complex", graph, "-an", "-c:v", "ffv1", str(there_and_back)])
        source, graph = ["-stream_loop", "-1", "-i", str(there_and_back)], "null"
    coding = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "8", "-pix_fmt", "yuv420p"]
    _ffmpeg([*source, "-vf", graph, "-frames:v", str(frames), *coding, str(target)])
    return target


def _ffmpeg(arguments: list[str]) -> None:
    command = [ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"ffmpeg cannot make the footage: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
