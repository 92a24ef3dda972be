"""``python -m s2vc`` and the ``s2vc`` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line on ``sys.argv``; ends the process with an exit code of DESIGN §10."""
    from .cli.app import run

    run()


if __name__ == "__main__":
    main()
