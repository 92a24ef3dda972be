"""Where .s2vc bytes come from, what their header means to the rooms of video, and types that calls share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, TypeAlias

from s2vc.bitstream import Header, StreamReader, fitted
from s2vc.errors import DamagedError, FormatError, InputError

PathLike: TypeAlias = "str | Path"
Seconds: TypeAlias = "str | float | Fraction | None"
ProgressCallback: TypeAlias = Callable[..., None]


@contextlib.contextmanager
def binary_input(source: PathLike) -> Iterator[BinaryIO]:
    """A file or standard input; what is wrong with its bytes is said with its name."""
    with contextlib.ExitStack() as stack:
        if str(source) == "-":
            stream: BinaryIO = sys.stdin.buffer
        else:
            try:
                stream = stack.enter_context(open(source, "rb"))
            except OSError as error:
                raise InputError(f"cannot read {source} ({error.strerror}): check the name") from None
        try:
            yield stream
        except (FormatError, DamagedError) as error:
            raise type(error)(f"{name(source)}: {error}") from None


def name(source: PathLike) -> str:
    """What a source is called in messages."""
    return "standard input" if str(source) == "-" else str(source)


def damage_of_tracks(reader: StreamReader, source: PathLike) -> str | None:
    """One line on what was wrong with the other tracks so far; None where nothing was."""
    damages = reader.track_damages
    if not damages:
        return None
    places = f"in {len(damages)} places" if len(damages) > 1 else f"near frame {damages[0].frame}"
    return f"{name(source)}: sound or subtitles are damaged {places}: every picture is there"


def rate(header: Header) -> Fraction | None:
    """Frames a second, where the header knows a constant duration."""
    return fitted(1 / (header.frame_duration * header.time_base)) if header.frame_duration else None


def can_read_twice(source: PathLike) -> bool:
    """False for standard input, named pipes and devices."""
    path = Path(source)
    return str(source) != "-" and (path.is_file() or path.is_dir() or not path.exists())
