"""The published system at its full size, with drawn weights: import, an I and a P frame there and back."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from s2vc.bench.process import run_child
from s2vc.models.published import layout
from s2vc.models.published_loading import ModelFolder
from s2vc.nn.base.config import BaseConfig

DISK, MEMORY, IMPORT_MEMORY = 13e9, 16e9, 3e9
ARCHIVES = {
    "intra": "I_ckpts/onedc_lmbda1.8/model_1.safetensors",
    "generator": "P_ckpts/lmbda0.2/model.safetensors",
    "inter": "P_ckpts/lmbda0.2/model_1.safetensors",
    "vae": "SD_ckpts/stable-diffusion-2-1/vae/diffusion_pytorch_model.safetensors",
}


def write_release(folder: Path) -> None:
    """Archives of one point; weights small enough that what grows from block to block stays a number."""
    generator = torch.Generator().manual_seed(1)
    for kind, place in ARCHIVES.items():
        held = {}
        for tensor in layout(BaseConfig()):
            if tensor.archive == kind:
                fan_in = torch.Size(tensor.shape[1:]).numel()
                reach = 0.5 * (3 / fan_in) ** 0.5 if len(tensor.shape) > 1 else 0.1
                held[tensor.key] = torch.empty(tensor.shape).uniform_(-reach, reach, generator=generator)
                if "norm" in tensor.name and tensor.name.endswith("weight"):
                    held[tensor.key] += 1
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        save_file(held, folder / place)


def run(*arguments: object) -> float:
    """s2vc in a process of its own, on one thread; its peak memory in bytes."""
    ran = run_child([sys.executable, "-m", "s2vc", *map(str, arguments), "-q"], {"OMP_NUM_THREADS": "1"})
    print(f"{arguments[0]}: {ran.seconds:.0f} s, {ran.peak_memory / 1e9:.1f} GB")
    return ran.peak_memory


@pytest.mark.slow
def test_two_frames_there_and_back_within_16_gigabytes(scene):
    if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") < MEMORY:
        pytest.skip("the test needs a machine of 16 GB")
    with tempfile.TemporaryDirectory(prefix="s2vc-full-size-") as name:  # too large to be left behind
        folder = Path(name)
        if shutil.disk_usage(folder).free < DISK:
            pytest.skip(f"the test needs {DISK / 1e9:.0f} GB of disk")
        write_release(folder / "release")
        arguments = (folder / "release", folder / "base", "--points", "0.2", "--verify")
        assert run("import-published", *arguments) < IMPORT_MEMORY
        imported = ModelFolder.open(folder / "base")
        assert imported.config == BaseConfig()
        size = sum(path.stat().st_size for path in imported.path.iterdir())
        assert size == pytest.approx(3.9e9, rel=0.05)
        shutil.rmtree(folder / "release")
        (folder / "source").mkdir()
        for number, picture in enumerate(scene(2, 256, 256)):
            Image.fromarray(picture).save(folder / "source" / f"{number}.png")

        film, model = folder / "film.s2vc", ("--model", folder / "base", "--device", "cpu", "--threads", "1")
        peaks = [run("encode", folder / "source", film, *model, "--recon", folder / "seen")]
        peaks += [run("decode", film, folder / "shown", *model)]
        peaks += [run("decode", film, folder / "light", *model, "--offload", "--dtype", "bf16")]
        seen, shown, light = (
            np.stack([np.asarray(Image.open(path)) for path in sorted((folder / part).iterdir())])
            for part in ("seen", "shown", "light")
        )
        assert shown.shape == light.shape == (2, 256, 256, 3) and len(np.unique(shown)) > 20
        assert np.array_equal(shown, seen)
        assert max(peaks[:2]) < MEMORY and peaks[2] < peaks[1]
