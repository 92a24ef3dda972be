"""Commands in processes of their own: how long they took, how much memory, and what they complained of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s2vc.errors import S2vcError

# Stands between us and the command for two reasons. On Linux a process's peak memory includes what it was
# forked from, and this one is small; and its stdin closes when we are gone, however suddenly: then the
# command ends, too.
_LAUNCHER = """
import json, os, subprocess, sys, threading, time
began = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
def watch():
    sys.stdin.buffer.read()
    child.kill()
threading.Thread(target=watch, daemon=True).start()
_, status, usage = os.wait4(child.pid, 0)
seconds = time.perf_counter() - began
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss]), flush=True)
os._exit(0)
"""

_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class Ran:
    """A command that ended well: wall seconds, and its peak resident memory in bytes."""

    seconds: float
    peak_memory: int


def run_child(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Ran:
    """Run a command to its end, stdin and stdout closed; it ends with this process, even when that is killed.

    Raises S2vcError that says how it ended and its last line of complaint.
    """
    with tempfile.TemporaryFile() as complaints:
        launcher = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        assert launcher.stdin is not None and launcher.stdout is not None
        with launcher.stdin, launcher.stdout:
            _running.add(launcher)
            try:
                out = launcher.stdout.read()
            except BaseException:
                launcher.stdin.close()
                raise
            finally:
                launcher.wait()
                _running.discard(launcher)
        complaints.seek(0)
        said = complaints.read()
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    complaint = lines[-1].strip() if lines else "no message"
    if not out:
        # the launcher itself did not get that far: the command cannot be started, or someone killed it
        ended = how_it_ended(launcher.returncode) if launcher.returncode < 0 else "cannot be started"
        raise S2vcError(f"{Path(command[0]).name}: {ended}: {complaint}")
    code, seconds, peak = json.loads(out)
    if code:
        raise S2vcError(f"{how_it_ended(code)}: {complaint}")
    # macOS counts bytes, all others kilobytes
    return Ran(seconds, peak * (1 if sys.platform == "darwin" else 1024))


def end_children() -> None:
    """End all commands that other threads are running; their ``run_child`` raises."""
    for launcher in list(_running):
        if launcher.stdin is not None:
            launcher.stdin.close()


def how_it_ended(code: int) -> str:
    """``exit 2``, or ``killed by SIGKILL`` for a negative code."""
    if code >= 0:
        return f"exit {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
