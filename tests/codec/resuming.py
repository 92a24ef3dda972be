"""One process of ``test_resume``: encodes that are killed at random moments; the next one goes on each time.

resuming.py MODEL PICTURES OUT KILLS SEED: until so many runs were killed before they ended, or ten times as
many had begun; prints how many were.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import torch

import s2vc


def main() -> None:
    """Do what the command line says."""
    model_path, pictures, out, kills, seed = sys.argv[1:]
    torch.set_num_threads(1)
    model = s2vc.load(model_path, device="cpu")

    def encode() -> None:
        s2vc.encode(pictures, out, model=model, keyint=8, resume=True, overwrite=True)

    draw = random.Random(int(seed))
    killed = 0
    longest = 1.0
    for _ in range(10 * int(kills)):
        if killed == int(kills):
            break
        # A child starts with everything loaded, so that the kill falls into the encoding.
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            encode()
            os._exit(0)
        time.sleep(draw.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
            longest = min(20.0, longest * 1.3)
        else:  # ended before: begin anew, and kill earlier
            longest = max(0.1, 0.7 * (time.monotonic() - began))
            os.remove(out)
    encode()
    print(killed)


if __name__ == "__main__":
    main()
