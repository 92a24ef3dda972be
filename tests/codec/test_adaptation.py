"""An I-frame's codes adapt the generator until the next one, and nothing else."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
import torch

import s2vc
from s2vc.codec.encoder import VideoEncoder
from s2vc.errors import ModelError
from s2vc.models.files import write_model
from s2vc.nn.tiny.adaptation import SCALED
from s2vc.training.export import export
from s2vc.video import Frame, VideoInfo, open_output

SIZE = (50, 38)
FILM = 44  # frames; an I-frame every 20, so that one scene has a chunk only


@pytest.fixture(scope="module")
def adaptable(mini, tmp_path_factory):
    """The mini model, which was exported before there were codes, exported again."""
    path = tmp_path_factory.mktemp("adaptable") / "adaptable.safetensors"
    export(mini, path)
    return s2vc.load(str(path), device="cpu")


class Choosing:
    """An adapter that has made up its mind. ``given``: codes of each scene, None for none."""

    def __init__(self, model, given):
        self.symbols, self.given, self.seen = model.networks.symbols, list(given), []

    def saw(self, features, picture, intra):
        if intra:
            self.seen.append(0)
        self.seen[-1] += 1

    def codes(self, size):
        assert size > 0
        codes = self.given[len(self.seen) - 1]
        return None if codes is None else self.symbols.adaptation(np.array(codes, np.int32))[0]


def encoded(model, pictures, adapter=None, **options):
    """The stream, with an adapter of the test's own."""
    stream = io.BytesIO()
    height, width, _ = pictures[0].shape
    encoder = s2vc.Encoder(stream, width, height, model=model, keyint=20, quality=30, **options)
    encoder._coder._adapter = adapter
    for picture in pictures:
        encoder.write(picture)
    encoder.close()
    return stream.getvalue()


def decoded(model, data, start=None):
    decoder = s2vc.Decoder(io.BytesIO(data), model=model)
    if start is not None:
        decoder.seek(start)
    return [frame.picture for frame in decoder]


def drawn(model, seed):
    """Codes as they may be, one of them far off."""
    random = np.random.default_rng(seed)
    return [300, *random.integers(-3, 4, model.networks.codes - 1)]


@pytest.fixture(scope="module")
def scenes(adaptable):
    return [drawn(adaptable, 1), None, drawn(adaptable, 2)]


@pytest.fixture(scope="module")
def film(adaptable, scene, scenes):
    """(source, stream without codes, stream with those of ``scenes``)."""
    pictures = scene(FILM, *SIZE)
    return pictures, encoded(adaptable, pictures), encoded(adaptable, pictures, Choosing(adaptable, scenes))


def test_a_model_that_can_be_adapted_writes_the_frames_of_one_that_cannot(adaptable, mini, film):
    pictures, plain, _ = film
    model = s2vc.load(str(mini), device="cpu")
    other = encoded(model, pictures)
    assert len(other) + len("adaptable") - len(model.id) <= len(plain) <= len(other) + 20
    for ours, theirs in zip(decoded(adaptable, plain), decoded(model, other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_pictures_are_those_of_the_adapted_generator(adaptable, film, scenes):
    """Against a generator whose weights were replaced for good, scene by scene."""
    _, plain, adapted = film
    shown = decoded(adaptable, adapted)
    before = decoded(adaptable, plain)
    networks = adaptable.networks
    weights = {
        name: networks.generator.get_parameter(name)
        for name in networks.adapted(torch.zeros(adaptable.networks.codes))
    }
    assert set(weights) == {f"{name}.{part}" for name in SCALED for part in ("weight", "bias")}
    kept = {name: value.detach().clone() for name, value in weights.items()}
    for number, codes in enumerate(scenes):
        scene = slice(20 * number, 20 * number + 20)
        if codes is None:
            expected = before[scene]
        else:
            with torch.no_grad():
                for name, value in networks.adapted(torch.tensor(codes).float()).items():
                    weights[name].copy_(value)
                expected = decoded(adaptable, plain)[scene]
                for name, value in kept.items():
                    weights[name].copy_(value)
            assert any((a != b).any() for a, b in zip(expected, before[scene], strict=True))
        for a, b in zip(expected, shown[scene], strict=True):
            np.testing.assert_array_equal(a, b)


def test_codes_cost_what_their_tables_say(adaptable, film, scenes):
    _, plain, adapted = film
    adaptation = adaptable.networks.symbols.adaptation
    bits = sum(adaptation(np.array(codes, np.int32))[1] for codes in scenes if codes is not None)
    assert abs(len(adapted) - len(plain) - bits / 8) < 12


def test_a_layer_without_codes_costs_its_table_only(adaptable):
    symbols = adaptable.networks.symbols
    codes = np.zeros(adaptable.networks.codes, np.int32)
    codes[[0, 1, -1]] = [1, -2, 100]
    parts, bits = symbols.adaptation(codes)
    assert np.flatnonzero(parts["groups"]).tolist() == [0, len(symbols.model.code_groups) - 1]
    _, more = symbols.adaptation(codes + (np.arange(len(codes)) == 2))
    assert bits < more < bits + 20


@pytest.mark.parametrize("start", [3, 17, 19, 25, 41, 43])
def test_seeking_into_a_scene_finds_its_codes(adaptable, film, start):
    _, _, adapted = film
    whole = decoded(adaptable, adapted)
    for ours, theirs in zip(decoded(adaptable, adapted, start), whole[start:], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_encoder_shows_every_frame_to_its_adapter_and_keeps_times(adaptable, scene):
    adapter = Choosing(adaptable, [None, drawn(adaptable, 3), None])
    data = encoded(adaptable, scene(FILM, *SIZE), adapter)
    assert adapter.seen == [20, 20, 4]
    assert [frame.time for frame in s2vc.Decoder(io.BytesIO(data), model=adaptable)] == list(range(FILM))


def test_sound_stands_before_the_chunk_it_is_due_with(adaptable, scene):
    """Chunks that waited for codes come at once; what is due between them must not stand before the first."""
    height, width, _ = scene(1, *SIZE)[0].shape
    coder = VideoEncoder(adaptable.networks, width, height, quality=20, keyint=70, reset_period=32)
    coder._adapter = Choosing(adaptable, [drawn(adaptable, 3), None])
    chunks = [c for t, picture in enumerate(scene(80, *SIZE)) for c in coder.push(picture, 3 * t, 3)]
    chunks += coder.flush()
    assert [len(c.chunk.packets) for c in chunks] == [32, 32, 6, 10]
    assert [c.until for c in chunks] == [96, 192, None, None]
    assert [c.grown > 0 for c in chunks] == [True, False, False, False]


def test_a_model_that_adapts_other_layers_says_so(adaptable, tmp_path):
    file = adaptable.file
    tensors = {name: np.asarray(value) for name, value in file.tensors("").items()}
    tensors["entropy.codes.groups"] = tensors["entropy.codes.groups"][:-1]
    write_model(tmp_path / "other.safetensors", "tiny", "other", file.config, tensors)
    with pytest.raises(ModelError, match="adapts other layers than this s2vc"):
        s2vc.load(str(tmp_path / "other.safetensors"), device="cpu").networks  # noqa: B018


def test_a_model_without_codes_says_so(mini):
    with pytest.raises(ModelError, match="no codes that adapt its generator"):
        s2vc.Encoder(io.BytesIO(), 32, 32, model=s2vc.load(str(mini), device="cpu"), adapt=True)


@pytest.mark.parametrize("option", [{"low_delay": True}, {"reconstruct": print}])
def test_what_cannot_wait_for_a_scene_is_refused(adaptable, weights_dir, option):
    with pytest.raises(ValueError, match="when a whole scene is coded"):
        s2vc.Encoder(io.BytesIO(), 32, 32, model=adaptable, adapt=True, **option)


def test_codes_are_searched_only_where_they_help(adaptable, weights_dir, scene, monkeypatch):
    """By the losses themselves: some steps find codes, and those are better than none."""
    from s2vc.api import adapting

    monkeypatch.setattr(adapting, "STEPS", 12)
    adapter = adapting.GeneratorAdapter(adaptable.networks)
    pictures = scene(9, *SIZE)
    stream = io.BytesIO()
    encoder = s2vc.Encoder(stream, *SIZE, model=adaptable, quality=30)
    encoder._coder._adapter = adapter
    for picture in pictures:
        encoder.write(picture)
    chosen = adapter.codes(10**6)
    assert len(adapter._crops) == 9 and chosen is not None
    chosen = chosen["codes"]
    assert 0 < np.abs(chosen).max() <= adapting.LIMIT
    found, none = torch.from_numpy(chosen).float(), torch.zeros(adaptable.networks.codes)
    assert adapter._judged(found) < adapter._judged(none)
    assert adapter.codes(1) is None  # they would be nearly all of the file
    monkeypatch.setattr(adapter, "_judged", lambda codes: 1.0)
    assert adapter.codes(10**6) is None


def test_errors_of_colour_weigh_more_than_grey_ones(adaptable, weights_dir, monkeypatch):
    """The same error in one channel, or a third of it in all: L1 alone has no preference."""
    from s2vc.api import adapting

    adapter = adapting.GeneratorAdapter(adaptable.networks)
    monkeypatch.setattr(adapter, "_metrics", [(0.0, lambda shown, real: torch.zeros(1))])
    source = torch.full((2, 3, 32, 32), 100, dtype=torch.uint8)
    crop = adapting.Crop((torch.zeros(1), torch.zeros(1)), torch.zeros(1), source)
    shares = {"colour": (30.0, 0.0, 0.0), "grey": (10.0, 10.0, 10.0)}
    losses = {}
    for kind, share in shares.items():
        shown = (source + torch.tensor(share).view(3, 1, 1))[None]
        monkeypatch.setattr(adapting, "functional_call", lambda *_, shown=shown: shown)
        losses[kind] = float(adapter._loss(crop, torch.zeros(adaptable.networks.codes), 0))
    assert losses["grey"] == pytest.approx(adapting.L1 * 10 / 255, rel=1e-5)
    assert losses["colour"] > 2 * losses["grey"]


def test_long_scenes_keep_crops_of_frames_of_all_kinds(adaptable, weights_dir, scene):
    from s2vc.api import adapting

    adapter = adapting.GeneratorAdapter(adaptable.networks)
    networks = adaptable.networks
    buffer = networks.new_buffer(32, 32)
    features = networks.coding(buffer, s2vc.codec.protocol.FrameKind(True, False, 30)).finish()[1]
    for number in range(250):
        adapter.saw(features, np.full((32, 32, 3), number, np.uint8), number == 0)
    kept = np.array([int(crop.source[-1].max()) for crop in adapter._crops])
    assert len(set(kept)) == adapting.MOST_CROPS
    assert kept.min() < 60 and kept.max() > 190 and len(set(kept % 8)) > 4  # no frames of one kind only


@pytest.mark.parametrize(
    "option",
    [
        {"low_delay": True},
        {"resume": True},
        {"recon": "r.mkv"},
        {"max_bitrate": 5e4, "bufsize": 5e4},
        {"quality_target": "psnr=30"},
    ],
)
def test_encode_says_what_adapt_does_not_go_with(adaptable, tmp_path, option):
    with pytest.raises(ValueError, match="or adapt"):
        s2vc.encode("none.mp4", tmp_path / "out.s2vc", model=adaptable, adapt=True, **option)


def test_a_size_is_met_with_codes(adaptable, weights_dir, scene, tmp_path, monkeypatch):
    """The last pass alone searches, and what its I-frames grow by counts."""
    from s2vc.api import adapting

    monkeypatch.setattr(adapting, "STEPS", 1)
    searched = []

    def codes(self, size):
        searched.append(size)
        return adaptable.networks.symbols.adaptation(np.array(drawn(adaptable, 4), np.int32))[0]

    monkeypatch.setattr(adapting.GeneratorAdapter, "codes", codes)
    info = VideoInfo(*SIZE, average_rate=Fraction(25), time_base=Fraction(1, 25))
    with open_output(tmp_path / "in.mkv", info, lossless=True) as output:
        for time, picture in enumerate(scene(24, *SIZE)):
            output.write(Frame(picture, time))
    free = s2vc.encode(tmp_path / "in.mkv", tmp_path / "free.s2vc", model=adaptable, quality=40, keyint=12)
    made = s2vc.encode(
        tmp_path / "in.mkv",
        tmp_path / "out.s2vc",
        model=adaptable,
        keyint=12,
        target_size=free.bytes,
        adapt=True,
        progress=lambda *_: None,
    )
    assert made.bytes <= free.bytes and made.frames == 24
    assert len(searched) % 2 == 0 and len(decoded(adaptable, (tmp_path / "out.s2vc").read_bytes())) == 24
