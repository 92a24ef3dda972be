"""Times and sizes as people write them."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from s2vc.errors import InputError

_UNITS = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "min": Fraction(60),
    "h": Fraction(3600),
}
_CLOCK = re.compile(r"^(?:(\d+):)?(\d+):([0-5]?\d(?:\.\d+)?)$")
_PLAIN = re.compile(r"^(\d+(?:\.\d*)?|\.\d+)(ms|s|m|min|h)?$")


def parse_time(value: str | int | float | Fraction) -> Fraction:
    """Seconds of ``12.5``, ``"12.5"``, ``"12.5s"``, ``"800ms"``, ``"2m"``, ``"1:02.5"`` or ``"0:01:02"``.

    Exact: decimals are read as they are written, not as the nearest float. Raises InputError on
    anything else, and on negative times.
    """
    if isinstance(value, str):
        text = value.strip().lower()
        if match := _CLOCK.match(text):
            hours, minutes, seconds = match.groups()
            return (int(hours or 0) * 60 + int(minutes)) * 60 + Fraction(seconds)
        if match := _PLAIN.match(text):
            return Fraction(match[1]) * _UNITS[match[2] or "s"]
        raise InputError(f"{value!r} is not a time: write seconds (12.5), 12.5s or 0:01:02")
    try:
        seconds_ = value if isinstance(value, Fraction) else Fraction(Decimal(str(value)))
    except (InvalidOperation, ValueError, OverflowError):
        raise InputError(f"{value!r} is not a time: give seconds") from None
    if seconds_ < 0:
        raise InputError(f"{value} s is not a time: it must not be negative")
    return seconds_


def parse_size(value: str | tuple[int, int]) -> tuple[int, int]:
    """(width, height) of ``"426x240"`` or of a pair. Raises InputError on anything else."""
    if isinstance(value, str):
        match = re.match(r"^\s*(\d+)\s*[xX×:]\s*(\d+)\s*$", value)
        if match is None:
            raise InputError(f"{value!r} is not a size: write WIDTHxHEIGHT, as 426x240")
        return int(match[1]), int(match[2])
    width, height = value
    return int(width), int(height)
