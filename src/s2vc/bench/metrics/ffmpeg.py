"""VMAF and XPSNR by ffmpeg's filters, on the same 8-bit pictures as every other metric.

Each decoding has an ffmpeg of its own.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from s2vc.bench.metrics.chunk import Chunk, Measure, summary
from s2vc.errors import S2vcError
from s2vc.video.ffmpeg import USUAL_RATE, VMAF_MODEL, ComparingFilter, ffmpeg, read_vmaf

_FILTERS = {"vmaf": "libvmaf", "xpsnr": "xpsnr"}


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


class FilterMeasure(Measure):
    """``vmaf`` or ``xpsnr``: the filter's own value of each frame; ``mean`` is their arithmetic mean.

    XPSNR's value is luma's; ``planes`` beside it has the means of all three planes.
    """

    def __init__(self, metric: str, rate: Fraction | None) -> None:
        self.metric = metric
        self._rate = rate or USUAL_RATE
        self._folder = tempfile.TemporaryDirectory(prefix="s2vc-bench-metric-")
        self._processes: dict[int, ComparingFilter] = {}

    def add(self, chunk: Chunk) -> None:
        source = chunk.yuv(None)
        height, width = source.shape[2:]
        for number in chunk.decodings:
            if number not in self._processes:
                folder = Path(self._folder.name) / str(number)
                folder.mkdir()
                self._processes[number] = ComparingFilter(self.metric, height, width, self._rate, folder)
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
    values, version = read_vmaf(log)
    return values, {"model": VMAF_MODEL, "libvmaf": version}


def _read_xpsnr(log: str) -> tuple[list[float], dict[str, Any]]:
    # equal planes are "inf"; PSNR's cap stands for them
    rows = re.findall(r"^n: *\d+ +XPSNR y: *(\S+) +XPSNR u: *(\S+) +XPSNR v: *(\S+)", log, re.MULTILINE)
    planes = np.minimum(np.array(rows, float).reshape(-1, 3), 100.0)
    means = [round(float(mean), 4) for mean in planes.mean(0)] if len(planes) else [0.0] * 3
    return planes[:, 0].tolist(), {"planes": dict(zip("yuv", means, strict=True))}
