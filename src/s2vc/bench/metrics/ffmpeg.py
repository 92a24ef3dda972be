"""VMAF and XPSNR by ffmpeg's filters, on the same 8-bit pictures as every other metric.

Each decoding has an ffmpeg of its own, fed through a pipe with the source's picture above the decoded one:
the two are cut apart inside the filter graph, so no time stamps can set them against each other wrongly.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from s2vc.bench.codecs import ffmpeg
from s2vc.bench.metrics.chunk import Chunk, Measure, summary
from s2vc.errors import S2vcError

VMAF_MODEL = "vmaf_v0.6.1"
USUAL_RATE = Fraction(25)
"""Frames a second of a clip that does not say; XPSNR has another rule for change over time from 32 on."""

_FILTERS = {"vmaf": "libvmaf", "xpsnr": "xpsnr"}
_GRAPHS = {
    "vmaf": f"[decoded][source]libvmaf=model=version={VMAF_MODEL}:log_fmt=json:log_path=log",
    "xpsnr": "[source][decoded]xpsnr=stats_file=log",
}


def missing_filter(metric: str) -> str | None:
    """Why ``vmaf`` or ``xpsnr`` cannot be measured with the ffmpeg there is; None when it can."""
    try:
        names = _filters(ffmpeg())
    except S2vcError as error:
        return str(error)
    name = _FILTERS[metric]
    return None if name in names else f"this ffmpeg build has no filter {name}: use one that has it"


@cache
def _filters(program: str) -> frozenset[str]:
    try:
        asked = subprocess.run(
            [program, "-hide_banner", "-filters"], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise S2vcError(f"{program} cannot be started: {error.strerror}") from error
    return frozenset(re.findall(r"^ \S+ (\w+) ", asked.stdout, re.MULTILINE))


class _Process:
    """One ffmpeg that compares one decoding; its log lies in ``folder``."""

    def __init__(self, metric: str, height: int, width: int, rate: Fraction, folder: Path) -> None:
        self.metric = metric
        self.log = folder / "log"
        self.count = 0
        graph = (
            f"[0:v]split[a][b];[a]crop={width}:{height}:0:0[source];"
            f"[b]crop={width}:{height}:0:{height}[decoded];{_GRAPHS[metric]}"
        )
        self._errors: IO[bytes] = open(folder / "errors", "w+b")  # noqa: SIM115 (closed in ``close``)
        self._process = subprocess.Popen(
            [
                *(ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostats"),
                *("-f", "rawvideo", "-pix_fmt", "yuv444p", "-s", f"{width}x{2 * height}"),
                *("-r", str(rate), "-i", "pipe:0", "-filter_complex", graph, "-f", "null", "-"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            cwd=folder,  # a filter's option cannot hold every path
        )

    def write(self, source: np.ndarray, decoded: np.ndarray) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.concatenate([source, decoded], 1).tobytes())
        except OSError:  # it has ended: ``finish`` says why
            return
        self.count += 1

    def finish(self) -> str:
        """Its log, when all is read. Raises S2vcError when it failed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            pass
        code = self._process.wait()
        if code:
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").split("\n")
            said = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
            raise S2vcError(f"ffmpeg could not measure {self.metric}: exit {code}: {said}")
        return self.log.read_text(encoding="utf-8")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass
        self._errors.close()


class FilterMeasure(Measure):
    """``vmaf`` or ``xpsnr``: the filter's own value of each frame; ``mean`` is their arithmetic mean.

    XPSNR's value is luma's; ``planes`` beside it has the means of all three planes.
    """

    def __init__(self, metric: str, rate: Fraction | None) -> None:
        self.metric = metric
        self._rate = rate or USUAL_RATE
        self._folder = tempfile.TemporaryDirectory(prefix="s2vc-bench-metric-")
        self._processes: dict[int, _Process] = {}

    def add(self, chunk: Chunk) -> None:
        source = chunk.yuv(None)
        height, width = source.shape[2:]
        for number in chunk.decodings:
            if number not in self._processes:
                folder = Path(self._folder.name) / str(number)
                folder.mkdir()
                self._processes[number] = _Process(self.metric, height, width, self._rate, folder)
            for a, b in zip(source, chunk.yuv(number), strict=True):
                self._processes[number].write(a, b)

    def results(self, number: int) -> dict[str, dict[str, Any]]:
        process = self._processes[number]
        log = process.finish()
        read = _read_vmaf if self.metric == "vmaf" else _read_xpsnr
        values, more = read(log)
        if len(values) != process.count:
            raise S2vcError(
                f"ffmpeg measured {self.metric} of {len(values)} frames out of {process.count}: "
                "report this with its version"
            )
        return {self.metric: summary(values, 3, **more)}

    def close(self) -> None:
        for process in self._processes.values():
            process.close()
        self._folder.cleanup()


def _read_vmaf(log: str) -> tuple[list[float], dict[str, Any]]:
    content = json.loads(log)
    return [frame["metrics"]["vmaf"] for frame in content["frames"]], {
        "model": VMAF_MODEL,
        "libvmaf": content["version"],
    }


def _read_xpsnr(log: str) -> tuple[list[float], dict[str, Any]]:
    # equal planes are "inf"; PSNR's cap stands for them
    rows = re.findall(r"^n: *\d+ +XPSNR y: *(\S+) +XPSNR u: *(\S+) +XPSNR v: *(\S+)", log, re.MULTILINE)
    planes = np.minimum(np.array(rows, float).reshape(-1, 3), 100.0)
    means = [round(float(mean), 4) for mean in planes.mean(0)] if len(planes) else [0.0] * 3
    return planes[:, 0].tolist(), {"planes": dict(zip("yuv", means, strict=True))}
