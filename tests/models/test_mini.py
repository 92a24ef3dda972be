"""The tests' own model is what it was: files of golden bytes depend on it."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from s2vc.models.files import ModelFile

SHA256 = "af9825b0e6b5b1f71010a2234af3822369b06e68080b8eb72d6068cf93ec8271"
DIGEST = "954af2ac9721b22f"


def test_its_bytes_never_change(mini):
    assert hashlib.sha256(mini.read_bytes()).hexdigest() == SHA256
    model = ModelFile.open(mini)
    assert (model.preset, model.id, model.digest.hex()) == ("tiny", "mini-1", DIGEST)
    assert mini.stat().st_size < 400_000


def test_no_layer_is_zero(mini):
    for name, tensor in ModelFile.open(mini).tensors("codec.", "generator.").items():
        assert tensor.dtype == np.float16 and np.isfinite(tensor).all()
        if name.endswith("weight"):
            assert np.abs(tensor).max() > 0, name


def test_its_script_still_makes_a_model_of_the_same_geometry(mini):
    """Weights drawn by another torch may differ; names, shapes and types may not."""
    path = Path(__file__).parent.parent / "golden" / "make_mini.py"
    spec = importlib.util.spec_from_file_location("make_mini", path)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    import torch

    from s2vc.training.export import model_tensors

    with torch.random.fork_rng():
        made = model_tensors(script.make())
    made.pop("entropy.codes.groups")  # mini is from before there were codes
    kept = ModelFile.open(mini).tensors()
    assert {name: (t.shape, t.dtype) for name, t in made.items()} == {
        name: (t.shape, t.dtype) for name, t in kept.items()
    }


@pytest.fixture(scope="module")
def indices(mini, scene):
    """Table indices and symbols of y over some frames at three qualities."""
    import io

    import s2vc

    model = s2vc.load(str(mini), device="cpu")
    seen = []
    original = model.networks.symbols.parts

    def parts(kind, memory):
        generator = original(kind, memory)
        part = next(generator)
        while True:
            symbols = yield part
            if part.name.startswith("y"):
                seen.append((part.index, symbols))
            try:
                part = generator.send(symbols)
            except StopIteration:
                return

    model.networks.symbols.parts = parts
    for quality in (0, 32, 63):
        with s2vc.Encoder(io.BytesIO(), 50, 38, model=model, quality=quality) as encoder:
            for picture in scene(34):
                encoder.write(picture)
    return seen


def test_its_tables_span_skip_to_wide(indices):
    index = np.concatenate([index.reshape(-1) for index, _ in indices])
    used = set(np.unique(index).tolist())
    assert {0, 1} < used and max(used) >= 60 and len(used) > 50
    symbols = np.concatenate([symbols.reshape(-1) for _, symbols in indices])
    assert np.abs(symbols).max() > 8 and np.count_nonzero(symbols) > 1000


def test_escapes_occur(indices, mini):
    from s2vc.models.loading import load_symbol_model

    symbol_model, _ = load_symbol_model(ModelFile.open(mini))
    escaped = 0
    for index, symbols in indices:
        low, size = symbol_model.tables.bounds(index)
        escaped += int(((index > 0) & ((symbols < low) | (symbols >= low + size))).sum())
    assert escaped > 10
