"""What an entropy stage learns from, and by: the encoder's symbols, and tables that are counted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2vc.entropy.tables import TOTAL, Tables, default_scales
from s2vc.errors import ModelError
from s2vc.models.files import ModelFile
from s2vc.models.loading import load_frame_model
from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.entropy import LOWEST, REACH, TABLES, gaussian_bits, scale_of
from s2vc.nn.tiny.model import TinyModel
from s2vc.training.checkpoint import read_weights
from s2vc.training.coded import encode
from s2vc.training.entropy_stage import costs, indices, soft_bits
from s2vc.training.symbols import STILLS, SymbolClip, SymbolFrame, SymbolSampler, code_symbols
from s2vc.training.tables import fitted, frequencies_of, tables_of

SYMBOLS = torch.arange(-REACH, REACH + 1)


@pytest.fixture(scope="module")
def frame_model(mini):
    return load_frame_model(ModelFile.open(mini), torch.device("cpu"))


@pytest.fixture(scope="module")
def clip(frame_model, scene) -> SymbolClip:
    frames = np.stack(scene(5, 80, 64))
    return SymbolClip(**code_symbols(frame_model, frames, 40, np.random.default_rng(3)))


@torch.no_grad()
def test_tables_are_those_of_the_file(clip, frame_model, mini, scene):
    """The trainer's twin finds the indices that the encoder coded with, so their bits are the file's."""
    model = TinyModel(TinyConfig(**ModelFile.open(mini).config))
    model.load_state_dict(read_weights(mini).part("ema."))
    assert clip.intra.tolist() == [True] + [False] * 4 + [True] * STILLS
    tables, bits = frame_model.symbols.tables, 0.0
    for time in range(5):
        frame = SymbolFrame.of(clip, time, torch.device("cpu"))
        index = indices(model.entropy, frame)[0].floor().clamp(0, TABLES - 1).numpy().astype(np.uint8)
        skipped = (frame.rounded != frame.coded)[0].numpy()
        assert not index[skipped].any()
        bits += tables.bits(frame.coded[0].numpy().astype(np.int32), index).sum()
        hyper = frame.hyper[0].numpy().astype(np.int32)
        z = frame_model.symbols.model.hyper_tables(bool(frame.intra), int(frame.quality), 4, 5)
        bits += tables.bits(hyper, z).sum()
    size = 8 * encode(frame_model, np.stack(scene(5, 80, 64)), 40, reconstruct=False)
    motion = size - bits
    assert 0 < motion < 4 * 20 * 20  # four fields of twenty vectors, and nothing else
    np.testing.assert_allclose(clip.weight[:5], 1 / (size / 8 / 5 + 50), rtol=1e-6)


def test_a_restored_sampler_goes_on(clip):
    device = torch.device("cpu")
    first, second = (SymbolSampler([clip], slots=[4, 7], seed=1, stage=0, device=device) for _ in range(2))
    first.next()
    second.restore(first.state())
    for a, b in zip(first.next().frames, second.next().frames, strict=True):
        assert torch.equal(a.rounded, b.rounded) and torch.equal(a.memory, b.memory)


def test_no_frequencies_are_gaussians():
    zeros = torch.zeros(TABLES - 1, 2 * REACH + 2)
    gaussian = Tables.gaussian(default_scales())
    for name, array in tables_of(zeros).to_arrays().items():
        np.testing.assert_array_equal(array, gaussian.to_arrays()[name])
    assert not frequencies_of(gaussian).any()


@given(st.integers(0, 2**32 - 1))
def test_counted_tables_stay_themselves(seed):
    random = np.random.default_rng(seed)
    counts = np.floor(random.pareto(0.5, (TABLES, 2 * REACH + 1)).clip(0, 1e9))
    tables = fitted(counts)
    for index in range(1, TABLES):
        _, frequencies = tables.table(index)
        np.testing.assert_allclose(frequencies[:-1], frequencies[-2::-1], atol=len(frequencies))
        assert frequencies.sum() == TOTAL
    again = tables_of(frequencies_of(tables))
    for name, array in again.to_arrays().items():
        np.testing.assert_array_equal(array, tables.to_arrays()[name])


def test_counted_tables_cost_what_their_symbols_do():
    """Of Laplacian symbols, which are none of a Gaussian's, a counted table takes next to their entropy."""
    magnitude = SYMBOLS.abs().double()
    share = torch.exp(-magnitude * 0.7)
    share /= share.sum()
    counts = np.zeros((TABLES, 2 * REACH + 1))
    counts[30] = 1e6 * share.numpy()
    entropy = float(-(share * share.log2()).sum())
    index = np.full(2 * REACH + 1, 30, np.uint8)
    before, after = (
        float((share.numpy() * tables.bits(SYMBOLS.numpy(), index)).sum())
        for tables in (Tables.gaussian(default_scales()), fitted(counts))
    )
    assert after < entropy * 1.01 < before


def test_tables_of_other_sizes_are_refused():
    with pytest.raises(ModelError, match="sizes"):
        frequencies_of(Tables.gaussian(default_scales()[:-1]))
    with pytest.raises(ModelError, match="sizes"):
        frequencies_of(Tables.gaussian(default_scales() * 1.5))


def test_bits_between_tables_lead_to_the_right_one():
    cost = costs(Tables.gaussian(default_scales()))
    assert cost.shape == (TABLES - LOWEST + 1, 2 * REACH + 1)
    symbols = torch.tensor([0.0, 3.0, -3.0, 0.0])
    index = torch.tensor([20.5, 33.5, 25.5, -2.5], requires_grad=True)
    bits = soft_bits(symbols, index, cost)
    expected = gaussian_bits(symbols, scale_of(index.detach() - 0.5))
    torch.testing.assert_close(bits.detach(), expected, atol=0.05, rtol=0)
    (gradient,) = torch.autograd.grad(bits.sum(), index)
    # A zero wants a narrower table, a large symbol a wider one.
    assert gradient[0] > 0 and gradient[3] > 0 and gradient[2] < 0


def test_a_clip_weighs_by_the_share_that_a_byte_is_of_it(frame_model, scene):
    frames = np.stack(scene(2, 80, 64))
    found = [code_symbols(frame_model, frames, quality, np.random.default_rng(1)) for quality in (10, 60)]
    assert found[0]["weight"][0] > found[1]["weight"][0]
    assert SimpleNamespace(**found[0]).weight.dtype == np.float32
