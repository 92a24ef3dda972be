"""TensorBoard's files, read back with its own reader."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s2vc.training.board import Board, strip


def test_a_strip_puts_frames_beside_each_other():
    rows = [torch.full((3, 3, 4, 5), float(level)) for level in (10, 300)]
    picture = strip(*rows)
    assert (picture.shape, picture.dtype) == ((8, 15, 3), np.uint8)
    assert (picture[:4] == 10).all()
    assert (picture[4:] == 255).all()


def test_curves_and_strips_can_be_read_back(tmp_path):
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra train is not installed"
    )
    board = Board(tmp_path)
    board.scalars("train", {"loss": 0.25}, 7)
    board.picture("strip", np.zeros((8, 15, 3), np.uint8), 7)
    events = reader.EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    (loss,) = events.Scalars("train/loss")
    assert (loss.step, loss.value) == (7, 0.25)
    (shown,) = events.Images("strip")
    assert (shown.width, shown.height) == (15, 8)
