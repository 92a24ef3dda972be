"""Whole clips: frame after frame from our own buffers, resets where the rule says."""

from __future__ import annotations

import pytest
import torch

from s2vc.nn.base.inter import LIMIT
from s2vc.nn.base.prior import fold, four_pass_masks, two_pass_masks

TOLERANCE = 2e-4  # of a tensor's largest value (README of the vectors)


def intra_frame(model, picture, noise):
    codec = model.intra
    y, semantic = codec.analysis(picture, model.vae.encode(picture, noise))
    index = codec.quantiser.index(codec.hyper_analysis(y, semantic))
    hyper = codec.hyper_synthesis(codec.quantiser.decode(index))
    parameters, common = codec.first_parameters(hyper)
    coded, decoded = {"i.z_index": index}, torch.zeros_like(y)
    for number, mask in enumerate(four_pass_masks(*y.shape[1:])):
        if number:
            parameters = codec.next_parameters(number, decoded, common)
        means = parameters.chunk(2, dim=1)[1]
        symbols = torch.where(mask, (y - means).round(), 0)
        coded[f"i.write{number}.y_q"] = fold(symbols, mask, 4)
        decoded = decoded + torch.where(mask, symbols + means, 0)
    tokens = codec.tokens(hyper)
    features = codec.synthesis(decoded, tokens)
    x0, buffered = model.intra_generator(features, tokens)
    return coded, {"i.x_hat": features}, features, x0, buffered


def inter_frame(model, picture, feature, x0, buffered, reset):
    codec = model.inter
    context, prior = codec.contexts(x0 if reset else feature, reset)
    y = codec.analysis(codec.embedding(picture), context)
    z = codec.hyper_analysis(y).round().clamp(-LIMIT, LIMIT - 1)
    parameters = codec.first_parameters(z, prior)
    steps = codec.steps(parameters)
    scaled, current = y * (1 / steps), parameters[:, y.shape[1] :]
    written, total = [], 0
    for number, mask in enumerate(two_pass_masks(*y.shape[1:])):
        if number:
            current = codec.next_parameters(total, parameters)
        means = current.chunk(2, dim=1)[1]
        symbols = torch.where(mask, (scaled - means).round().clamp(-LIMIT, LIMIT - 1), 0)
        written.append(fold(symbols, mask, 2))
        total = total + torch.where(mask, symbols + means, 0)
    feature = codec.synthesis(total * steps, context)
    features, tokens = codec.pixel_head(feature), codec.token_head(feature)
    x0, buffered = model.inter_generator(features, tokens, buffered)
    coded = {"p.z_hat": z, "p.y_q_write": torch.cat(written, dim=1)}
    return coded, {"p.feature": feature, "p.f_pix": features, "p.f_semantic": tokens}, feature, x0, buffered


@pytest.mark.conformance
def test_a_clip_from_end_to_end(clip, reference, model):
    period = reference.config["clips"][clip]["n_reset"]
    feature = x0 = buffered = None
    for case, picture in zip(
        (case for case in reference.cases if case.clip == clip), reference.pictures(clip), strict=True
    ):
        vectors = reference.vectors(case)
        if case.number == 0:
            frame = intra_frame(model, picture, vectors["vae_enc.noise"])
        else:
            reset = (case.number - 1) % period == 0
            assert reset == case.reset
            frame = inter_frame(model, picture, feature, x0, buffered, reset)
        coded, floats, feature, x0, buffered = frame
        decoded = model.vae.decode(x0)
        shown = (decoded[..., : case.height, : case.width].clamp(-1, 1) + 1) / 2
        shown = (shown * 255 + 0.5).to(torch.uint8)

        for name, symbols in coded.items():
            assert torch.equal(symbols.double(), vectors[name].double()), (case, name)
        floats |= {"x0": x0, "picture": decoded, "dpb.ref_frame": x0}
        floats |= {f"dpb.ref_unet_feature_{i}": feature for i, feature in enumerate(buffered)}
        for name in floats.keys() & vectors.keys():
            bound = TOLERANCE * vectors[name].abs().max()
            assert (floats[name] - vectors[name]).abs().max() <= bound, (case, name)
        assert (shown.int() - vectors["picture_u8"].int()).abs().max() <= 1, case


@pytest.mark.conformance
def test_a_batch_of_frames_is_as_many_calls(clip, reference, model):
    frames = [reference.vectors(case) for case in reference.cases if case.clip == clip]
    features = torch.cat([vectors["unet.x_T.in"] for vectors in frames[1:]])
    tokens = torch.cat([vectors["p.f_semantic"] for vectors in frames[1:]])
    start = [frames[0][f"dpb.ref_unet_feature_{i}"] for i in range(3)]

    together, last = model.inter_generator(features, tokens, start)
    buffered = start
    for number in range(len(features)):
        alone, buffered = model.inter_generator(
            features[number : number + 1], tokens[number : number + 1], buffered
        )
        bound = 1e-5 * alone.abs().max()
        assert (together[number : number + 1] - alone).abs().max() <= bound, number
    for ours, theirs in zip(last, buffered, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.conformance
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_an_encoder_fills_the_buffer_without_the_whole_network(clip, levels, reference, model):
    before, frame = (reference.vectors(case) for case in reference.cases[:2])
    start = [before[f"dpb.ref_unet_feature_{i}"] for i in range(3)]
    buffered = model.inter_generator.buffer(
        frame["unet.x_T.in"], frame["p.f_semantic"], start[: levels - 1], levels
    )
    assert len(buffered) == levels
    for level, ours in enumerate(buffered):
        recorded = frame[f"unet.down_block_{level}"]
        assert (ours - recorded).abs().max() <= 3e-5 * recorded.abs().max()
