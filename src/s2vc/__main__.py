"""``python -m s2vc`` and the ``s2vc`` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line on ``sys.argv``; ends the process with an exit code of DESIGN §10."""
    try:
        from .cli.app import run

        run()
    except KeyboardInterrupt:  # before a command took over, or after it had let go
        import sys

        print("s2vc: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
