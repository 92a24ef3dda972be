"""Playing a file: a decoder in a process of its own, piped into a player that is installed."""

from __future__ import annotations

import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from fractions import Fraction

from s2vc.errors import InputError, OutputError

from .sources import PathLike, name

# A player that reads y4m from its standard input. mpv keeps what it was sent, so its own keys seek in that.
_PLAYERS = {
    "mpv": (
        *("--really-quiet", "--no-input-terminal", "--cache=yes", "--demuxer-max-bytes=1GiB"),
        *("--title={}", "-"),
    ),
    "ffplay": ("-loglevel", "error", "-autoexit", "-window_title", "{}", "-i", "-"),
}
_POLL = 0.1  # seconds


def play(
    source: PathLike,
    *,
    start: Fraction | None = None,
    options: Sequence[str] = (),
    say: Callable[[str], object] = print,
) -> int:
    """Show a file in mpv or ffplay; returns the exit code of the decoder.

    start: seconds. options: further ones for ``s2vc decode``. While it plays, a time typed on the terminal
    (``12.5``, ``1:02``, or ``+10`` and ``-10`` from where it is) starts it anew from there; ``q`` ends it.
    Raises OutputError if no player is installed.
    """
    player = next((player for player in _PLAYERS if shutil.which(player)), None)
    if player is None:
        raise OutputError(
            "no player is installed: install mpv (or FFmpeg with ffplay), "
            f"or write a video: s2vc decode {source} out.mp4"
        )
    show = [player, *(argument.format(name(source)) for argument in _PLAYERS[player])]
    asked: queue.Queue[str] = queue.Queue()
    if str(source) != "-" and sys.stdin.isatty():
        say("type a time (12.5, 1:02, +10, -10) and Enter to go there, q to end")
        threading.Thread(target=_ask, args=(asked,), daemon=True).start()
    at = start or Fraction(0)
    while True:
        decode = [sys.executable, "-m", "s2vc", "decode", str(source), "-", "-q", *options]
        session = _Session(decode + (["--start", f"{float(at):.3f}"] if at else []), show)
        try:
            line = session.wait(asked)
        finally:
            code = session.end()
        if line is None or line.strip() in ("q", "quit"):
            return code
        at = _place(line, at + Fraction(session.seconds), say)


def _ask(asked: queue.Queue[str]) -> None:
    for line in sys.stdin:
        asked.put(line)


class _Session:
    """A decoder and a player, from one place on."""

    def __init__(self, decode: Sequence[str], show: Sequence[str]) -> None:
        self._began = time.monotonic()
        self._decoder = subprocess.Popen(decode, stdout=subprocess.PIPE)
        self._player = subprocess.Popen(show, stdin=self._decoder.stdout)
        assert self._decoder.stdout is not None
        self._decoder.stdout.close()  # the player's end alone is left: the decoder notices when it goes

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def wait(self, asked: queue.Queue[str]) -> str | None:
        """What is asked for while it plays; None once the player has gone."""
        while self._player.poll() is None:
            try:
                return asked.get(timeout=_POLL)
            except queue.Empty:
                pass
        return None

    def end(self) -> int:
        """Stop both; the decoder's exit code, 0 if it was stopped before its end."""
        if self._player.poll() is None:
            self._player.terminate()
            self._decoder.terminate()
        self._player.wait()
        code = self._decoder.wait()
        return code if code in (0, 1, 2, 3, 4) else 0


def _place(text: str, now: Fraction, say: Callable[[str], object]) -> Fraction:
    """The time that was typed, from the beginning; where it is now if that cannot be read."""
    from s2vc.video.times import parse_time

    text = text.strip()
    try:
        if text[:1] in ("+", "-"):
            step = parse_time(text[1:])
            return max(Fraction(0), now + step if text[0] == "+" else now - step)
        return parse_time(text)
    except InputError as error:
        say(str(error))
        return now
