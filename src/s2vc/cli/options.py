"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", "-y", help="Replace an existing output.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="Where the networks run.")]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", metavar="fp32|fp16|bf16", help="What a base model draws pictures in (fp32)."),
]
Offload = Annotated[
    bool, typer.Option("--offload", help="A base model's generator is on the device only while it runs.")
]
LightVae = Annotated[
    str | None,
    typer.Option("--vae", metavar="light|PATH", help="A base model's pictures by a light decoder, TAESD."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of the networks (default: all).")]
Stored = Annotated[str, typer.Argument(metavar="FILE", help="An .s2vc file, or - for stdin.")]
ModelName = Annotated[str, typer.Option("--model", metavar="NAME|PATH", help="The model.")]
ModelPlace = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME|PATH", help="The file's model, where the package has it not."),
]
Conceal = Annotated[
    bool, typer.Option("--conceal", help="Go on behind damage: the last good picture until the next I-frame.")
]
PageFolder = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the page goes.")]
Report = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the JSON here, too.")]
Start = Annotated[str | None, typer.Option(metavar="T", help="Begin at T: seconds or [HH:]MM:SS.")]
Duration = Annotated[str | None, typer.Option(metavar="T", help="Stop after T: seconds or [HH:]MM:SS.")]
Frames = Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop after N frames.")]

Bitrate = Annotated[
    str | None,
    typer.Option(metavar="50k", help="Bits a second of the video on average, in two passes over a file."),
]
TargetSize = Annotated[
    str | None, typer.Option(metavar="2MB", help="The largest size of the whole file, in two passes.")
]
BitsAPixel = Annotated[
    float | None, typer.Option("--bpp", metavar="0.02", help="Bits a pixel of the video on average.")
]
MaxBitrate = Annotated[
    str | None,
    typer.Option(metavar="80k", help="A link's bits a second, which no run of frames overfills."),
]
BufferSize = Annotated[
    str | None,
    typer.Option(metavar="160k", help="The link's buffer in bits (default: one second of --max-bitrate)."),
]
Passes = Annotated[
    int | None, typer.Option(min=1, max=2, help="Passes for --bitrate and --bpp (default: 2, of a pipe 1).")
]
QualityTarget = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="METRIC=VALUE",
        help="The smallest file that meets it: psnr, vmaf, lpips_vgg, lpips_alex or dists.",
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail where a rate, size or target cannot be met.")]
Plan = Annotated[bool, typer.Option("--plan", help="Say what it would come to, from a few probes, and stop.")]

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_PLAIN = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|m|min|h)", re.ASCII)
_UNITS = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "min": Fraction(60),
    "h": Fraction(3600),
}


def parse_time(text: str | None, option: str) -> Fraction | None:
    """Seconds, exactly, from ``12.5``, ``12.5s``, ``2m``, ``1:02.5`` or ``1:00:02.5``."""
    if text is None:
        return None
    if match := _PLAIN.fullmatch(text.strip()):
        return Fraction(match[1]) * _UNITS[match[2]]
    if match := _CLOCK.fullmatch(text.strip()):
        hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
        return 3600 * hours + 60 * minutes + seconds
    raise _wrong(option, f"{text!r} is not a time: seconds or [HH:]MM:SS")


def parse_size(text: str | None, option: str) -> tuple[int, int] | None:
    """``(width, height)``, from ``426x240``."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,5})[xX×]([0-9]{1,5})", text.strip())
    if match is None:
        raise _wrong(option, f"{text!r} is not a size: WIDTHxHEIGHT, such as 426x240")
    return int(match[1]), int(match[2])


def parse_keyint(text: str | None, option: str = "--keyint") -> int | str | None:
    """An interval of I-frames: a count of frames, or a text such as ``10s`` that the codec resolves.

    ``--keyint`` may also be ``auto``.
    """
    if text is None or (text == "auto" and option == "--keyint"):
        return text
    if re.fullmatch(r"[1-9][0-9]{0,8}", text):
        return int(text)
    if re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)s", text) and float(text[:-1]) > 0:
        return text
    raise _wrong(option, f"{text!r} is not an interval: frames such as 250, or seconds such as 10s")


def parse_range(text: str | None, option: str) -> tuple[float, float] | None:
    """Two positive numbers that rise, from ``0.01-0.15``."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9.]+)-([0-9.]+)", text)
    try:
        low, high = (float(part) for part in match.groups()) if match else (0.0, 0.0)
    except ValueError:
        low = high = 0.0
    if not 0 < low < high:
        raise _wrong(option, f"{text!r} is not a range: two numbers such as 0.01-0.15")
    return low, high


_PREFIXES = {"": 1, "k": 1000, "K": 1000, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?([kKMG]|[KMG]i|)(B|bits?|b|bps|bit/s|)", re.ASCII)


def parse_bits(text: str | None, option: str) -> float | None:
    """Bits, or bits a second, from ``50k``, ``1.5M``, ``50kbit/s`` or, eight times as many, ``6kB``."""
    if text is None:
        return None
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise _wrong(option, f"{text!r} is not a number of bits: such as 50k or 1.5M")
    return float(Fraction(match[1]) * _PREFIXES[match[2]] * (8 if match[3] == "B" else 1))


def parse_bytes(text: str | None, option: str) -> int | None:
    """Bytes, from ``2MB``, ``2M``, ``1.5MiB`` or ``800kB``."""
    if text is None:
        return None
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or match[3] not in ("", "B") or Fraction(match[1]) * _PREFIXES[match[2]] < 1:
        raise _wrong(option, f"{text!r} is not a size: such as 2MB, 800kB or 1.5MiB")
    return int(Fraction(match[1]) * _PREFIXES[match[2]])


def check_positive(value: float | None, option: str) -> float | None:
    """A number above 0."""
    if value is not None and not 0 < value < float("inf"):
        raise _wrong(option, f"{value:g} is not above 0")
    return value


def check_wishes(
    quality: int | None,
    wishes: dict[str, object],
    max_bitrate: str | None,
    bufsize: str | None,
    passes: int | None,
) -> None:
    """Rates, sizes and targets that exclude each other. ``wishes``: values by option."""
    given = [option for option, value in wishes.items() if value is not None]
    if len(given) > 1:
        raise _wrong(given[1], f"give {given[0]} or {given[1]}, not both")
    if given and quality is not None:
        raise _wrong("--quality", f"give --quality or {given[0]}, not both")
    if max_bitrate is not None and "--target" in given:
        raise _wrong("--max-bitrate", "give --target or --max-bitrate, not both")
    if bufsize is not None and max_bitrate is None:
        raise _wrong("--bufsize", "give --max-bitrate, too")
    if passes is not None and not {"--bitrate", "--bpp", "--target-size"} & set(given):
        raise _wrong("--passes", "give --bitrate, --bpp or --target-size, too")
    if passes == 1 and "--target-size" in given:
        raise _wrong("--passes", "--target-size takes two passes")


def check_alone(option: str, excluding: Mapping[str, object]) -> None:
    """Refuse an option beside those that it excludes. ``excluding``: their values, by option."""
    for other, value in excluding.items():
        if value:
            raise _wrong(option, f"give {option} or {other}, not both")


def parse_target(text: str | None) -> str | None:
    """``METRIC=VALUE``; which metrics there are is known where they are measured."""
    if text is None:
        return None
    if not re.fullmatch(
        r"(psnr|vmaf|dists|lpips[_-](vgg|alex)) ?= ?(\d+(\.\d*)?|\.\d+)", text.strip(), re.ASCII
    ):
        raise _wrong("--target", f"{text!r} is not a target: METRIC=VALUE, such as lpips_vgg=0.25 or psnr=30")
    return text.strip()


def check_device(text: str) -> str:
    """The device's name, when it has the form of one; whether it exists is found out by torch."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", text):
        raise _wrong("--device", f"{text!r} is not a device: auto, cpu, cuda, cuda:N or mps")
    return text


def check_choice(text: str, choices: tuple[str, ...], option: str) -> str:
    """One of a few words."""
    if text not in choices:
        raise _wrong(option, f"{text!r} is not one of {', '.join(choices)}")
    return text


def running(model: str | None, dtype: str | None, offload: bool, vae: str | None = None) -> dict[str, Any]:
    """What of ``--dtype``, ``--offload`` and ``--vae`` was given, for ``api.load``."""
    said = {"dtype": dtype and check_choice(dtype, ("fp32", "fp16", "bf16"), "--dtype"), "vae": vae}
    given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if offload:
        given["offload"] = True
    if given and model is None:
        raise _wrong("--model", "name the model that --dtype, --offload and --vae are for")
    return given


def check_extent(duration: str | None, frames: int | None) -> None:
    """``--duration`` and ``--frames`` answer the same question."""
    if duration is not None and frames is not None:
        raise _wrong("--frames", "give --duration or --frames, not both")


def check_stdout_free(output: str, json: bool) -> None:
    """Video and JSON cannot share stdout."""
    if output == "-" and json:
        raise _wrong("--json", "stdout already carries the output: write the output to a file")


def _wrong(option: str, message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint=option)
