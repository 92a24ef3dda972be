"""The one-step generator: a window of frames at once is what one frame after another gives."""

from __future__ import annotations

import pytest
import torch

INTRA = [True, False, False, True, False, False, False, False, True, True, False]


@pytest.fixture(params=[(48, 80), (16, 16), (112, 16)], ids=str)
def window(request, generator):
    """feature, reference, intra flags and a buffer left by frames before, of two videos."""
    height, width = request.param
    draw = torch.Generator().manual_seed(height)
    frames = len(INTRA)
    feature = torch.randn(2, frames, generator.config.width8, height // 8, width // 8, generator=draw)
    reference = torch.randint(0, 256, (2, frames, 3, height, width), generator=draw).float()
    intra = torch.tensor([INTRA, INTRA[::-1]])
    levels = tuple(
        torch.randn(level.shape, generator=draw) for level in generator.empty_levels(2, height, width)
    )
    return feature, reference, intra, levels


def run(generator, window, cuts):
    """x0 and the last buffer, with the window cut into parts that follow each other."""
    feature, reference, intra, levels = window
    shown = []
    for start, stop in zip([0, *cuts], [*cuts, len(INTRA)], strict=True):
        part = slice(start, stop)
        x0, levels = generator(feature[:, part], reference[:, part], intra[:, part], levels)
        shown.append(x0)
    return torch.cat(shown, 1), levels


def difference(a, b):
    return float((a - b).abs().max() / b.abs().max())


def test_a_window_equals_frames_in_turn(generator, window):
    whole, kept = run(generator, window, [])
    for cuts in (range(1, len(INTRA)), [4, 8], [8]):
        parts, left = run(generator, window, list(cuts))
        assert difference(parts, whole) <= 1e-5
        assert difference(parts - window[1], whole - window[1]) <= 1e-4  # of the correction alone
        assert all(difference(a, b) <= 1e-5 for a, b in zip(left, kept, strict=True))


def test_two_videos_at_once_equal_each_alone(generator, window):
    feature, reference, intra, levels = window
    both, _ = generator(feature, reference, intra, levels)
    for video in (0, 1):
        one = slice(video, video + 1)
        alone, _ = generator(feature[one], reference[one], intra[one], [level[one] for level in levels])
        assert difference(both[one], alone) <= 1e-5


def test_the_past_guides_all_but_intra_frames(generator, window):
    feature, reference, _, levels = window
    other_levels = [level + 1 for level in levels]

    def changed(intra):
        flags = torch.zeros(2, len(INTRA), dtype=torch.bool)
        flags[:, intra] = True
        x0, _ = generator(feature, reference, flags, levels)
        other, _ = generator(feature, reference, flags, other_levels)
        return (x0 != other).any(4).any(3).any(2).any(0).tolist()

    # Each of the three levels hands on what the finer ones were guided by: three frames, no more.
    assert changed([]) == [True] * 3 + [False] * (len(INTRA) - 3)
    assert not any(changed([0]))
    assert changed([1]) == [True] + [False] * (len(INTRA) - 1)


def test_x0_is_the_reference_and_a_correction(generator, window):
    feature, reference, intra, levels = window
    x0, _ = generator(feature, reference, intra, levels)
    assert x0.dtype == torch.float32 and x0.shape == reference.shape
    assert 0.1 < (x0 - reference).abs().mean() < 100  # no layer of the mini model is zero
