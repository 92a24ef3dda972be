"""The trainer's torch twin says exactly what the integer entropy model says, whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.entropy import integer
from s2vc.entropy.tables import default_scales
from s2vc.nn.tiny import entropy as twin
from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.entropy import EntropyTwin

CONFIG = TinyConfig(latent=6, hyper=3, entropy_trunk=5, entropy_first=4)


def drawn(seed: int, spread: float, config: TinyConfig = CONFIG) -> EntropyTwin:
    """A twin with random weights; with a large ``spread`` most of them lie at the ends of 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    # float64, as sums of such weights may pass what float32 holds exactly; training does not come near.
    model = EntropyTwin(config).double().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * spread)
        if name.endswith("bias"):
            parameter *= 40
        if name == "hyper_index":
            parameter.copy_(parameter.abs() * 40)
    return model


def indices(soft: torch.Tensor, number: int) -> np.ndarray:
    """What the integer model makes of a soft index: rounded down, in range, zero where the other pass is."""
    index = soft[0].floor().clamp(0, 63).numpy().astype(np.uint8)
    return np.where(integer.checkerboard(*index.shape) == (number == 0), index, np.uint8(0))


cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**31),
        "spread": st.sampled_from([0.02, 0.1, 0.5, 3.0]),
        "size": st.tuples(st.integers(1, 9), st.integers(1, 9)),
        "intra": st.booleans(),
        "quality": st.integers(0, 63),
        "largest": st.sampled_from([0, 1, 3, 20, 32767]),
        "longest": st.sampled_from([0, 3, 255]),
    }
)


@settings(max_examples=60, deadline=None)
@given(cases)
def test_twin_equals_integers(case):
    height, width = case["size"]
    soft = drawn(case["seed"], case["spread"])
    hard = integer.IntegerEntropyModel(soft.export())
    draw = np.random.default_rng(case["seed"])
    intra, quality = torch.tensor([case["intra"]]), torch.tensor([case["quality"]])

    def symbols(*shape):
        return draw.integers(-case["largest"], case["largest"] + 1, shape)

    memory = np.zeros((CONFIG.latent, height, width))
    memory_twin = torch.from_numpy(memory)[None]
    for _ in range(2):
        z = symbols(CONFIG.hyper, -(-height // 4), -(-width // 4))
        motion = draw.integers(-case["longest"], case["longest"] + 1, (height, width, 2)).astype(np.int16)

        table = hard.hyper_tables(case["intra"], case["quality"], height, width)
        expected = soft.hyper_soft(intra, quality)[0].floor().clamp(1, 63).numpy()
        np.testing.assert_array_equal(table, np.broadcast_to(expected[:, None, None], table.shape))

        index0, trunk = hard.first_pass(case["intra"], case["quality"], z, motion, memory)
        soft0, trunk_twin = soft.first_pass(
            intra,
            quality,
            torch.from_numpy(z)[None].double(),
            torch.from_numpy(motion)[None],
            memory_twin,
        )
        np.testing.assert_array_equal(trunk, trunk_twin[0].numpy())
        np.testing.assert_array_equal(index0, indices(soft0, 0))

        first = symbols(*index0.shape) * (index0 > 0)
        index1 = hard.second_pass(trunk, first)
        soft1 = soft.second_pass(trunk_twin, torch.from_numpy(first)[None].double())
        np.testing.assert_array_equal(index1, indices(soft1, 1))

        coded = first + symbols(*index1.shape) * (index1 > 0)
        memory = integer.next_memory(memory, coded)
        memory_twin = twin.next_memory(memory_twin, torch.from_numpy(coded)[None].double())
        np.testing.assert_array_equal(memory, memory_twin[0].numpy())
        assert memory.min() >= 0 and memory.max() <= integer.ACTIVATION_LIMIT


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 6))
def test_planes_of_motion(seed, height, width):
    motion = np.random.default_rng(seed).integers(-255, 256, (height, width, 2)).astype(np.int16)
    expected = twin.motion_planes(torch.from_numpy(motion)[None])[0].numpy()
    np.testing.assert_array_equal(integer.motion_planes(motion), expected)


def test_float32_does_for_weights_as_training_has_them():
    """At tiny's own widths, with the weights that training starts from, training's float32 is exact."""
    config = TinyConfig()
    torch.manual_seed(1)
    model = EntropyTwin(config).requires_grad_(False)
    exact = integer.IntegerEntropyModel(model.export())
    draw = np.random.default_rng(1)
    memory = draw.integers(0, 120, (config.latent, 15, 27)).astype(np.float64)
    z = draw.integers(-20, 21, (config.hyper, 4, 7))
    motion = draw.integers(-255, 256, (15, 27, 2)).astype(np.int16)
    index, trunk = exact.first_pass(False, 40, z, motion, memory)
    soft, trunk_twin = model.first_pass(
        torch.tensor([False]),
        torch.tensor([40]),
        torch.from_numpy(z)[None].float(),
        torch.from_numpy(motion)[None],
        torch.from_numpy(memory)[None].float(),
    )
    assert soft.dtype == torch.float32
    np.testing.assert_array_equal(trunk, trunk_twin[0].numpy())
    np.testing.assert_array_equal(index, indices(soft, 0))


def test_both_sides_mean_the_same_scales():
    index = torch.arange(1, 64)
    np.testing.assert_allclose(twin.scale_of(index).numpy(), default_scales(), rtol=1e-6)
    assert (twin.TABLES, twin.BANDS) == (integer.TABLES, integer.QUALITY_BANDS)


@pytest.mark.parametrize("scale_index", [1, 20, 40, 63])
def test_bits_of_training_are_those_of_the_tables(scale_index):
    from s2vc.entropy.tables import Tables

    tables = Tables.gaussian(default_scales())
    scale = float(default_scales()[scale_index - 1])
    symbols = np.arange(-int(3 * scale) - 1, int(3 * scale) + 2)
    index = np.full(symbols.shape, scale_index, np.uint8)
    exact = tables.bits(symbols, index)
    estimate = twin.gaussian_bits(torch.from_numpy(symbols).float(), torch.tensor(scale)).numpy()
    likely = exact < 14  # rarer symbols meet the tables' smallest frequency
    np.testing.assert_allclose(estimate[likely], exact[likely], rtol=0.02, atol=0.02)
