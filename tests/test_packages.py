"""The wheel and the source distribution, each installed where nothing of this folder is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from s2vc.models import find_model

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    return ran


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> tuple[Path, Path]:
    """(wheel, source distribution); the wheel is built from the latter, as PyPI's users might."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


@pytest.fixture
def clean(tmp_path) -> Path:
    """A fresh environment's folder of programs. What s2vc needs is lent by this one; s2vc itself is not."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    purelib = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    ).stdout.strip()
    # A folder named here is searched, but its own .pth files, our editable install among them, are not read.
    (Path(purelib) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    ran = subprocess.run([python, "-c", "import s2vc"], cwd=tmp_path, capture_output=True)
    assert ran.returncode != 0
    return python.parent


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_installs_and_works(packages, clean, film, mini, tmp_path, kind):
    package = packages[0 if kind == "wheel" else 1]
    run(
        *(clean / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--no-index", "--no-build-isolation", package),
        cwd=tmp_path,
    )
    film(tmp_path / "in.mp4", frames=3, sound=(("aac", 44100, "eng"),))
    assert run(clean / "s2vc", "--version", cwd=tmp_path).stdout.startswith("s2vc ")
    run(clean / "s2vc", "encode", "in.mp4", "a.s2vc", cwd=tmp_path)  # with the model in the package
    run(clean / "python", "-m", "s2vc", "decode", "a.s2vc", "b.mp4", cwd=tmp_path)
    found = run(
        clean / "python",
        "-c",
        "import s2vc, pathlib\n"
        "here = pathlib.Path(s2vc.__file__).parent\n"
        "print(here, (here / 'py.typed').exists())",
        cwd=tmp_path,
    ).stdout
    assert str(tmp_path) in found and found.endswith("True\n")


def test_what_is_in_them(packages):
    wheel, source = packages
    model = find_model("tiny").id
    assert wheel.stat().st_size < 25e6
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "s2vc/py.typed" in names and f"s2vc/models/weights/{model}.safetensors" in names
    assert all(name.startswith(("s2vc/", "s2vc-")) for name in names)
    with tarfile.open(source) as archive:
        members = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {
        "mkdocs.yml",
        "docs/bitstream.md",
        "tests/golden/mini.safetensors",
        "README.md",
        "LICENSE",
    } <= members
