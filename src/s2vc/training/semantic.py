"""Semantic distillation: CSG tokens learn to tell a teacher's features (paper §3.2, L_sem of TRAINING §1).

A teacher sees whole frames, once: its features are normalised, averaged to 1/32 and cached beside the
footage, for every fourth frame. A training crop then reads them at its tokens' places.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from s2vc.nn.blocks import activation

if TYPE_CHECKING:
    from s2vc.perceptual.teachers import Teacher
    from s2vc.training.footage import Clip, Library

EVERY = 4  # frames
AT_ONCE = 8  # pictures that a teacher sees
COARSE = 32  # pixels of a cached feature
TOKEN = 64  # pixels of a CSG token
STILLS = "stills"


class Projection(nn.Module):
    """P_aux: from CSG tokens (N, token, h, w) to a teacher's features; lives while training lasts."""

    def __init__(self, token: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(token, 2 * token, 1)
        self.conv2 = nn.Conv2d(2 * token, width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.conv2(activation(self.conv1(activation(tokens))))


class FeatureCache:
    """A teacher's features of the footage, ``width`` channels, in files ``features_KEY.npy``."""

    def __init__(self, cache: Path, teacher: str) -> None:
        self.cache, self.teacher = cache, teacher
        self.key = re.sub(r"[^A-Za-z0-9-]+", "-", teacher)
        self._stills: dict[Path, tuple[NDArray[np.float16], tuple[int, int]]] = {}
        self._clips: dict[str, NDArray[np.float16]] = {}
        self.width = 0

    def prepare(self, library: Library, device: torch.device, share: tuple[int, int] = (0, 1)) -> None:
        """Compute what is missing of every n-th clip and photograph, with the teacher loaded for it only."""
        clips = [c for c in library.clips[share[0] :: share[1]] if not self._clip_path(c).exists()]
        stills = [p for p in library.images[share[0] :: share[1]] if not self._still_path(p).exists()]
        if not clips and not stills:
            return
        import cv2

        from s2vc.perceptual.teachers import load_teacher
        from s2vc.training.footage import save_array

        teacher = load_teacher(self.teacher).to(device)
        for clip in clips:
            pictures = np.asarray(clip.frames[::EVERY])
            parts = [
                _features(teacher, pictures[n : n + AT_ONCE], device)
                for n in range(0, len(pictures), AT_ONCE)
            ]
            save_array(self._clip_path(clip), np.concatenate(parts))
        for path in stills:
            picture = np.asarray(cv2.imread(str(path)), np.uint8)[..., ::-1]
            save_array(self._still_path(path), _features(teacher, picture[None], device))

    def open(self, library: Library) -> None:
        """Map all features; from then on ``of_clip`` and ``of_image`` answer."""
        self._clips = {c.name: np.load(self._clip_path(c), mmap_mode="r") for c in library.clips}
        self.width = next(iter(self._clips.values())).shape[1]

    def _clip_path(self, clip: Clip) -> Path:
        return (clip.folder or self.cache / clip.name) / f"features_{self.key}.npy"

    def _still_path(self, path: Path) -> Path:
        return self.cache / STILLS / f"{path.parent.name}_{path.stem}" / f"features_{self.key}.npy"

    def of_clip(
        self, clip: Clip, indices: NDArray[np.int64], transforms: Sequence[NDArray[np.float64]], crop: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features at the tokens of a crop of frames ``indices``, and each frame's row or −1."""
        known = [n for n, index in enumerate(indices) if index % EVERY == 0]
        maps = [self._clips[clip.name][indices[n] // EVERY] for n in known]
        return _rows(known, maps, transforms, clip.frames.shape[1:3], crop, len(indices), self.width)

    def of_image(
        self, path: Path, transforms: Sequence[NDArray[np.float64]], crop: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The same of a photograph under a moving camera; ``transforms`` lead into the file's own pixels."""
        if path not in self._stills:
            import cv2

            size = np.asarray(cv2.imread(str(path))).shape[:2]
            self._stills[path] = (np.load(self._still_path(path))[0], (size[0], size[1]))
        features, size = self._stills[path]
        known = list(range(0, len(transforms), EVERY))
        return _rows(known, [features] * len(known), transforms, size, crop, len(transforms), self.width)


def _features(teacher: Teacher, pictures: NDArray[np.uint8], device: torch.device) -> NDArray[np.float16]:
    """(N, H, W, 3) -> (N, C, H/32, W/32), rounded up: features, normalised over channels at each place."""
    with torch.inference_mode():
        x = torch.from_numpy(np.array(pictures)).to(device).permute(0, 3, 1, 2).float() / 255
        found = F.layer_norm(teacher(x).permute(0, 2, 3, 1), [teacher.width]).permute(0, 3, 1, 2)
        size = tuple(-(-side // COARSE) for side in pictures.shape[1:3])
        return F.adaptive_avg_pool2d(found, size).to(torch.float16).cpu().numpy()  # type: ignore[arg-type]


def _rows(
    known: list[int],
    maps: list[NDArray[np.float16]],
    transforms: Sequence[NDArray[np.float64]],
    size: tuple[int, ...],
    crop: int,
    count: int,
    width: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    feature_of = np.full(count, -1)
    feature_of[known] = np.arange(len(known))
    tokens = -(-crop // TOKEN)
    centres = np.minimum(np.arange(tokens) * TOKEN + (TOKEN - 1) / 2, crop - 1)
    x, y = np.meshgrid(centres, centres)
    here = np.stack([x, y], -1)
    rows = np.empty((len(known), width, tokens, tokens), np.float32)
    for row, (n, features) in enumerate(zip(known, maps, strict=True)):
        spot = here @ transforms[n][:, :2].T + transforms[n][:, 2]
        grid = (spot + 0.5) * 2 / np.array([size[1], size[0]]) - 1
        read = F.grid_sample(
            torch.from_numpy(features.astype(np.float32))[None],
            torch.from_numpy(grid.astype(np.float32))[None],
            padding_mode="border",
            align_corners=False,
        )
        rows[row] = read[0].numpy()
    return rows, feature_of
