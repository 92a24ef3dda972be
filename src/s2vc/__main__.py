"""``python -m s2vc`` and the ``s2vc`` command."""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line on ``sys.argv``; ends the process with an exit code of DESIGN §10."""
    try:
        from .cli.app import run

        run()
    except KeyboardInterrupt:  # before a command took over, or after it had let go
        print("s2vc: interrupted", file=sys.stderr)
        _leave()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            _leave()
        raise


def _leave() -> None:
    """End now: outputs are put away, and taking torch apart can take seconds on a busy machine."""
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
