"""The published system at full size on a card, with drawn weights: memory, seconds, whether symbols stay.

    python benchmarks/base/full_size.py OUT.json [MEMORY]

MEMORY (GB): the card is treated as one of that size. Needs 12 GB in /dev/shm and a card with CUDA.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

from s2vc.bitstream import Header
from s2vc.codec.decoder import VideoDecoder
from s2vc.codec.encoder import VideoEncoder
from s2vc.codec.packets import checksum_bytes
from s2vc.models.files import ModelFile
from s2vc.models.loading import Running, load_frame_model
from s2vc.models.published import layout
from s2vc.models.published_import import import_release
from s2vc.nn.base.config import BaseConfig

FOLDER = Path("/dev/shm/s2vc-base")
PLACES = {
    "intra": "I_ckpts/onedc_lmbda1.8/model_1.safetensors",
    "generator": "P_ckpts/lmbda0.2/model.safetensors",
    "inter": "P_ckpts/lmbda0.2/model_1.safetensors",
    "vae": "SD_ckpts/stable-diffusion-2-1/vae/diffusion_pytorch_model.safetensors",
}
RESET = 8
CUDA = torch.device("cuda")


def make_model() -> None:
    """A release of drawn weights, imported."""
    generator = torch.Generator(CUDA).manual_seed(1)
    for kind, place in PLACES.items():
        held = {}
        for tensor in layout(BaseConfig()):
            if tensor.archive == kind:
                fan_in = torch.Size(tensor.shape[1:]).numel()
                reach = 0.5 * (3 / fan_in) ** 0.5 if len(tensor.shape) > 1 else 0.1
                weight = torch.empty(tensor.shape, device=CUDA).uniform_(-reach, reach, generator=generator)
                if "norm" in tensor.name and tensor.name.endswith("weight"):
                    weight += 1
                held[tensor.key] = weight.cpu()
        path = FOLDER / "release" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(held, path)
    import_release(FOLDER / "release", FOLDER / "model", ["0.2"])
    AutoencoderTiny().save_pretrained(FOLDER / "light")


def scene(count: int, width: int, height: int) -> list[np.ndarray]:
    """Noise that moves over waves."""
    down, across = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(1).integers(0, 60, (height + 64, width + 64, 3))
    pictures = []
    for t in range(count):
        waves = 90 + 60 * np.sin((across + 3 * t) / 97) + 30 * np.cos(down / 53)
        picture = noise[t : t + height, 2 * t : 2 * t + width] + waves[..., None]
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    return pictures


def load(device: torch.device, running: Running) -> Any:
    return load_frame_model(ModelFile.open(FOLDER / "model"), device, running)


def encode(pictures: list[np.ndarray], device: torch.device, running: Running) -> Any:
    """Chunks."""
    height, width, _ = pictures[0].shape
    coder = VideoEncoder(load(device, running), width, height, quality=0, keyint=100, reset_period=RESET)
    coded = [done.chunk for time, picture in enumerate(pictures) for done in coder.push(picture, time, 1)]
    return coded + [done.chunk for done in coder.flush()]


def decode(pictures: list[np.ndarray], chunks: Any, device: torch.device, running: Running) -> Any:
    """Pictures, and what ended them early."""
    height, width, _ = pictures[0].shape
    header = Header(
        model_id="base",
        model_digest=bytes(8),
        width=width,
        height=height,
        time_base=Fraction(1, 25),
        frame_duration=Fraction(1),
        reset_period=RESET,
        checksum_bytes=checksum_bytes(exact=False),
        profile="the encoder's",
    )
    shown: list[np.ndarray] = []
    try:
        shown.extend(f.picture for f in VideoDecoder(load(device, running), header).decode(chunks))
    except Exception as error:
        return shown, f"{type(error).__name__}: {str(error)[:160]}"
    return shown, None


def psnr(a: list[np.ndarray], b: list[np.ndarray]) -> float | None:
    if not a or len(a) != len(b):
        return None
    error = float(np.mean((np.stack(a).astype(float) - np.stack(b)) ** 2))
    return 99.0 if error == 0 else round(10 * np.log10(255**2 / error), 2)


def main() -> None:
    """Every way to run, at three sizes."""
    if len(sys.argv) > 2:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(float(sys.argv[2]) * 1e9 / total)
    rows: list[dict[str, Any]] = []
    results = {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "memory": sys.argv[2:]}

    def measured(run: Any, **row: Any) -> Any:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        began = time.time()
        value = run()
        torch.cuda.synchronize()
        row |= {"seconds": round(time.time() - began, 1)}
        row |= {"peak": round(torch.cuda.max_memory_allocated() / 1e9, 2)}
        rows.append(row)
        return value

    shutil.rmtree(FOLDER, ignore_errors=True)
    make_model()
    light = str(FOLDER / "light")
    ways = {
        "fp32": Running(),
        "fp32 offload": Running(offload=True),
        "bf16": Running("bf16"),
        "fp16": Running("fp16"),
        "bf16 offload": Running("bf16", True),
        "fp16 offload light": Running("fp16", True, light),
    }
    try:
        for width, height, count in ((256, 256, 18), (1280, 720, 10), (1920, 1080, 10)):
            size, pictures = f"{width}x{height}", scene(count, width, height)
            coded = {}
            for how in ("fp32", "bf16 offload"):
                run = partial(encode, pictures, CUDA, ways[how])
                coded[how] = measured(run, size=size, do="encode", how=how)
                payload = [packet.payload for chunk in coded[how] for packet in chunk.packets]
                first = [packet.payload for chunk in coded["fp32"] for packet in chunk.packets]
                rows[-1]["same"] = payload == first
            runs = [(how, CUDA, running) for how, running in ways.items()]
            if width == 256:
                runs.append(("cpu", torch.device("cpu"), Running()))
            seen: list[np.ndarray] = []
            for how, device, running in runs:
                run = partial(decode, pictures, coded["fp32"], device, running)
                shown, said = measured(run, size=size, do="decode", how=how)
                seen = seen or shown
                rows[-1] |= {"frames": len(shown), "psnr": psnr(shown, seen), "said": said}
                print(rows[-1], flush=True)
    finally:
        Path(sys.argv[1]).write_text(json.dumps({**results, "rows": rows}, indent=1) + "\n")
        shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
