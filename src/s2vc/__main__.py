"""``python -m s2vc`` and the ``s2vc`` command."""

from __future__ import annotations

import gc
import os
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line on ``sys.argv``; ends the process with an exit code of DESIGN §10."""
    if _interrupted():
        _leave()


def _interrupted() -> bool:
    """Run the command line; whether it was interrupted. An end of another kind goes on as SystemExit."""
    try:
        from .cli.app import run

        run()
    except KeyboardInterrupt:  # before a command took over, or after it had let go
        print("s2vc: interrupted", file=sys.stderr)
        return True
    except SystemExit as ended:
        if ended.code != INTERRUPTED:
            raise
        return True
    return False


def _leave() -> None:
    """End now: taking torch apart can take seconds on a busy machine.

    The interrupt's traceback is gone by now, and with it what its frames held: unfinished outputs go, too.
    """
    gc.collect()
    processes = sys.modules.get("multiprocessing")
    if processes is not None and processes.active_children():
        sys.exit(INTERRUPTED)  # which ends them
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
