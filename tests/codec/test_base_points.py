"""A film whose I frames change the rate point of ``base``: what points share is read once."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest

import s2vc
from s2vc.models.mapped import MappedFile
from s2vc.models.published_loading import ModelFolder, PublishedNetworks, build
from s2vc.nn.base.generator import Generator

QUALITIES = (0, 32, 0)
"""Of the I frames: points low, middle and low, which share base U-Net, autoencoder and I codec."""


class Changing:
    """A quality for every I frame and the P frame behind it."""

    def __init__(self, at_intra=lambda: None):
        self.qualities, self.at_intra = iter(QUALITIES), at_intra

    def choose(self, intra, time):
        if intra:
            self.quality = next(self.qualities)
            self.at_intra()
        return self.quality

    def coded(self, payload_bits):
        return None

    def container(self, bits):
        pass


def encode(model, pictures, reconstruct=None, at_intra=lambda: None):
    stream = io.BytesIO()
    with s2vc.Encoder(
        stream, 70, 50, model=model, keyint=2, control=Changing(at_intra), reconstruct=reconstruct
    ) as encoder:
        for picture in pictures:
            encoder.write(picture)
    return stream.getvalue()


def decode(model, content):
    return np.stack([frame.picture for frame in s2vc.Decoder(io.BytesIO(content), model=model)])


@pytest.fixture
def read(monkeypatch):
    """Reads so far, by file and tensor."""
    seen = Counter()
    read = MappedFile.read

    def count(self, key):
        seen[self.path.name, key] += 1
        return read(self, key)

    monkeypatch.setattr(MappedFile, "read", count)
    return seen


def test_a_switch_reads_what_differs_and_gives_what_fresh_points_give(base_folder, scene, read, monkeypatch):
    files = ModelFolder.open(base_folder).files
    alone = {name for name, points in files.items() if len(points) == 1}
    pictures, before, seen = scene(2 * len(QUALITIES), 70, 50), [], []
    model = s2vc.load(str(base_folder), device="cpu")
    content = encode(model, pictures, lambda f: seen.append(f.rgb), lambda: before.append(read.copy()))
    assert {name for name, _ in read if len(files[name]) == 3} and max(read.values()) == 2
    assert all(count == 1 for (name, _), count in read.items() if name not in alone)
    # Two frames in, all has been read that the points share.
    for switch, after in zip(before[1:], [before[2], read], strict=True):
        assert {name for name, _ in after - switch} <= alone and after != switch

    read.clear()
    decoded = decode(s2vc.load(str(base_folder), device="cpu"), content)
    assert all(count == 1 for (name, _), count in read.items() if name not in alone)
    assert np.array_equal(decoded, np.stack(seen))

    def fresh(self, point, name, dtype):
        return build(self.config, ModelFolder.open(base_folder).reader(point), name, dtype)

    monkeypatch.setattr(PublishedNetworks, "load", fresh)
    model, again = s2vc.load(str(base_folder), device="cpu"), []
    assert encode(model, pictures, lambda frame: again.append(frame.rgb)) == content
    assert np.array_equal(np.stack(again), decoded)


def test_one_generator_has_weights_at_a_time(base_folder, scene, monkeypatch):
    made, init, forward, most = [], Generator.__init__, Generator.forward, []

    def note(self, *arguments, **options):
        init(self, *arguments, **options)
        made.append(self)

    def count(self, *arguments):
        most.append(sum(not generator.unet.conv_in.weight.is_meta for generator in made))
        return forward(self, *arguments)

    monkeypatch.setattr(Generator, "__init__", note)
    monkeypatch.setattr(Generator, "forward", count)
    encode(s2vc.load(str(base_folder), device="cpu", dtype="bf16"), scene(4, 70, 50), lambda frame: None)
    assert len(made) == 2 and set(most) == {1}
