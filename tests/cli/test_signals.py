"""Ctrl-C and SIGTERM end a running command at once, with one line and exit 130."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time, types, s2vc
def encode(*args, **options):
    try:
        print("running", flush=True)
        time.sleep(30)
    finally:
        print("cleaned", flush=True)
module = types.ModuleType("s2vc.api")
module.encode = encode
sys.modules["s2vc.api"] = s2vc.api = module
sys.argv = ["s2vc", "encode", "a", "b"]
from s2vc.__main__ import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(number):
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "cleaned\n", "s2vc: interrupted\n")


LOST = """
import time
try:
    print("running", flush=True)
    time.sleep(30)
except BaseException:
    pass
try:
    time.sleep(30)
finally:
    time.sleep(1)
    print("cleaned", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers of POSIX")
def test_an_interrupt_that_was_swallowed_comes_again():
    """As where an import takes every exception for failure; but what cleans up is not disturbed."""
    indented = LOST.replace("\n", "\n    ")
    start, _, end = PROGRAM.partition("    try:")
    program = start + indented + "\n" + end[end.index("module = ") :]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=25)
    assert (process.returncode, out, err) == (130, "cleaned\n", "s2vc: interrupted\n")
