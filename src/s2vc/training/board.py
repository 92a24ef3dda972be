"""TensorBoard: curves and picture strips of a run (extra ``train``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def strip(*rows: Tensor) -> NDArray[np.uint8]:
    """Frames side by side, a row for each of the sequences (T, 3, h, w) in levels: uint8 (rows·h, T·w, 3)."""
    lines = [np.concatenate(list(row.round().clamp(0, 255).byte().cpu().numpy()), 2) for row in rows]
    return np.concatenate(lines, 1).transpose(1, 2, 0)


class Board:
    """Writes events that ``tensorboard --logdir`` shows."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()

    def picture(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """A uint8 picture (H, W, 3)."""
        self._writer.add_image(name, picture, step, dataformats="HWC")
        self._writer.flush()
