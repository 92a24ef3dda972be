"""``s2vc bench drift``: how far pictures of two arithmetics part over time, and quality on repeated content.

Symbols are integers and the same everywhere; pictures are floats. Each *setting* (threads, oneDNN, OpenBLAS
kernels, instruction set, dtype) decodes the same file in a process of its own, and its pictures are compared
with those of the encoder's own reconstruction (a clip) or of the first setting (an ``.s2vc`` file, an adapted
clip). With a palindrome the footage runs forward and backward again and again, one I-frame for all: what
later passes lose against the first is drift, since the pictures to be shown are the same.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s2vc.bench.codecs import ffmpeg
from s2vc.bench.frames import conversion, read_rgb
from s2vc.bench.metrics import METRICS, Meter, psnr
from s2vc.bench.process import run_child
from s2vc.bench.results import machine
from s2vc.errors import InputError, S2vcError
from s2vc.perceptual import weights_environment

SETTINGS = (
    "threads=1",
    "threads=2",
    "threads=1,onednn=off,coretype=Nehalem",
    "threads=2,onednn=off,coretype=Nehalem",
)
"""What is compared unless the user names others; the first is the reference."""

_CHOICES = {
    "threads": None,  # a number
    "onednn": ("on", "off"),
    "coretype": None,  # a name of OPENBLAS_CORETYPE
    "instructions": ("native", "avx2", "sse41"),
    "dtype": ("float32", "bfloat16"),
}
_LIMITS = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "sse41": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}

# What an environment variable cannot switch is switched here, before the command line starts.
_PROGRAM = """
import json, sys
import torch
from s2vc.__main__ import main
switches = json.loads(sys.argv.pop(1))
if switches["onednn"] == "off":
    torch.backends.mkldnn.enabled = False
with torch.autocast("cpu", torch.bfloat16, enabled=switches["dtype"] == "bfloat16"):
    main()
"""


@dataclass(frozen=True)
class Setting:
    """One arithmetic, written as ``threads=2,onednn=off,coretype=Nehalem,instructions=sse41,dtype=bfloat16``.

    What is not written is ``threads=1,onednn=on,instructions=native,dtype=float32`` and OpenBLAS's own
    choice. ``instructions`` holds torch's kernels and oneDNN back to older processors'; ``dtype=bfloat16`` is
    torch's autocast around everything the codec does not exempt.
    """

    text: str
    values: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Raises InputError that names what is wrong."""
        values = {"threads": "1", "onednn": "on", "instructions": "native", "dtype": "float32"}
        for part in text.split(","):
            key, _, value = part.strip().partition("=")
            if key not in _CHOICES:
                raise InputError(f"setting {text!r}: no {key!r}: there are {', '.join(_CHOICES)}")
            choices = _CHOICES[key]
            if not value or (choices and value not in choices):
                raise InputError(f"setting {text!r}: {key} is {' or '.join(choices or ('a value',))}")
            if key == "threads" and not (value.isdigit() and int(value)):
                raise InputError(f"setting {text!r}: threads is a number from 1 up")
            values[key] = value
        return cls(text, values)

    def command(self, *arguments: str) -> list[str]:
        """The s2vc command line under this setting."""
        switches = json.dumps({key: self.values[key] for key in ("onednn", "dtype")})
        return [sys.executable, "-c", _PROGRAM, switches, *arguments, "--threads", self.values["threads"]]

    def environment(self) -> dict[str, str]:
        found = dict(_LIMITS.get(self.values["instructions"], {}))
        if "coretype" in self.values:
            found["OPENBLAS_CORETYPE"] = self.values["coretype"]
        return {**found, "OMP_NUM_THREADS": self.values["threads"]}

    def run(self, *arguments: str, weights_dir: str | Path | None = None) -> None:
        try:
            run_child(self.command(*arguments), {**self.environment(), **weights_environment(weights_dir)})
        except S2vcError as error:
            raise S2vcError(f"s2vc {arguments[0]} under {self.text}: {error}") from error


def measure_drift(
    source: str | Path,
    *,
    model: str = "tiny",
    qualities: Sequence[int] = (32,),
    frames: int | None = None,
    settings: Sequence[str] = (),
    each_encodes: bool = False,
    palindrome: int = 0,
    adapt: bool = False,
    metrics: Sequence[str] = ("lpips-vgg",),
    step: int = 1,
    weights_dir: str | Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The drift of a clip, coded at ``qualities`` with one I-frame, or of an ``.s2vc`` file: a JSON object.

    ``settings``: what decodes, the first also encodes; default SETTINGS, with a palindrome only its first.
    ``each_encodes``: every setting encodes too, and each file is decoded under all. ``palindrome``: so many
    times forward and backward; ``metrics`` are then means over each pass, of every ``step``-th of its frames.
    ``adapt``: clips are encoded with ``--adapt``.
    Raises InputError for wrong use, S2vcError where a command fails.
    """
    chosen = [Setting.parse(text) for text in settings or (SETTINGS[:1] if palindrome else SETTINGS)]
    if unknown := [name for name in metrics if name not in METRICS]:
        raise InputError(f"no metric {unknown[0]}: there are {', '.join(METRICS)}")
    source = Path(source)
    coded_already = source.suffix == ".s2vc"
    if coded_already and (palindrome or each_encodes or adapt):
        raise InputError(f"{source} is coded already: name a clip for what needs an encoder")
    if not source.is_file() and not source.is_dir():
        raise InputError(f"no {source}: name a clip or an .s2vc file")
    with tempfile.TemporaryDirectory(prefix="s2vc-drift-") as name:
        folder = Path(name)
        footage = source
        if palindrome:
            footage = folder / "palindrome.mkv"
            there_and_back(source, footage, frames, palindrome)
            frames = None
        options = ["--model", model, *(["--adapt"] if adapt else ["--recon", str(folder / "recon")])]
        options += [] if frames is None else ["--frames", str(frames)]
        coded: list[dict[str, Any]] = []
        if coded_already:
            coded.append({"decoders": _decode(source, None, chosen, model, frames, folder)})
        meter = Meter(list(metrics), weights_dir, "cpu", step) if palindrome else None
        for quality in () if coded_already else qualities:
            for encoder in chosen if each_encodes else chosen[:1]:
                coded.append(_code(footage, quality, options, weights_dir, encoder, folder))
                truth = None if adapt else folder / "recon"  # what adapts knows no pictures while it encodes
                coded[-1]["decoders"] = _decode(folder / "coded.s2vc", truth, chosen, model, None, folder)
                if meter:
                    shown = truth or folder / "decoded-0"
                    coded[-1]["passes"] = _passes(footage, shown, 2 * palindrome, meter)
                for line in summary_lines(coded[-1]):
                    report(line)
        if coded_already:
            for line in summary_lines(coded[0]):
                report(line)
    return {
        "schema": 1,
        "source": source.name,
        "model": None if coded_already else model,
        "palindrome": palindrome,
        "adapt": adapt,
        "step": step,
        "settings": [setting.text for setting in chosen],
        "rgb": conversion(),
        "machine": machine(),
        "coded": coded,
    }


def _code(
    footage: Path,
    quality: int,
    options: Sequence[str],
    weights_dir: str | Path | None,
    encoder: Setting,
    folder: Path,
) -> dict[str, Any]:
    """``coded.s2vc`` in the folder, with one I-frame."""
    file = folder / "coded.s2vc"
    encoder.run(
        *("encode", str(footage), str(file), "--quality", str(quality), "--keyint", "100000"),
        *("--device", "cpu", "-y", "-q", *options),
        weights_dir=weights_dir,
    )
    return {"quality": quality, "encoder": encoder.text, "bytes": file.stat().st_size}


def _decode(
    file: Path, truth: Path | None, settings: Sequence[Setting], model: str, frames: int | None, folder: Path
) -> list[dict[str, Any]]:
    """Each setting's PSNR by frame against ``truth``, or against what the first setting decodes."""
    from s2vc.models import find_model

    named = ["--model", model] if find_model(model).path == Path(model) else []
    limit = [] if frames is None else ["--frames", str(frames)]
    decoders = []
    for number, setting in enumerate(settings):
        target = folder / f"decoded-{0 if truth is None and not number else 1}"
        setting.run("decode", str(file), str(target), "--device", "cpu", "-y", "-q", *named, *limit)
        if truth is None:
            truth = target
            continue
        decoders.append({"decoder": setting.text, **compare_pictures(read_rgb(truth), read_rgb(target))})
    return decoders


def compare_pictures(truth: Iterator[np.ndarray], other: Iterator[np.ndarray]) -> dict[str, Any]:
    """uint8 RGB frames of two decoders -> PSNR in dB by frame (equal pictures: 100), its least and its mean.

    Raises S2vcError when one has more frames than the other.
    """
    values: list[float] = []
    for a, b in itertools.zip_longest(truth, other):
        if a is None or b is None:
            raise S2vcError(f"frame counts differ: one of two decoders ends after {len(values)} frames")
        values.append(psnr(float(np.square(a.astype(np.int32) - b).mean())))
    if not values:
        raise S2vcError("the decoders showed no frames")
    worst = int(np.argmin(values))
    return {
        "frames": len(values),
        "equal": sum(value >= 100 for value in values),
        "psnr_min": round(values[worst], 2),
        "worst_frame": worst,
        "psnr_mean": round(float(np.mean(values)), 2),
        "psnr": [round(value, 2) for value in values],
    }


def _passes(footage: Path, decoded: Path, passes: int, meter: Meter) -> dict[str, Any]:
    """Metrics by pass, and of their means the ratio of the last forward pass to the first."""
    source, shown = read_rgb(footage), read_rgb(decoded)
    length = sum(1 for _ in read_rgb(footage)) // passes
    found: dict[str, list[float]] = {}
    for number in range(passes):
        (result,) = meter.measure(itertools.islice(source, length), [itertools.islice(shown, length)])
        if isinstance(result, S2vcError):
            raise S2vcError(f"pass {number + 1}: {result}")
        for name, values in result.items():
            found.setdefault(name, []).append(values["mean"])
    return {
        "frames": length,
        "missing": meter.missing,
        "metrics": {
            name: {"means": means, "last_forward_to_first": round(means[-2] / means[0], 4)}
            for name, means in found.items()
            if means[0]
        },
    }


def there_and_back(source: Path, target: Path, frames: int | None, times: int) -> None:
    """The clip forward and backward, ``times`` over, losslessly. Raises InputError where FFmpeg cannot."""
    parts = 2 * times
    trim = "null" if frames is None else f"trim=end_frame={frames}"
    graph = f"[0:v]{trim},split={parts}" + "".join(f"[s{n}]" for n in range(parts)) + ";"
    graph += "".join(f"[s{n}]{'reverse' if n % 2 else 'null'}[p{n}];" for n in range(parts))
    graph += "".join(f"[p{n}]" for n in range(parts)) + f"concat=n={parts}"
    command = [ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-i", str(source)]
    try:
        run_child([*command, "-filter_complex", graph, "-an", "-c:v", "ffv1", str(target)])
    except S2vcError as error:
        raise InputError(f"ffmpeg cannot play {source} forward and backward: {error}") from error


def summary_lines(entry: dict[str, Any]) -> Iterator[str]:
    """What one coded file showed, for a person."""
    name = f"quality {entry['quality']}, encoded under {entry['encoder']}: " if "quality" in entry else ""
    for found in entry["decoders"]:
        yield (
            f"{name}decoded under {found['decoder']}: PSNR at least {found['psnr_min']:.1f} dB "
            f"(frame {found['worst_frame']}), {found['equal']} of {found['frames']} frames equal"
        )
    for metric, values in entry.get("passes", {}).get("metrics", {}).items():
        means = ", ".join(f"{value:.4f}" for value in values["means"])
        ratio = values["last_forward_to_first"]
        yield f"{name}{metric} by pass {means}; last forward pass to first {ratio:.3f}"
    for metric, reason in entry.get("passes", {}).get("missing", {}).items():
        yield f"{name}{metric} n/a: {reason}"
