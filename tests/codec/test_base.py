"""``base`` as a codec, on the miniature release: files, other arithmetics, what an encoder runs."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from safetensors.torch import load_file, save_file

import s2vc
from s2vc.bitstream import StreamReader
from s2vc.codec import base_frame
from s2vc.errors import InputError, ModelError
from s2vc.models.light import load_light
from s2vc.nn.base.generator import Generator
from s2vc.nn.base.vae import Vae

FRAMES, KEYINT, RESET = 8, 6, 2
"""I0 P1r P2 P3r P4 P5r I6 P7r: resets behind one frame, behind three and behind more than the look-back."""


def encode(model, pictures, quality=63, reconstruct=None):
    model.networks.reset_period = RESET
    stream = io.BytesIO()
    with s2vc.Encoder(
        stream, 70, 50, model=model, quality=quality, keyint=KEYINT, reconstruct=reconstruct
    ) as encoder:
        for picture in pictures:
            encoder.write(picture)
    return stream.getvalue()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As many as the processes of ``s2vc_command`` have: on another number a level differs here and there."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def source(scene):
    return scene(FRAMES, 70, 50)


@pytest.fixture(scope="module")
def film(base_folder, source):
    """(bytes, pictures that the encoder saw) of two points: quality -> both."""
    model = s2vc.load(str(base_folder), device="cpu")
    coded = {}
    for quality in (0, 63):
        seen = []
        content = encode(model, source, quality, lambda frame: seen.append(frame.rgb))  # noqa: B023
        coded[quality] = content, np.stack(seen)
    return coded


@pytest.fixture
def path(film, tmp_path):
    """The better of the two, on disk."""
    path = tmp_path / "film.s2vc"
    path.write_bytes(film[63][0])
    return path


def pictures(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])


def perturbed(folder, target, prefix, by=0.5):
    """A copy of a model folder, of the same digest, whose tensors under ``prefix`` are others."""
    shutil.copytree(folder, target)
    index = json.loads((target / "model.json").read_text())
    changed = 0
    for name in index["files"]:
        tensors = load_file(target / name)
        for key in [key for key in tensors if key.startswith(prefix)]:
            tensors[key] = tensors[key] + by
            changed += 1
        save_file(tensors, target / name, {"format": "pt"})
    assert changed
    return target


def test_a_film_decodes_to_what_the_encoder_saw_in_a_process_of_its_own(
    film, path, base_folder, tmp_path, s2vc_command
):
    ran = s2vc_command("decode", path, tmp_path / "shown", "--model", base_folder, "--threads", "1")
    assert ran.code == 0, ran.err
    assert np.array_equal(pictures(tmp_path / "shown"), film[63][1])


def test_quality_chooses_the_point(film, base_folder):
    assert len({content for content, _ in film.values()}) == len(film)
    model = s2vc.load(str(base_folder), device="cpu")
    for content, seen in film.values():
        shown = [frame.picture for frame in s2vc.Decoder(io.BytesIO(content), model=model)]
        assert np.array_equal(np.stack(shown), seen)


def test_another_arithmetic_ends_at_the_frame_that_departs(film, path, base_folder, tmp_path, s2vc_command):
    """The first P frame resets; the adaptor of features is read from frame 2 on."""
    other = perturbed(base_folder, tmp_path / "other", "inter.feature_adaptor.")
    ran = s2vc_command("decode", path, tmp_path / "shown", "--model", other)
    assert ran.code == 4
    (line,) = ran.err.splitlines()[-1:]
    assert "frame 2 reads differently here than where it was encoded: decode it with cpu, float32" in line
    shown = pictures(tmp_path / "shown").astype(int)
    # The window of the generator is another one: float noise, a level at most.
    assert len(shown) == 2 and np.abs(shown - film[63][1][:2]).max() <= 1


def test_concealing_goes_on_behind_the_frame_that_departs(path, film, base_folder, tmp_path):
    other = perturbed(base_folder, tmp_path / "other", "inter.feature_adaptor.")
    made = s2vc.decode(path, tmp_path / "shown", model=str(other), conceal=True, device="cpu")
    assert made.frames == FRAMES and made.concealed == ((2, KEYINT - 1),)
    assert made.differs and "frame 2 reads differently here" in made.differs
    shown = pictures(tmp_path / "shown")
    assert np.array_equal(shown[2], shown[1]) and np.array_equal(shown[KEYINT:], film[63][1][KEYINT:])


def test_where_no_frame_reads_alike_nothing_is_written(path, base_folder, tmp_path):
    other = perturbed(base_folder, tmp_path / "other", "intra.prior.")
    with pytest.raises(s2vc.SymbolMismatchError, match="frame 0 reads differently here"):
        s2vc.decode(path, tmp_path / "shown", model=str(other), device="cpu")
    assert not (tmp_path / "shown").exists()


def test_a_departure_passes_two_bytes_of_checksum(film):
    assert StreamReader(io.BytesIO(film[0][0])).header.checksum_bytes == 2


def decode(content, folder, **running):
    model = s2vc.load(str(folder), device="cpu", **running)
    return np.stack([frame.picture for frame in s2vc.Decoder(io.BytesIO(content), model=model)])


@pytest.mark.parametrize("dtype", ["bf16", pytest.param("fp16", marks=pytest.mark.slow)])
def test_pictures_in_a_shorter_dtype_and_symbols_as_before(dtype, film, base_folder, psnr):
    """Every reset reads an x0 that is the encoder's only where it is made in float32."""
    content, seen = film[63]
    shown = decode(content, base_folder, dtype=dtype)
    assert len(shown) == FRAMES and 25 < psnr(shown, seen) < 70


def test_offloaded_generators_are_there_one_at_a_time_while_they_run(film, base_folder, monkeypatch):
    made, init, forward, most = [], Generator.__init__, Generator.forward, []

    def note(self, *arguments, **options):
        init(self, *arguments, **options)
        made.append(self)

    def with_weights():
        return sum(not generator.unet.conv_in.weight.is_meta for generator in made)

    def count(self, *arguments):
        most.append(with_weights())
        return forward(self, *arguments)

    monkeypatch.setattr(Generator, "__init__", note)
    monkeypatch.setattr(Generator, "forward", count)
    content, seen = film[63]
    model = s2vc.load(str(base_folder), device="cpu", offload=True)
    shown = [frame.picture for frame in s2vc.Decoder(io.BytesIO(content), model=model)]
    assert np.array_equal(np.stack(shown), seen)
    assert set(most) == {1} and with_weights() == 0


def test_an_encoder_writes_the_same_however_it_runs(film, base_folder, source):
    model = s2vc.load(str(base_folder), device="cpu", dtype="bf16", offload=True)
    assert encode(model, source) == film[63][0]


def test_the_command_line_says_how_a_model_runs(path, film, base_folder, tmp_path, psnr, s2vc_command):
    AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    ).save_pretrained(tmp_path / "light")
    how = ("--dtype", "bf16", "--offload", "--vae", tmp_path / "light")
    ran = s2vc_command("decode", path, tmp_path / "shown", "--model", base_folder, *how)
    assert ran.code == 0 and len(ran.err.splitlines()) == 1, ran.err
    shown = pictures(tmp_path / "shown")
    assert shown.shape == film[63][1].shape and psnr(shown, film[63][1]) < 25


def test_a_light_decoder_spares_the_autoencoder(film, base_folder, weights_dir, monkeypatch):
    monkeypatch.setattr(Vae, "decode", None)
    light = decode(film[63][0], base_folder, vae=str(weights_dir / "taesd.safetensors"))
    assert light.shape == film[63][1].shape


def test_taesd_draws_what_it_was_given(weights_dir, data_dir, psnr):
    picture = np.asarray(Image.open(sorted((data_dir / "train/images").glob("*.jpg"))[0]).convert("RGB"))
    picture = picture[: picture.shape[0] // 8 * 8, : picture.shape[1] // 8 * 8]
    weights = weights_dir / "taesd.safetensors"
    encoder = AutoencoderTiny().encoder
    held = {key[8:]: t for key, t in load_file(weights).items() if key.startswith("encoder.")}
    encoder.layers.load_state_dict(held)
    light = load_light(str(weights), torch.device("cpu"), torch.float32)
    with torch.no_grad():
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255 * 2 - 1
        decoded = light.decode(encoder(x))[0].clamp(-1, 1)
    assert psnr(((decoded + 1) * 127.5).permute(1, 2, 0).numpy(), picture) > 20


def test_what_cannot_run_so_is_named(base_folder, tmp_path, mini):
    with pytest.raises(ModelError, match="there is no light autoencoder at"):
        s2vc.load(str(base_folder), device="cpu", vae=str(tmp_path))
    with pytest.raises(ModelError, match="mini-1 runs in one way only: leave out --dtype"):
        s2vc.load(str(mini), device="cpu", dtype="bf16")
    with pytest.raises(InputError, match="no dtype int8: choose from"):
        s2vc.load(str(base_folder), device="cpu", dtype="int8")


def test_an_encoder_runs_what_a_reset_needs_and_writes_as_one_that_runs_everything(
    film, base_folder, source, monkeypatch
):
    """ARCHITECTURE §10.2: one whole run, and fewer levels the further a frame is from the reset."""
    runs = []
    forward, buffer = Generator.forward, Generator.buffer

    def whole(self, *arguments):
        runs.append("whole")
        return forward(self, *arguments)

    def partly(self, features, tokens, previous, levels):
        runs.append(levels)
        return buffer(self, features, tokens, previous, levels)

    monkeypatch.setattr(Generator, "forward", whole)
    monkeypatch.setattr(Generator, "buffer", partly)
    monkeypatch.setattr(Vae, "decode", None)
    assert encode(s2vc.load(str(base_folder), device="cpu"), source) == film[63][0]
    assert runs == ["whole", 2, 3, "whole", 1, 2, 3, "whole", "whole"]

    def everything(frames):
        model, x0, levels = frames[0].point.model, None, None
        for frame in frames:
            with model.generator(frame.intra, torch.float32) as generator:
                x0, levels = generator(*frame.inputs(), levels)
        return x0

    runs.clear()
    monkeypatch.setattr(base_frame, "LOOK_BACK", 100)
    monkeypatch.setattr(base_frame, "x0_before_reset", everything)
    assert encode(s2vc.load(str(base_folder), device="cpu"), source) == film[63][0]
    assert runs == ["whole"] * (1 + 3 + 5 + 1)


def test_verify_reads_the_containers_sums_without_the_model(path):
    content = bytearray(path.read_bytes())
    assert s2vc.verify(path) == s2vc.VerifyResult(FRAMES, None)
    content[-40] ^= 1
    path.write_bytes(content)
    found = s2vc.verify(path)
    assert found.frames < FRAMES and found.damaged


def test_other_weights_are_refused(film, miniature, tmp_path):
    from s2vc.models.published_import import import_release

    other = import_release(miniature.folder, tmp_path / "other", ["low"])
    with pytest.raises(ModelError, match="the file needs model base-fp16"):
        list(s2vc.Decoder(io.BytesIO(film[0][0]), model=str(other.path)))


def test_info_names_the_model(path, base_folder):
    facts = s2vc.info(path)
    digest = json.loads((base_folder / "model.json").read_text())["digest"]
    assert (facts.model, facts.model_digest.hex()) == ("base-fp16", digest[:16])
    assert facts.points is None and s2vc.info(path, model=str(base_folder)).points == ["high"]
    profile = StreamReader(io.BytesIO(path.read_bytes())).header.profile
    assert profile.startswith("cpu, float32, torch ") and ", diffusers " in profile
