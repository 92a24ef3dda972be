"""``tiny``'s conditional codec: quality curve, buffer, resets, sizes."""

from __future__ import annotations

import pytest
import torch

from s2vc.nn.tiny.codec import COARSEST_STEP, FINEST_STEP, Buffer, QualityCurve, TinyCodec
from s2vc.nn.tiny.config import TinyConfig

EVERY_QUALITY = torch.arange(64)


def steps(curve, intra):
    """(64, C): the quantiser steps of every quality."""
    return curve(torch.full((64,), intra), EVERY_QUALITY)[..., 0, 0]


@pytest.fixture(params=[2, 4, 8])
def curve(request):
    curve = QualityCurve(TinyConfig(latent=5, knots=request.param)).requires_grad_(False)
    # Any curve that falls from knot to knot, for intra and inter apart.
    fall = torch.rand(curve.log_step.shape, generator=torch.Generator().manual_seed(1))
    curve.log_step.copy_(5 - fall.cumsum(1))
    return curve


@pytest.mark.parametrize("intra", [False, True])
def test_steps_fall_with_quality_where_the_knots_do(curve, intra):
    values = steps(curve, intra)
    assert values.shape == (64, 5)
    assert (values[1:] < values[:-1]).all()


@pytest.mark.parametrize("intra", [False, True])
def test_knots_are_met_and_logarithms_are_straight_between(curve, intra):
    knots = curve.log_step[int(intra)]
    logs = steps(curve, intra).log()
    assert torch.allclose(logs[0], knots[0]) and torch.allclose(logs[63], knots[-1], atol=1e-6)
    segments = len(knots) - 1
    for quality in range(64):
        low = min(quality * segments // 63, segments - 1)
        share = quality * segments / 63 - low
        assert torch.allclose(logs[quality], knots[low] * (1 - share) + knots[low + 1] * share, atol=1e-5)


def test_the_curve_starts_flat_over_channels():
    values = steps(QualityCurve(TinyConfig(latent=3)), True)
    assert torch.allclose(values[0], torch.full((3,), COARSEST_STEP))
    assert torch.allclose(values[63], torch.full((3,), FINEST_STEP))


def frame(codec, buffer, height, width, *, intra=False, reset=False, seed=0, quality=20):
    """One frame through the codec, rounded as it is coded but for the entropy model's skips."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (1, 3, height, width), generator=draw).float()
    motion = torch.randint(-9, 10, (1, height // 16, width // 16, 2), generator=draw) * (not intra)
    flags = torch.tensor([intra]), torch.tensor([reset]), torch.tensor([quality])
    context = codec.context(buffer, motion, *flags)
    y = codec.analyse(x, context, flags[0], flags[2])
    z = codec.hyper_analyse(y, context).round()
    mean, hidden = codec.prior(z, context)
    first = (y - mean).round() + mean
    mean = codec.second_mean(hidden, first)
    latent = (first + (y - mean).round() + mean) / 2
    coded = torch.ones(1, 1, height // 16, width // 16, dtype=torch.bool)
    return (y, z, mean), codec.synthesise(latent, coded, context, flags[0], flags[2])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 80), (112, 16), (48, 80), (208, 144)])
def test_shapes_at_every_size(codec, height, width):
    c = codec.config
    buffer = codec.empty_buffer(1, height, width)
    for number in range(2):
        (y, z, mean), (buffer, exact) = frame(codec, buffer, height, width, intra=number == 0)
        assert y.shape == mean.shape == (1, c.latent, height // 16, width // 16)
        assert z.shape == (1, c.hyper, -(-height // 64), -(-width // 64))
        assert buffer.feature.shape == (1, c.width8, height // 8, width // 8)
        assert exact.shape == buffer.reference.shape == (1, 3, height, width)


def test_the_reference_picture_is_quarters_of_8_bit_levels(codec):
    buffer = codec.empty_buffer(1, 48, 80)
    for number in range(3):
        _, (buffer, exact) = frame(codec, buffer, 48, 80, intra=number == 0, seed=number)
        assert torch.equal(buffer.reference, (exact.clamp(0, 255) * 4).round() / 4)


def test_what_is_not_coded_is_the_prediction(codec):
    """In a P-frame only coded blocks and their neighbours are touched; an I-frame has no such blocks."""
    height, width = 16 * 8, 16 * 9
    _, (buffer, _) = frame(codec, codec.empty_buffer(1, height, width), height, width, intra=True)
    still = torch.zeros(1, 8, 9, 2, dtype=torch.int64)
    no, quality = torch.tensor([False]), torch.tensor([20])
    context = codec.context(buffer, still, no, no, quality)
    coded = torch.zeros(1, 1, 8, 9, dtype=torch.bool)
    latent = torch.randn(1, codec.config.latent, 8, 9, generator=torch.Generator().manual_seed(1))
    for _ in range(2):
        after, _ = codec.synthesise(latent, coded, context, no, quality)
        assert torch.equal(after.reference, buffer.reference)
    coded[0, 0, 6, 6] = True
    after, _ = codec.synthesise(latent, coded, context, no, quality)
    changed = (after.reference != buffer.reference).any(1)[0]
    # Blocks 5 to 7 are decoded; the transform's overlap and the gate's slope reach half a block beyond.
    assert changed[16 * 5 :, 16 * 5 : 16 * 8].float().mean() > 0.9
    assert not changed[: 16 * 5 - 8].any() and not changed[:, : 16 * 5 - 8].any()
    context = codec.context(buffer, still, ~no, no, quality)
    everywhere, _ = codec.synthesise(latent, ~coded & coded, context, ~no, quality)
    assert (everywhere.reference != context.prediction).float().mean() > 0.5


def test_a_reset_forgets_features_and_keeps_the_reference(codec):
    height, width = 48, 80
    _, (buffer, _) = frame(codec, codec.empty_buffer(1, height, width), height, width, intra=True)
    other = Buffer(buffer.reference, buffer.feature + 1)
    moved = Buffer(buffer.reference.flip(-1), buffer.feature)

    def decoded(start, **options):
        return frame(codec, start, height, width, **options)[1][1]

    assert not torch.equal(decoded(buffer), decoded(other))
    assert torch.equal(decoded(buffer, reset=True), decoded(other, reset=True))
    assert not torch.equal(decoded(buffer, reset=True), decoded(moved, reset=True))
    assert torch.equal(decoded(buffer, intra=True), decoded(other, intra=True))


def test_training_starts_as_a_transform_codec():
    """What training finds at zero leaves the lapped transform of the residual alone."""
    codec = TinyCodec(TinyConfig(latent=24, width8=8, width16=8, prior16=8)).requires_grad_(False)
    height, width = 32, 48
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1)) * 255
    flag, quality = torch.tensor([True]), torch.tensor([63])
    still = torch.zeros(1, 2, 3, 2, dtype=torch.int64)
    context = codec.context(codec.empty_buffer(1, height, width), still, flag, flag, quality)
    y = codec.analyse(x, context, flag, quality)
    assert torch.allclose(y * FINEST_STEP, codec.transform(x - 128), atol=1e-3)
    _, exact = codec.synthesise(y, flag.reshape(1, 1, 1, 1).expand(1, 1, 2, 3), context, flag, quality)
    assert torch.allclose(exact, 128 + codec.transform.inverse(codec.transform(x - 128)), atol=1e-2)
