"""The mini model's networks, and frames of a coded stream with what the tables say of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import s2vc
from s2vc.bitstream import Packet
from s2vc.codec.encoder import VideoEncoder
from s2vc.codec.protocol import MOTION
from s2vc.entropy.motion import motion_bits

FRAMES = 100  # resets at 1, 33, 65, 97


@pytest.fixture(scope="module")
def model(mini):
    """The mini model, loaded anew for each module: tests may hang hooks on it."""
    return s2vc.load(str(mini), device="cpu")


@pytest.fixture(params=["mini", pytest.param("shipped", marks=pytest.mark.slow)])
def coding(request, mini, scene):
    """(model, pictures of 100 frames): the mini model and a drawn scene, or ``tiny`` and real footage."""
    if request.param == "mini":
        return str(mini), scene(FRAMES)
    folder = os.environ.get("S2VC_DATA_DIR")
    if not folder:
        pytest.skip("S2VC_DATA_DIR names no footage")
    with av.open(str(Path(folder) / "dev" / "carphone_176x144_30.mp4")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    forth_and_back = pictures + pictures[::-1]
    return "tiny", forth_and_back[:FRAMES]


@dataclass
class Coded:
    """Chunks and reconstructed pictures of an encoder; for every packet its cost in bits by part."""

    chunks: list[Any] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)
    bits: list[dict[str, float]] = field(default_factory=list)
    motion: list[np.ndarray] = field(default_factory=list)

    @property
    def packets(self) -> list[Packet]:
        return [packet for chunk in self.chunks for packet in chunk.packets]


def encode_counting(model, pictures, quality, keyint=1000, reconstruct=False) -> Coded:
    symbols, coded = model.networks.symbols, Coded()
    height, width, _ = pictures[0].shape
    original = type(symbols).parts

    def parts(kind, memory):
        generator = original(symbols, kind, memory)
        bits, motion = {}, np.zeros((-(-height // 16), -(-width // 16), 2), np.int16)
        part = next(generator)
        while True:
            sent = yield part
            if part.name == MOTION:
                motion = sent.astype(np.int16)
                bits[MOTION] = float(motion_bits(motion, part.previous).sum())
            else:
                bits[part.name] = float(part.tables.bits(sent, part.index).sum())
            try:
                part = generator.send(sent)
            except StopIteration:
                coded.bits.append(bits)
                coded.motion.append(motion)
                return

    encoder = VideoEncoder(
        model.networks,
        width,
        height,
        quality=quality,
        keyint=keyint,
        reset_period=32,
        reconstruct=reconstruct,
    )
    symbols.parts = parts
    try:
        for number, picture in enumerate(pictures):
            for done in encoder.push(picture, number, 1):
                coded.chunks.append(done.chunk)
                coded.pictures += done.pictures
        for done in encoder.flush():
            coded.chunks.append(done.chunk)
            coded.pictures += done.pictures
    finally:
        del symbols.parts
    return coded


@pytest.fixture(scope="session")
def counted():
    """``counted(model, pictures, quality, keyint=, reconstruct=)`` encodes and notes what the tables say."""
    return encode_counting
