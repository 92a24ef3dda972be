"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated

import typer

Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", "-y", help="Replace an existing output.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="Where the networks run.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of the networks (default: all).")]
ModelPlace = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME|PATH", help="The file's model, where the package has it not."),
]
Start = Annotated[str | None, typer.Option(metavar="T", help="Begin at T: seconds or [HH:]MM:SS.")]
Duration = Annotated[str | None, typer.Option(metavar="T", help="Stop after T: seconds or [HH:]MM:SS.")]
Frames = Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop after N frames.")]

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
