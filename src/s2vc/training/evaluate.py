"""Coded bytes and decoded pictures of some clips, as a user would get them from the weights of now."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from s2vc.bitstream import Chunk, Header, StreamReader, StreamWriter
from s2vc.codec.decoder import VideoDecoder
from s2vc.codec.encoder import VideoEncoder
from s2vc.codec.motion_search import BLOCK, Field, MotionSearch, Picture
from s2vc.codec.tiny import TinyFrameModel
from s2vc.models.files import ModelFile, write_model
from s2vc.models.loading import load_frame_model
from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.model import TinyModel
from s2vc.training.export import model_tensors
from s2vc.training.losses import make_network
from s2vc.training.recipe import Evaluate
from s2vc.video import open_video


class _NoMotion(MotionSearch):
    """Finds that nothing moves."""

    def __call__(
        self, current: Picture, reference: Picture, smoothness: float, previous: Field | None = None
    ) -> Field:
        return np.zeros((current.shape[0] // BLOCK, current.shape[1] // BLOCK, 2), np.int16)


def code(
    model: ModelFile, pictures: NDArray[np.uint8], quality: int, moving: bool = True
) -> tuple[bytes, NDArray[np.uint8]]:
    """A stream of pictures (T, H, W, 3) with one I-frame, and what a decoder makes of its bytes.

    ``moving``: whether motion is searched.
    """
    networks = load_frame_model(model, torch.device("cpu"))
    if not moving:
        assert isinstance(networks, TinyFrameModel)
        networks.search = _NoMotion()
    count, height, width, _ = pictures.shape
    header = Header(
        model_id=model.id,
        model_digest=model.digest,
        width=width,
        height=height,
        time_base=Fraction(1, 25),
        frame_duration=Fraction(1),
        reset_period=model.config["reset_period"],
    )
    stream = io.BytesIO()
    writer = StreamWriter(stream, header)
    encoder = VideoEncoder(
        networks, width, height, quality=quality, keyint=count, reset_period=header.reset_period
    )
    for time, picture in enumerate(pictures):
        for coded in encoder.push(picture, time, 1):
            writer.write_chunk(coded.chunk)
    for coded in encoder.flush():
        writer.write_chunk(coded.chunk)
    writer.close()
    content = stream.getvalue()
    reader = StreamReader(io.BytesIO(content))
    chunks = [part for part in reader if isinstance(part, Chunk)]
    shown = [frame.picture for frame in VideoDecoder(networks, reader.header).decode(chunks)]
    return content, np.stack(shown)


def compare(
    shown: NDArray[np.uint8], real: NDArray[np.uint8], networks: dict[str, nn.Module]
) -> dict[str, float]:
    """PSNR of each frame and the networks' distances of every fifth (key frames: every eighth), averaged."""
    error = (shown.astype(np.float32) - real).reshape(len(real), -1)
    mse = np.maximum(np.mean(error**2, axis=1), 1e-3)
    found = {"psnr": float(np.mean(10 * np.log10(65025 / mse)))}
    for name, network in networks.items():
        with torch.inference_mode():
            distances = [
                float(network(*(torch.from_numpy(p[t]).permute(2, 0, 1)[None] / 255 for p in (shown, real))))
                for t in range(0, len(real), 5)
            ]
        found[name] = float(np.mean(distances))
    return found


class Evaluation:
    """The recipe's clips and qualities; called with a run's EMA weights."""

    def __init__(self, wanted: Evaluate, root: Path, moving: bool) -> None:
        self.wanted, self.moving, self.clips = wanted, moving, {}
        for place in wanted.clips:
            with open_video(root / place, frames=wanted.frames) as reader:
                self.clips[Path(place).stem] = np.stack([frame.rgb for frame in reader])

    def __call__(
        self, weights: dict[str, Tensor], config: TinyConfig, folder: Path
    ) -> Iterator[dict[str, Any]]:
        """{"clip", "quality", "frames", "bpp", metrics …} for each clip and quality."""
        model = TinyModel(config)
        model.load_state_dict(weights)
        path = folder / "evaluation.safetensors"
        write_model(path, "tiny", "evaluation", asdict(config), model_tensors(model))
        file = ModelFile.open(path)
        networks = {str(name): make_network(name) for name in self.wanted.metrics if name != "psnr"}
        for name, pictures in self.clips.items():
            for quality in self.wanted.qualities:
                content, shown = code(file, pictures, quality, self.moving)
                pixels = np.prod(pictures.shape[:3])
                figures = {"bpp": 8 * len(content) / float(pixels), **compare(shown, pictures, networks)}
                rounded = {k: round(v, 5) for k, v in figures.items()}
                yield {"clip": name, "quality": quality, "frames": len(pictures), **rounded}
        path.unlink()
