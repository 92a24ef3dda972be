"""FFmpeg's program: which one, and its filters that compare a decoding with its source."""

from __future__ import annotations

import json
import os
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

from s2vc.errors import S2vcError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FFMPEG_VARIABLE = "S2VC_FFMPEG"
"""Environment variable that names another ffmpeg than the wheel's."""

USUAL_RATE = Fraction(25)
"""Frames a second of a clip that does not say; XPSNR has another rule for change over time from 32 on."""

VMAF_MODEL = "vmaf_v0.6.1"

_GRAPHS = {
    "vmaf": f"[decoded][source]libvmaf=model=version={VMAF_MODEL}:log_fmt=json:log_path=log",
    "xpsnr": "[source][decoded]xpsnr=stats_file=log",
}


def ffmpeg() -> str:
    """The ffmpeg to run. Raises S2vcError where there is none."""
    if named := os.environ.get(FFMPEG_VARIABLE):
        return named
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as error:
        raise S2vcError(
            f"no ffmpeg: pip install 's2vc[bench]', or name one with {FFMPEG_VARIABLE}"
        ) from error
    return get_ffmpeg_exe()


class ComparingFilter:
    """One ffmpeg that compares one decoding by ``vmaf`` or ``xpsnr``; its log lies in ``folder``.

    Pictures go through a pipe with the source's above the decoded one: the two are cut apart inside the
    filter graph, so no time stamps can set them against each other wrongly.
    """

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

    def write(self, source: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> None:
        """One picture of each, uint8 luma and chroma (3, H, W), 4:4:4, limited range."""
        import numpy as np

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


def read_vmaf(log: str) -> tuple[list[float], str]:
    """(each frame's VMAF, the library's version) from the filter's log."""
    content = json.loads(log)
    return [frame["metrics"]["vmaf"] for frame in content["frames"]], content["version"]
