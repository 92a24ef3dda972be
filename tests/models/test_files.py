"""Model files: how they are found, what is refused, and that their digest is their content."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from s2vc.errors import ModelError
from s2vc.models import files
from s2vc.models.files import ModelFile, digest_of, find_model, find_model_of, write_model
from s2vc.models.loading import load_frame_model, load_symbol_model


@pytest.fixture
def described(mini):
    """The mini model's tensors and description, to be changed."""
    model = ModelFile.open(mini)
    description = {
        "format": files.FORMAT,
        "version": "1",
        "preset": "tiny",
        "id": "mini-1",
        "config": json.dumps(model.config),
    }
    return model.tensors(), description


@pytest.fixture
def package(mini, tmp_path, monkeypatch):
    """A package that holds mini-1 and, newer, mini-2 and mini-10."""
    folder = tmp_path / "weights"
    folder.mkdir()
    model = ModelFile.open(mini)
    shutil.copy(mini, folder / "mini-1.safetensors")
    for number in (2, 10):
        tensors = model.tensors()
        tensors["codec.mean0.bias"] = tensors["codec.mean0.bias"] + np.float16(number)
        path = folder / f"mini-{number}.safetensors"
        write_model(path, "tiny", f"mini-{number}", model.config, tensors)
    monkeypatch.setattr(files, "EMBEDDED", folder)
    return folder


def test_found_by_preset_id_and_path(package, mini):
    assert find_model("tiny").id == "mini-10"
    assert find_model("mini-2").path == package / "mini-2.safetensors"
    assert find_model(str(mini)).id == "mini-1"
    with pytest.raises(ModelError, match=r"no model tiny-7 .*mini-1, mini-2, mini-10"):
        find_model("tiny-7")
    with pytest.raises(ModelError, match="does not exist"):
        find_model("./tiny.safetensors")


def test_a_file_gets_the_very_model_it_names(package, mini, tmp_path):
    one = ModelFile.open(mini)
    assert find_model_of("mini-1", one.digest).digest == one.digest
    # What is given is looked at first, what the package holds is known all the same.
    assert find_model_of("mini-1", one.digest, "mini-2").id == "mini-1"
    assert find_model_of("mini-1", one.digest, str(mini)).path == mini
    with pytest.raises(ModelError, match=r"needs model mini-1 \(0000000000000000\), which is not here"):
        find_model_of("mini-1", bytes(8))
    with pytest.raises(ModelError, match=r"needs model mini-3 .* and mini-2 is mini-2 "):
        find_model_of("mini-3", one.digest, "mini-2")


def test_an_empty_package_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "EMBEDDED", tmp_path)
    with pytest.raises(ModelError, match=r"there are: none"):
        find_model("tiny")


def test_the_digest_is_of_the_content(described, tmp_path):
    tensors, _ = described
    digest = digest_of(tensors)
    assert digest_of(dict(reversed(tensors.items()))) == digest
    for name, change in {
        "codec.mean0.bias": lambda t: t + np.float16(1),
        "entropy.trunk0.weight": lambda t: t.astype(np.int16),
        "codec.mean1.weight": lambda t: t.reshape(-1),
    }.items():
        assert digest_of({**tensors, name: change(tensors[name])}) != digest
    renamed = {("generator.x" if k == "codec.mean0.bias" else k): v for k, v in tensors.items()}
    assert digest_of(renamed) != digest
    big_endian = {k: v.astype(v.dtype.newbyteorder(">")) for k, v in tensors.items()}
    assert digest_of(big_endian) == digest
    path = tmp_path / "other-name.safetensors"
    write_model(path, "tiny", "another", {"any": 1}, tensors)
    assert ModelFile.open(path).digest == digest[:8]
    np.testing.assert_equal(load_file(path), tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a model of s2vc"),
        ({"version": "2"}, "newer"),
        ({"version": "one"}, "damaged"),
        ({"config": "{"}, "damaged"),
        ({"config": "7"}, "damaged"),
        ({"id": None}, "damaged"),
        ({"preset": None}, "damaged"),
    ],
)
def test_wrong_descriptions(described, tmp_path, change, message):
    tensors, description = described
    description = {k: v for k, v in {**description, **change}.items() if v is not None}
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, description)
    with pytest.raises(ModelError, match=message) as refused:
        ModelFile.open(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 64, b"not a model at all", None], ids=["empty", "zeros", "text", "cut"]
)
def test_files_that_are_none(mini, tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(mini.read_bytes()[:-100] if content is None else content)
    with pytest.raises(ModelError, match="not a model"):
        ModelFile.open(path)
    with pytest.raises(ModelError, match=r"a folder without model\.json"):
        ModelFile.open(tmp_path)


def test_another_preset(described, tmp_path):
    tensors, description = described
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, {**description, "preset": "huge"})
    model = ModelFile.open(path)
    for load in (load_symbol_model, lambda model: load_frame_model(model, torch.device("cpu"))):
        with pytest.raises(ModelError, match="preset huge"):
            load(model)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("codec.mean0.bias", None),
        ("codec.mean0.bias", lambda t: t[1:]),
        ("generator.extra", lambda t: np.zeros(3, np.float16)),
        ("config", {"latent": 17}),
        ("config", {"latent": "sixteen"}),
        ("config", {"depth": 3}),
        ("config", {"width8": -1}),
    ],
)
def test_networks_of_another_geometry(described, tmp_path, name, change):
    tensors, description = described
    if name == "config":
        description["config"] = json.dumps({**json.loads(description["config"]), **change})
    elif change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors.get(name))
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, description)
    model = ModelFile.open(path)
    load_symbol_model(model)
    with pytest.raises(ModelError, match="geometry") as refused:
        load_frame_model(model, torch.device("cpu"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("entropy.hyper.index", None),
        ("entropy.trunk0.weight", None),
        ("entropy.head1.shift", None),
        ("entropy.head0.weight", lambda t: t[:, 1:]),
        ("entropy.first.bias", lambda t: t[1:]),
        ("entropy.first.shift", lambda t: t * 0 + 40),
        ("entropy.first.shift", lambda t: np.zeros(2, np.int32)),
        ("tables.frequencies", None),
        ("tables.frequencies", lambda t: t * 0 + 1),
        ("tables.sizes", lambda t: t[1:]),
    ],
)
def test_damaged_entropy_models(described, tmp_path, name, change):
    tensors, description = described
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors[name])
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, description)
    with pytest.raises(ModelError):
        load_symbol_model(ModelFile.open(path))


def test_the_embedded_models_load():
    models = files.embedded_models()
    if not models:
        pytest.skip("the package holds no weights yet")
    for model in models:
        assert model.path.name == f"{model.id}{files.SUFFIX}"
        assert model.path.stat().st_size <= 20_000_000
        load_symbol_model(model)
