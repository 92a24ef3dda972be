"""The published system as a codec: files that decode to what the encoder saw (issue 14, item 4)."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from s2vc.bitstream import Header
from s2vc.codec.base import BaseFrameModel
from s2vc.codec.base_frame import BaseFeatures, BasePoint, x0_before_reset
from s2vc.codec.base_rate import reported_rate
from s2vc.codec.decoder import VideoDecoder
from s2vc.codec.encoder import VideoEncoder
from s2vc.codec.packets import checksum_bytes, read_packet
from s2vc.codec.schedule import Schedule, padded_size
from s2vc.errors import SymbolMismatchError
from s2vc.nn.base.model import BaseModel
from s2vc.nn.base.vae import Vae

pytestmark = pytest.mark.conformance


def frame_model(networks):
    """A codec of one point."""
    model = BaseModel(lambda name, dtype: getattr(networks, name))
    return BaseFrameModel(1, lambda point: model, torch.device("cpu"))


@pytest.fixture(scope="module")
def codec(model):
    return frame_model(model)


@pytest.fixture(scope="module")
def pictures(reference):
    """The second clip's frames and their mirror images: uint8 (T, H, W, 3)."""
    clip = list(reference.config["clips"])[-1]
    frames = reference.load(f"{clip}_input")["video_u8"].permute(0, 2, 3, 1).numpy()
    return np.concatenate([frames, frames[:, ::-1]])


def header(pictures, period):
    return Header(
        model_id="base-mini",
        model_digest=bytes(8),
        width=pictures.shape[2],
        height=pictures.shape[1],
        time_base=Fraction(1, 25),
        frame_duration=Fraction(1),
        reset_period=period,
        checksum_bytes=checksum_bytes(exact=False),
    )


def encode(codec, pictures, period, keyint=100):
    _, height, width, _ = pictures.shape
    encoder = VideoEncoder(
        codec, width, height, quality=0, keyint=keyint, reset_period=period, reconstruct=True
    )
    coded = [done for time, picture in enumerate(pictures) for done in encoder.push(picture, time, 1)]
    coded += encoder.flush()
    return [done.chunk for done in coded], [picture for done in coded for picture in done.pictures]


class Counted:
    """Generator and autoencoder, and how often they ran."""

    def __init__(self, model):
        self.runs = dict.fromkeys(("intra_generator", "inter_generator", "vae"), 0)
        self.hooks = []
        for name in self.runs:
            network = model.vae.autoencoder.decoder.conv_in if name == "vae" else getattr(model, name)
            self.hooks.append(network.register_forward_hook(self._counter(name)))

    def _counter(self, name):
        def hook(*_):
            self.runs[name] += 1

        return hook

    def close(self):
        for hook in self.hooks:
            hook.remove()


@pytest.mark.parametrize("period, keyint", [(4, 100), (32, 5)])
def test_a_decoder_shows_what_the_encoder_saw(period, keyint, codec, pictures):
    chunks, seen = encode(codec, pictures, period, keyint)
    shown = [f.picture for f in VideoDecoder(codec, header(pictures, period)).decode(chunks)]
    assert len(shown) == len(seen) == len(pictures)
    # Windows of the generator are the same on both sides, so pictures are too.
    assert all(np.array_equal(a, b) for a, b in zip(shown, seen, strict=True))
    assert len(np.unique(np.stack(shown))) > 50


def test_an_encoder_runs_the_generator_only_before_resets(codec, model, pictures):
    _, height, width, _ = pictures.shape
    encoder = VideoEncoder(codec, width, height, quality=0, keyint=100, reset_period=5)
    counted = Counted(model)
    for time, picture in enumerate(pictures):
        list(encoder.push(picture, time, 1))
    counted.close()
    # Resets at frames 1, 6 and 11 read x0 of frames 0, 5 and 10.
    assert counted.runs == {"intra_generator": 1, "inter_generator": 2, "vae": 0}


def test_another_arithmetic_is_named_by_frame(codec, model, pictures):
    """A network whose sums come out otherwise: pictures up to the frame that shows it, then an error."""
    chunks, seen = encode(codec, pictures[:4], 2, keyint=2)
    other = deepcopy(model)
    other.inter.prior[0][0].pointwise_in.weight[:2] += 0.5
    decoder = VideoDecoder(frame_model(other), header(pictures, 2))
    shown = []
    with pytest.raises(SymbolMismatchError, match="frame 1 reads differently here"):
        for frame in decoder.decode(chunks):
            shown.append(frame.picture)
    assert len(shown) == 1 and np.array_equal(shown[0], seen[0])


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_x0_before_a_reset_is_the_whole_generators(count, model, reference):
    """By a few blocks of the last frames, bit for bit what running everything gives."""
    clip = list(reference.config["clips"])[-1]
    vectors = [reference.vectors(case) for case in reference.cases if case.clip == clip][:count]
    point = BasePoint(BaseModel(lambda name, dtype: getattr(model, name)))
    frames = [BaseFeatures(point, vectors[0]["unet.x_T.in"], vectors[0]["i.y_semantic"])]
    frames += [BaseFeatures(point, held["p.feature"]) for held in vectors[1:]]

    x0, levels = model.intra_generator(*frames[0].inputs())
    for frame in frames[1:]:
        x0, levels = model.inter_generator(*frame.inputs(), levels)
    assert torch.equal(x0_before_reset(tuple(frames[-4:])), x0)


def test_packets_cost_what_the_tables_say(codec, pictures):
    """Real sizes against -log2 of the tables: within 1 percent and 4 bytes a packet."""
    chunks, _ = encode(codec, pictures[:3], 32)
    packets = [packet for chunk in chunks for packet in chunk.packets]
    said = []

    padded = padded_size(*pictures.shape[1:3], codec.multiple)
    schedule, memory = Schedule(32), codec.symbols.new_memory(*padded)
    for number, packet in enumerate(packets):
        bits = 0.0
        kind = schedule.next(number == 0, 0)

        def watched(parts):
            nonlocal bits
            part = next(parts)
            while True:
                symbols = yield part
                bits += part.tables.bits(symbols, part.index).sum()
                try:
                    part = parts.send(symbols)
                except StopIteration:
                    return

        assert read_packet(watched(codec.symbols.parts(kind, memory)), packet, 2) is not None
        said.append(bits / 8)
    for packet, expected in zip(packets, said, strict=True):
        assert len(packet.payload) <= 1.01 * expected + 4


def test_the_authors_rate_is_the_recorded_one(clip, codec, reference, monkeypatch):
    """Their I frames: y's estimate over padded pixels, from a posterior's sample; P frames: their bytes."""
    first = next(case for case in reference.cases if case.clip == clip)
    noise = reference.load(f"{clip}_f0")["vae_enc.noise"]
    whole = Vae.encode
    monkeypatch.setattr(Vae, "encode", lambda self, picture: whole(self, picture, noise))
    frames = reference.load(f"{clip}_input")["video_u8"].permute(0, 2, 3, 1).numpy()
    chunks, _ = encode(codec, frames[:2], 32)
    (chunk,) = chunks

    recorded = json.loads((reference.folder / "frames.json").read_text())[clip]["frames"][0]
    alone = replace(chunk, packets=chunk.packets[:1], qualities=chunk.qualities[:1])
    rate = reported_rate(codec, header(frames, 32), [alone])
    assert rate == pytest.approx(recorded["official_i_bpp"], rel=1e-4)
    bits = 8 * len(chunk.packets[1].payload)
    both = reported_rate(codec, header(frames, 32), [chunk])
    assert both == pytest.approx((rate + bits / (first.height * first.width)) / 2)
