"""``base`` as a codec, on the miniature release: files, other arithmetics, what an encoder runs."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import s2vc
from s2vc.bitstream import StreamReader
from s2vc.errors import ModelError

KEYINT, FRAMES = 4, 6


@pytest.fixture(scope="module")
def film(base_folder, scene):
    """(bytes, pictures that the encoder saw) of two points: quality -> both."""
    model = s2vc.load(str(base_folder), device="cpu")
    coded = {}
    for quality in (0, 63):
        seen, stream = [], io.BytesIO()
        with s2vc.Encoder(
            stream,
            70,
            50,
            model=model,
            quality=quality,
            keyint=KEYINT,
            reconstruct=lambda frame: seen.append(frame.rgb),  # noqa: B023 (called before the next turn)
        ) as encoder:
            for picture in scene(FRAMES, 70, 50):
                encoder.write(picture)
        coded[quality] = stream.getvalue(), np.stack(seen)
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
    ran = s2vc_command("decode", path, tmp_path / "shown", "--model", base_folder)
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
    profile = StreamReader(io.BytesIO(path.read_bytes())).header.profile
    assert profile.startswith("cpu, float32, torch ") and ", diffusers " in profile
