"""Tables as the trainer keeps them, among the tensors of :class:`s2vc.nn.tiny.entropy.EntropyTwin`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2vc.entropy.tables import Tables, default_scales, quantise
from s2vc.errors import ModelError
from s2vc.nn.tiny.entropy import REACH, TABLES

FREQUENCIES = "entropy.frequencies"  # their name among a model's tensors
PRIOR = 150.0  # symbols for which the Gaussian speaks in a table that files are counted for


def no_frequencies() -> Tensor:
    """What stands for the Gaussians' tables."""
    return torch.zeros(TABLES - 1, 2 * REACH + 2)


def tables_of(frequencies: Tensor) -> Tables:
    """The tables that an ``EntropyTwin``'s frequencies stand for."""
    gaussian = Tables.gaussian(default_scales())
    if not frequencies.any():
        return gaussian
    rows = frequencies.double().cpu().numpy()
    lows, tables = [], []
    for row, index in zip(rows, range(1, TABLES), strict=True):
        low, _ = gaussian.table(index)
        lows.append(low)
        tables.append(quantise([*row[REACH + low : REACH - low + 1], row[-1]]))
    return Tables(lows, tables)


def frequencies_of(tables: Tables) -> Tensor:
    """The opposite of :func:`tables_of`. Raises ModelError for tables of other sizes than the Gaussians'."""
    gaussian = Tables.gaussian(default_scales())
    rows = no_frequencies()
    same = True
    for index in range(1, TABLES):
        low, frequencies = tables.table(index) if index < len(tables) else (0, np.empty(0))
        usual, theirs = gaussian.table(index)
        if low != usual or len(frequencies) != len(theirs):
            raise ModelError("the model's tables are not of this version's sizes: it cannot be trained on")
        same &= bool((frequencies == theirs).all())
        rows[index - 1, REACH + low : REACH - low + 1] = torch.from_numpy(frequencies[:-1])
        rows[index - 1, -1] = int(frequencies[-1])
    return no_frequencies() if same else rows


def fitted(counts: NDArray[np.float64]) -> Tables:
    """Tables of how often files held each symbol: counts (TABLES, 2 REACH + 1) of −REACH..REACH by index.

    Both signs count alike, and where little was counted the Gaussian speaks.
    """
    gaussian = Tables.gaussian(default_scales())
    both = (counts + counts[:, ::-1]) / 2
    lows, tables = [], []
    for index in range(1, TABLES):
        low, usual = gaussian.table(index)
        inside = both[index, REACH + low : REACH - low + 1]
        seen = np.append(inside, both[index].sum() - inside.sum())
        lows.append(low)
        tables.append(quantise(seen + PRIOR * usual / usual.sum()))
    return Tables(lows, tables)
