"""What training counts and sees is what a file costs and what a decoder shows."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch

import s2vc
from s2vc.bitstream import StreamReader
from s2vc.codec.decoder import SymbolReader
from s2vc.codec.encoder import pad
from s2vc.entropy.motion import motion_bits
from s2vc.models.files import ModelFile, write_model
from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.model import TinyModel
from s2vc.training.checkpoint import read_weights
from s2vc.training.export import model_tensors
from s2vc.training.unroll import Frames, Noise, initial_state, noise_shapes, unroll

FRAMES, WIDTH, HEIGHT = 16, 100, 70


def trained(mini) -> TinyModel:
    """The model that the mini model's file would be exported from."""
    file = ModelFile.open(mini)
    model = TinyModel(TinyConfig(**file.config)).requires_grad_(False).eval()
    model.load_state_dict(read_weights(mini).part("ema."))
    return model


@pytest.fixture(scope="module")
def model(mini):
    return trained(mini)


def test_export_gives_the_file_back(model, mini):
    """Float parts as float16, the entropy model as the integers that it stands for; codes' tables are new."""
    made, kept = model_tensors(model), ModelFile.open(mini).tensors()
    assert made.keys() - kept.keys() == {"entropy.codes.groups"}
    np.testing.assert_equal({name: made[name] for name in kept}, kept)


@pytest.fixture(scope="module")
def following(mini, tmp_path_factory):
    """The mini model's file, where pixels are followed to their origins."""
    file = ModelFile.open(mini)
    path = tmp_path_factory.mktemp("model") / "mini-origins.safetensors"
    write_model(path, "tiny", "mini-origins", {**file.config, "origins": 1}, file.tensors())
    return path


@pytest.mark.parametrize("kind", ["mini", "following"])
@pytest.mark.parametrize("quality", [0, 32, 63])
def test_unrolled_frames_are_the_coded_ones(kind, request, scene, psnr, quality):
    path = request.getfixturevalue(kind)
    model = trained(path)
    pictures, shown, stream = scene(FRAMES, WIDTH, HEIGHT), [], io.BytesIO()
    file = s2vc.load(str(path), device="cpu")
    with s2vc.Encoder(
        stream, WIDTH, HEIGHT, model=file, quality=quality, reconstruct=lambda frame: shown.append(frame.rgb)
    ) as encoder:
        for picture in pictures:
            encoder.write(picture)
    stream.seek(0)
    reader = StreamReader(stream)
    symbols = SymbolReader(file.networks.symbols, reader.header, file.networks.multiple)
    (chunk,) = reader
    read = symbols.read(chunk)

    padded = np.stack([pad(picture, 16) for picture in pictures])
    still = np.zeros((padded.shape[1] // 16, padded.shape[2] // 16, 2), np.int16)
    motion = np.stack([frame.get("motion", still) for frame in read.symbols])
    x = torch.from_numpy(padded).permute(0, 3, 1, 2)[None].float()
    flags = [torch.tensor([[getattr(kind, name) for kind in read.kinds]]) for name in ("intra", "reset")]
    draw = torch.Generator().manual_seed(3)
    height, width = padded.shape[1] // 16, padded.shape[2] // 16
    latent = torch.rand(1, FRAMES, 16, height, width, generator=draw) - 0.5
    hyper = torch.rand(1, FRAMES, 4, -(-height // 4), -(-width // 4), generator=draw) - 0.5
    with torch.no_grad():
        result = unroll(
            Frames(model, autocast=False),
            x,
            torch.from_numpy(motion)[None],
            *flags,
            torch.tensor([[kind.quality for kind in read.kinds]]),
            Noise(latent, hyper),
            initial_state(model, 1, *padded.shape[1:3]),
        )

    before = [None, None, *motion[1:-1]]  # an I-frame has no field to go by
    vectors = sum(
        motion_bits(field, previous).sum() for field, previous in zip(motion[1:], before[1:], strict=True)
    )
    coded = 8 * sum(len(packet.payload) for packet in chunk.packets) - vectors
    assert float(result.bits.sum()) == pytest.approx(coded, rel=0.03)  # packets end with whole words

    x0 = result.x0[0].round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    # Costs are those of a Gaussian, not of its table: a block at the border of paying may go the other way.
    assert psnr(x0[:, :HEIGHT, :WIDTH], shown) > 50
    # The proxy with gradients counts the same, but for its noise.
    assert float(result.bits_proxy.sum()) == pytest.approx(float(result.bits.sum()), rel=0.15)


def test_what_is_tried_learns_under_mixed_precision(mini):
    """What is tried without gradients leaves no bfloat16 copy of a weight behind that has none.

    Old versions of torch do (pytorch/pytorch#105211), and only there can this fail.
    """
    model = trained(mini).requires_grad_(True)
    draw = torch.Generator().manual_seed(1)
    small = torch.rand(2, 3, 9, 9, generator=draw)
    pictures = torch.nn.functional.interpolate(small, size=(64, 64), mode="bicubic").clamp(0, 1)[None] * 255
    pan = torch.full((1, 2, 4, 4, 2), 6)
    intra, reset = torch.tensor([[True, False]]), torch.tensor([[False, False]])
    latent, hyper = (torch.zeros(1, *shape) for shape in noise_shapes(model, 2, 64))
    result = unroll(
        Frames(model, autocast=True),
        *(pictures, pan, intra, reset, torch.full((1, 2), 50), Noise(latent, hyper)),
        initial_state(model, 1, 64, 64),
    )
    ((result.x0 - pictures).square().mean() + result.bits_proxy.sum()).backward()
    tried = ("codec.second", "codec.mean1", "codec.decoder_", "codec.reference_out", "entropy.head1")
    parameters = [(name, p) for name, p in model.named_parameters() if name.startswith(tried)]
    still = [name for name, p in parameters if p.grad is None or not p.grad.any()]
    assert not still


def test_a_file_shows_what_its_encoder_saw(following, mini, monkeypatch):
    """With blocks that nobody codes, so that there is something to be followed."""

    def left_alone(analysis, x, kind, memory):
        return np.zeros(analysis.motion.shape[:2], bool)

    monkeypatch.setattr("s2vc.codec.tiny.TinyAnalysis._worth_coding", left_alone)
    draw = np.random.default_rng(0).integers(0, 256, (30, 50, 3)).astype(np.uint8)
    scenery = cv2.resize(draw, (2 * (WIDTH + 90), 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    pan = [scenery[:, 3 * t : 3 * t + 2 * WIDTH] for t in range(40)]  # a pixel and a half a frame
    pictures = [cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for picture in pan]

    def coded(model) -> tuple[list[np.ndarray], list[np.ndarray]]:
        shown, stream = [], io.BytesIO()
        with s2vc.Encoder(
            stream,
            WIDTH,
            HEIGHT,
            model=s2vc.load(str(model), device="cpu"),
            quality=30,
            reconstruct=lambda frame: shown.append(frame.rgb),
        ) as encoder:
            for picture in pictures:
                encoder.write(picture)
        stream.seek(0)
        again = s2vc.load(str(model), device="cpu")
        return shown, [frame.picture for frame in s2vc.Decoder(stream, model=again)]

    seen, decoded = coded(following)
    np.testing.assert_array_equal(decoded, seen)
    plain, _ = coded(mini)
    assert not np.array_equal(plain, seen)


def gradient_of_last_loss(model, **how) -> tuple[torch.Tensor, torch.Tensor]:
    """The last frame's L1 by the first frame's picture, and the shown pictures."""
    draw = torch.Generator().manual_seed(1)
    pictures = torch.rand(1, 3, 3, 64, 64, generator=draw) * 255
    pictures.requires_grad_()
    latent, hyper = (torch.rand(1, *shape, generator=draw) - 0.5 for shape in noise_shapes(model, 3, 64))
    flags = torch.tensor([[True, False, False]])
    result = unroll(
        Frames(model, autocast=False, **how),
        pictures,
        torch.zeros(1, 3, 4, 4, 2, dtype=torch.int16),
        flags,
        ~flags & False,
        torch.full((1, 3), 40),
        Noise(latent, hyper),
        initial_state(model, 1, 64, 64),
    )
    (gradient,) = torch.autograd.grad((result.x0[:, -1] - pictures.detach()[:, -1]).abs().mean(), pictures)
    return gradient[:, 0], result.x0.detach()


def test_cascade_reaches_earlier_frames_and_inter_does_not(model):
    through, shown = gradient_of_last_loss(model)
    alone, same = gradient_of_last_loss(model, cascade=False)
    assert through.abs().max() > 0
    assert alone.abs().max() == 0
    torch.testing.assert_close(shown, same)


def test_checkpointing_changes_no_gradient(model):
    kept, _ = gradient_of_last_loss(model)
    again, _ = gradient_of_last_loss(model, checkpointing=True)
    torch.testing.assert_close(kept, again, rtol=0, atol=0)
