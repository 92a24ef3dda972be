"""Footage as the encoder itself left it: what ``generator`` and ``entropy`` stages learn from.

An unrolled codec resembles the encoder; here search, hierarchy of qualities, rounding and what is left alone
are the encoder's own. Symbols' values hardly change in such a stage, so all is coded once, before it begins.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2vc.codec.encoder import VideoEncoder
from s2vc.codec.protocol import FrameKind, Picture
from s2vc.codec.tiny import TinyFeatures, TinyFrameModel
from s2vc.codec.tiny_symbols import BLOCK
from s2vc.errors import InputError
from s2vc.models.files import ModelFile, write_model
from s2vc.models.loading import load_frame_model
from s2vc.nn.tiny.config import WEIGHTLESS
from s2vc.nn.tiny.generator import Levels
from s2vc.nn.tiny.model import TinyModel
from s2vc.training.augment import augmented
from s2vc.training.checkpoint import CODE_GROUPS
from s2vc.training.export import model_tensors
from s2vc.training.footage import Clip
from s2vc.training.processes import Processes
from s2vc.training.sequences import Footage, still_sequence
from s2vc.training.streams import Purpose, stream

Arrays = dict[str, NDArray[Any]]
# What of footage, frames (T, H, W, 3), is kept: given frames, quality and a generator for what is drawn.
Coder = Callable[[TinyFrameModel, NDArray[np.uint8], int, np.random.Generator], Arrays]
# coder, frames or a photograph and how many frames to make of it, quality, where what comes of them is kept,
# what is drawn from
Job = tuple[Coder, NDArray[np.uint8] | Path, int, int, Path, np.random.Generator]

STILL_SIDE = 224  # of the square frames that a camera takes of a photograph
LOOK_BACK = 3  # frames that the diffusion buffer of the next one depends on: one a level of the U-Net


@dataclass(frozen=True)
class CodedClip:
    """T frames, memory-mapped: features float16 (T, C, H/8, W/8), reference pictures float16 (T, 3, H, W) in
    levels, intra (T,), and what was coded, uint8 (T, H, W, 3).
    """

    features: NDArray[np.float16]
    reference: NDArray[np.float16]
    intra: NDArray[np.bool_]
    pictures: NDArray[np.uint8]


@dataclass
class CodedBatch:
    """B windows of T frames, the first ``LOOK_BACK`` of each only for the diffusion buffer.

    feature float32 (B, T, C, h/8, w/8); reference and pictures float32 (B, T, 3, h, w) levels; intra (B, T).
    """

    feature: Tensor
    reference: Tensor
    pictures: Tensor
    intra: NDArray[np.bool_]
    slots: list[int]


@dataclass
class _Process:
    """What a coding process keeps from clip to clip."""

    model: TinyFrameModel | None = None


_process = _Process()


class _Recorder(TinyFrameModel):
    """Keeps what pictures would be rendered from instead of rendering them."""

    def __init__(self, like: TinyFrameModel) -> None:
        super().__init__(like.codec, like.generator, like.symbols, like.device)
        self.seen: list[tuple[TinyFeatures, bool]] = []

    def render(
        self, features: Sequence[TinyFeatures], kinds: Sequence[FrameKind], state: Levels
    ) -> tuple[list[Picture], Levels]:
        self.seen += [(f, kind.intra) for f, kind in zip(features, kinds, strict=True)]
        return [], state


def encode(model: TinyFrameModel, frames: NDArray[np.uint8], quality: int, *, reconstruct: bool) -> int:
    """Code frames (T, H, W, 3) with one I-frame; the number of bytes of all packets."""
    count, height, width, _ = frames.shape
    encoder = VideoEncoder(
        model,
        width,
        height,
        quality=quality,
        keyint=count,
        reset_period=model.reset_period,
        reconstruct=reconstruct,
    )
    coded = [c for time, picture in enumerate(frames) for c in encoder.push(picture, time, 1)]
    coded += encoder.flush()
    return sum(len(packet.payload) for c in coded for packet in c.chunk.packets)


def code_pictures(
    model: TinyFrameModel, frames: NDArray[np.uint8], quality: int, random: np.random.Generator
) -> Arrays:
    """A ``Coder``: the arrays of :class:`CodedClip`, of augmented frames."""
    count, height, width, _ = frames.shape
    still = np.zeros((count, height // BLOCK, width // BLOCK, 2), np.int16)  # the encoder searches for itself
    footage = augmented(Footage(frames, still, None, np.full(count, -1)), random)
    frames = np.ascontiguousarray(footage.frames)
    recorder = _Recorder(model)
    encode(recorder, frames, quality, reconstruct=True)
    return {
        "features": np.stack([f.feature[0].cpu().numpy() for f, _ in recorder.seen]).astype(np.float16),
        "reference": np.stack([f.reference[0].cpu().numpy() for f, _ in recorder.seen]).astype(np.float16),
        "intra": np.array([intra for _, intra in recorder.seen]),
        "pictures": frames,
    }


def _code(
    coder: Coder,
    frames: NDArray[np.uint8] | Path,
    length: int,
    quality: int,
    folder: Path,
    random: np.random.Generator,
) -> None:
    assert _process.model is not None
    if isinstance(frames, Path):
        frames = still_sequence(frames, random, length, STILL_SIDE, None).frames
    arrays = coder(_process.model, frames, quality, random)
    # Whole or not at all, also beside another process.
    temporary = folder.with_name(f"{folder.name}.tmp{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    temporary.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(temporary / f"{name}.npy", array)
    try:
        temporary.rename(folder)
    except OSError:
        shutil.rmtree(temporary)


def coded_name(model: TinyModel) -> str:
    """What tells passages that one model's codec coded from those of another."""
    no_matter = ("generator.", CODE_GROUPS)
    tensors = {name: t for name, t in model_tensors(model).items() if not name.startswith(no_matter)}
    # Averaging weights makes 0 of −0, which codes the same.
    content = b"".join((tensors[name] + tensors[name].dtype.type(0)).tobytes() for name in sorted(tensors))
    content += "".join(name for name in WEIGHTLESS if getattr(model.config, name)).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def code_passages(
    sources: Sequence[Clip | Path],
    model: TinyModel,
    cache: Path,
    coder: Coder,
    *,
    name: str,
    longest: int,
    passages: int,
    seed: int,
    processes: Processes,
) -> list[Arrays]:
    """What a coder keeps of ``passages`` of up to ``longest`` frames of every clip, memory-mapped.

    Of a photograph (a path) a camera that moves takes as many (``still_sequence``).

    Each has a start, a quality and an augmentation that were drawn for it. What is not in ``cache`` under
    this name (``coded_name`` of the model) is coded first, in equal shares by all processes. Raises
    InputError where it would have to be coded by a model that is not that one any more.
    """
    rank, count = processes.share
    folders: list[Path] = []
    jobs: list[Job] = []
    # Shuffled, for a share that is every n-th of them: a clip's scales come one after another.
    wanted = [(source, number) for source in sorted(sources, key=_key) for number in range(passages)]
    for place, (source, number) in enumerate(wanted):
        random = stream(seed, Purpose.CODED, _key(source), number)
        quality = int(random.integers(0, 64))
        start, length = 0, longest
        frames: NDArray[np.uint8] | Path
        if isinstance(source, Path):
            frames = source
        else:
            length = min(longest, len(source.frames))
            start = int(random.integers(0, len(source.frames) - length + 1))
            frames = source.frames[start : start + length]
        folder = cache / f"{_name(source)}-{seed}-{number}-{start}-{length}-{quality}-{name}"
        folders.append(folder)
        if not folder.exists() and place % count == rank:
            jobs.append((coder, frames, length, quality, folder, random))
    if jobs:
        if coded_name(model) != name:
            raise InputError(
                f"what the stage learnt from is not in {cache} any more: begin it anew by --start"
            )
        _code_all(jobs, model, cache, workers=max(1, (os.cpu_count() or 1) // count))
    processes.wait()
    return [{path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")} for folder in folders]


def _name(source: Clip | Path) -> str:
    # Photographs of two folders are often numbered alike.
    return f"{source.parent.name}_{source.name}" if isinstance(source, Path) else source.name


def _key(source: Clip | Path) -> int:
    return zlib.crc32(_name(source).encode())


def _code_all(jobs: list[Job], model: TinyModel, cache: Path, workers: int) -> None:
    """Code passages in processes of one thread each, by the networks as they would be exported."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"model.tmp{os.getpid()}"
    write_model(path, "tiny", "coded", asdict(model.config), model_tensors(model))
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _open, (path,)) as pool:
            for _ in pool.map(_code, *zip(*jobs, strict=True)):
                pass
    finally:
        path.unlink()


def _open(path: Path) -> None:
    torch.set_num_threads(1)
    loaded = load_frame_model(ModelFile.open(path), torch.device("cpu"))
    assert isinstance(loaded, TinyFrameModel)
    _process.model = loaded


class Counters:
    """How many samples each slot has given."""

    def __init__(self, slots: Sequence[int]) -> None:
        self.done = dict.fromkeys(slots, 0)

    def state(self) -> NDArray[np.int64]:
        """(slots, 1)."""
        return np.array([[count] for count in self.done.values()], np.int64)

    def restore(self, state: NDArray[np.int64]) -> None:
        """Go on from what ``state`` said of the same slots."""
        self.done = dict(zip(self.done, state[:, 0].tolist(), strict=True))


class CodedSampler(Counters):
    """Endless batches of crops of coded clips, deterministic given seed and stage.

    ``still_share`` of them are of ``stills``, coded photographs, where there are both.
    A slot's n-th window is a function of seed, stage, slot and n.
    """

    def __init__(
        self,
        clips: Sequence[CodedClip],
        *,
        slots: Sequence[int],
        frames: int,
        crop: int,
        seed: int,
        stage: int,
        stills: Sequence[CodedClip] = (),
        still_share: float = 0.0,
    ) -> None:
        self.clips: list[CodedClip] = []
        weights: list[NDArray[np.float64]] = []
        for found, share in ((clips, 1 - still_share), (stills, still_share)):
            fit = [c for c in found if min(c.pictures.shape[1:3]) >= crop and len(c.pictures) >= frames]
            sizes = np.array([float(np.prod(c.pictures.shape[:3])) for c in fit])
            self.clips += fit
            weights.append(share * sizes / max(sizes.sum(), 1.0))
        self.weights = np.concatenate(weights)
        if not self.weights.any():
            raise InputError(f"no clip has {frames} frames of {crop} x {crop}: give the stage a smaller crop")
        self.weights /= self.weights.sum()  # where there are only clips, or only stills
        self.frames, self.crop, self.seed, self.stage = frames, crop, seed, stage
        super().__init__(slots)

    def next(self) -> CodedBatch:
        """The next window of every slot."""
        windows = []
        for slot, count in self.done.items():
            windows.append(self._window(stream(self.seed, Purpose.SEQUENCE, self.stage, slot, count)))
            self.done[slot] = count + 1
        features, reference, pictures, intra = (np.stack(part) for part in zip(*windows, strict=True))
        return CodedBatch(
            torch.from_numpy(features).float(),
            torch.from_numpy(reference).float(),
            torch.from_numpy(pictures).float().permute(0, 1, 4, 2, 3).contiguous(),
            intra,
            list(self.done),
        )

    def _window(self, random: np.random.Generator) -> tuple[NDArray[np.generic], ...]:
        clip = self.clips[random.choice(len(self.clips), p=self.weights)]
        count, height, width, _ = clip.pictures.shape
        start = int(random.integers(0, count - self.frames + 1))
        top, left = (int(random.integers(0, (side - self.crop) // 16 + 1)) * 16 for side in (height, width))
        begin, end = max(0, start - LOOK_BACK), start + self.frames
        rows, columns = slice(top, top + self.crop), slice(left, left + self.crop)
        rows8, columns8 = slice(top // 8, rows.stop // 8), slice(left // 8, columns.stop // 8)
        parts = (
            clip.features[begin:end, :, rows8, columns8],
            clip.reference[begin:end, :, rows, columns],
            clip.pictures[begin:end, rows, columns],
            clip.intra[begin:end],
        )
        # Before a clip's first frame, which is an I-frame and heeds no past, its own picture stands.
        ahead = LOOK_BACK - (start - begin)
        return tuple(np.concatenate([np.repeat(part[:1], ahead, 0), part]) for part in parts)
