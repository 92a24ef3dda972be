"""From exceptions to one line on stderr and an exit code."""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, TypeVar

import typer

from ..errors import DamagedError, S2vcError, SymbolMismatchError

Command = TypeVar("Command", bound=Callable[..., Any])

INTERRUPTED = 130
_AGAIN = 0.25  # seconds after an interrupt, to see whether it is heeded

# Which extra brings a package that a command may find missing.
_EXTRAS = {
    "imageio_ffmpeg": "bench",
    "bjontegaard": "bench",
    "diffusers": "base",
    "plotly": "bench",
    "jinja2": "bench",
    "skvideo": "demo",
    "matplotlib": "plot",
    "tensorboard": "train",
    "transformers": "train",
}


def guarded(command: Command) -> Command:
    """Let a command end as users expect: one line, the right exit code, a traceback only with ``--debug``."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        debug = bool(options.get("debug"))
        if not debug:
            # Libraries' warnings speak to programmers; ours to users go through `warn`.
            warnings.simplefilter("ignore")
        _unwind_on_signals()
        try:
            result = command(*args, **options)
            sys.stdout.flush()  # here a full disk, or a reader that went away, has its one line
            return result
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 0)
            _fail("interrupted", INTERRUPTED, debug)
        except S2vcError as error:
            _fail(str(error), error.exit_code, debug)
        except BrokenPipeError:
            _fail("the reader of the output went away", 1, debug)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(f"{where}{error.strerror or error}", 1, debug)
        except MemoryError:
            _fail("out of memory: try --scale with a smaller size", 1, debug)
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                _fail(_bug(error), 1, debug)
            _fail(f"the package {error.name} is missing: pip install 's2vc[{extra}]'", 1, debug)
        except Exception as error:
            _fail(_bug(error), 1, debug)

    return run  # type: ignore[return-value]


def warn(message: str) -> None:
    """One warning line on stderr."""
    print(f"s2vc: warning: {_one_line(message)}", file=sys.stderr)


def end_damaged(message: str) -> NoReturn:
    """Say what was damaged and end with exit 3: what could be read was written."""
    warn(message)
    raise typer.Exit(DamagedError.exit_code)


def end_differing(message: str) -> NoReturn:
    """Say which frame reads differently here and end with exit 4: what came before it was written."""
    warn(message)
    raise typer.Exit(SymbolMismatchError.exit_code)


def _fail(message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    print(f"s2vc: {_one_line(message)}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what Python flushes at exit would complain once more
    raise typer.Exit(code)


def _bug(error: BaseException) -> str:
    return f"internal error, {type(error).__name__}: {error}: please report it with the output of --debug"


def _one_line(message: str) -> str:
    return " ".join(message.split())


class _InterruptedInVideo(KeyboardInterrupt, Exception):
    """An interrupt in a call back from FFmpeg: PyAV hands on nothing there but an Exception."""


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("s2vc.video."):
            raise _InterruptedInVideo
        frame = frame.f_back
    raise KeyboardInterrupt


def _unwind_again(number: int, frame: FrameType | None) -> None:
    """Interrupt once more if that was lost, as in an import that takes every exception for failure."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return  # on its way: what cleans up is left alone
        error = error.__context__
    _unwind(number, frame)


def _unwind_on_signals() -> None:
    """Unwind on SIGTERM as on Ctrl-C, so that no half-written output stays behind."""
    try:
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, _unwind_again)
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, _unwind)
    except ValueError:
        pass  # not the main thread: a program that embeds the command keeps its own handling
