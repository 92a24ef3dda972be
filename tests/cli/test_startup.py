"""What starting costs: nothing heavy is loaded where it is not needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

# pydantic is not among them: typer itself reads options with it since 0.29.
HEAVY = {"torch", "av", "numpy", "cv2", "constriction", "yaml"}


def loaded_by(program: str) -> set[str]:
    """Top-level modules in ``sys.modules`` when the program has run in a fresh process."""
    source = (
        f"import sys\ntry:\n    exec({program!r})\nexcept SystemExit:\n    pass\n"
        "print('\\n@' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    return set(ran.stdout.rpartition("@")[2].split())


@pytest.mark.parametrize(
    "program",
    [
        "import s2vc; s2vc.__version__; s2vc.S2vcError",
        "sys.argv = ['s2vc', '--help']; from s2vc.__main__ import main; main()",
        "sys.argv = ['s2vc', '--version']; from s2vc.__main__ import main; main()",
        "sys.argv = ['s2vc', 'encode', '--help']; from s2vc.__main__ import main; main()",
        "sys.argv = ['s2vc', 'bench', '--help']; from s2vc.__main__ import main; main()",
    ],
)
def test_nothing_heavy_is_loaded(program):
    assert not loaded_by(program) & HEAVY


def test_version_matches_the_metadata():
    from importlib.metadata import version

    import s2vc

    ran = subprocess.run(
        [sys.executable, "-m", "s2vc", "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"s2vc {s2vc.__version__}\n"
    assert version("s2vc") == s2vc.__version__
