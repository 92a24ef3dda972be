"""Importing a miniature of the published release: what is stored, what is refused, what is resumed."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from s2vc.errors import InputError, ModelError, OutputError, S2vcError
from s2vc.models import published_import
from s2vc.models.published import layout
from s2vc.models.published_import import describe_sizes, feeds_entropy, import_release, verify_import
from s2vc.models.published_loading import ModelFolder, build
from s2vc.models.published_release import DESCRIPTION, Release
from s2vc.nn.base.model import NETWORKS

VAE = "SD_ckpts/stable-diffusion-2-1/vae/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def tensors(miniature):
    return layout(miniature.config)


@pytest.fixture
def imported(base_folder):
    return ModelFolder.open(base_folder)


def path_of(kind, point):
    """Of the miniature's archives."""
    return {
        "intra": f"I_ckpts/{'still-b' if point == 'high' else 'still-a'}/model_1.safetensors",
        "generator": f"P_ckpts/{point}/model.safetensors",
        "inter": f"P_ckpts/{point}/model_1.safetensors",
    }[kind]


@pytest.fixture
def release(miniature, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(miniature.folder, tmp_path / "release")


def change(path, edit):
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def test_what_points_share_is_stored_once(miniature, tensors, imported):
    assert imported.points == ("low", "middle", "high")
    assert sorted(imported.files.values()) == sorted(
        [("low", "middle", "high"), ("low", "middle"), ("low",), ("middle",), ("high",)]
    )
    size = 0
    for name in imported.files:
        held = (imported.path / name).read_bytes()
        size += len(held) - 8 - int.from_bytes(held[:8], "little")
    predicted = published_import.predict_sizes(tensors, miniature.points, "fp16")
    assert size == predicted.shared < predicted.unshared


def test_every_tensor_is_the_releases(miniature, tensors, imported):
    assert verify_import(miniature.folder, imported.path) == len(tensors) * len(miniature.points)
    read = imported.reader("middle")
    release = Release(miniature.folder)
    for tensor in tensors:
        source = release.read(release.path("middle", tensor), tensor)
        kept = torch.float32 if feeds_entropy(tensor.name) else torch.float16
        assert torch.equal(read(tensor.name), source.to(kept)), tensor.name


def test_what_feeds_the_entropy_coder_keeps_its_precision():
    for name in (
        "inter.context.0.0.expand.weight",
        "inter.synthesis.trunk.0.0.expand.weight",
        "intra.spatial_prior.0.0.depthwise.bias",
        "inter.hyper_prior.slopes.0",
    ):
        assert feeds_entropy(name)
    for name in (
        "inter.analysis.exit.2.weight",
        "intra.analysis.embedding.weight",
        "vae.x",
        "generator.x",
        "inter.pixel_head.0.conv1.weight",
        "intra.tokens.1.conv1.weight",
    ):
        assert not feeds_entropy(name)


def test_imported_networks_are_complete(imported):
    for name in NETWORKS:
        network = build(imported.config, imported.reader("high"), name)
        held = [*network.parameters(), *network.buffers()]
        assert held and not any(tensor.is_meta for tensor in held)


def test_the_digest_is_of_sources_and_dtype(miniature, imported, tmp_path):
    again = import_release(miniature.folder, tmp_path / "again", dtype="fp16")
    assert again.digest == imported.digest
    assert {f.name for f in again.path.iterdir()} == {f.name for f in imported.path.iterdir()}
    assert import_release(miniature.folder, tmp_path / "other", dtype="bf16").digest != imported.digest
    some = import_release(miniature.folder, tmp_path / "some", ["high"])
    assert some.points == ("high",) and some.digest != imported.digest


def test_an_interrupted_import_goes_on(release, tmp_path, monkeypatch):
    target = tmp_path / "base"
    whole = published_import._write
    written = []

    def write(path, *arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        whole(path, *arguments)

    monkeypatch.setattr(published_import, "_write", write)
    with pytest.raises(KeyboardInterrupt):
        import_release(release, target)
    assert not target.exists() and len(written) == 2

    hashed, again = [], []
    content = published_import._content
    monkeypatch.setattr(published_import, "_content", lambda t: hashed.append(t) or content(t))
    monkeypatch.setattr(
        published_import, "_write", lambda path, *rest: again.append(path.name) or whole(path, *rest)
    )
    model = import_release(release, target)
    assert not hashed, "digests of unchanged archives are kept"
    assert not set(again) & set(written) and len(again) == len(model.files) - 2
    assert verify_import(release, target)
    assert [f.name for f in target.parent.iterdir() if f.name.endswith(".part")] == []


def test_damage_after_the_import_is_found(release, tmp_path):
    model = import_release(release, tmp_path / "base", ["low"])
    change(release / path_of("inter", "low"), lambda t: t["pix_emb.bias"].add_(1))
    with pytest.raises(ModelError, match=r"inter\.embedding.bias of point low is not the release's"):
        verify_import(release, model.path)


def spoil_missing(release):
    (release / path_of("inter", "middle")).unlink()
    return "P_ckpts/middle/model_1.safetensors is missing: fetch it"


def spoil_cut(release):
    path = release / path_of("generator", "high")
    path.write_bytes(path.read_bytes()[:-1000])
    return "model.safetensors is cut or damaged"


def spoil_pointer(release):
    (release / VAE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    return "is a Git LFS pointer"


def spoil_renamed(release):
    change(release / path_of("intra", "low"), lambda t: t.update(foo=t.pop("enc.trans_coding.1.q.weight")))
    return "tensor enc.trans_coding.1.q.weight is missing"


def spoil_extra(release):
    change(release / path_of("inter", "low"), lambda t: t.update(foo=torch.zeros(1)))
    return "foo is no tensor of the published system"


def spoil_shape(release):
    change(
        release / path_of("inter", "low"),
        lambda t: t.update({"decoder.conv1.0.bias": torch.zeros(31)}),
    )
    return r"tensor decoder.conv1.0.bias is \(31,\), not \(32,\)"


def spoil_pair(release):
    path = release / path_of("inter", "high")
    change(path, lambda t: t.update({"recon_pix.net.2.conv2.weight": torch.zeros(64, 64, 3, 3)}))
    return "do not belong together"


def spoil_description(release):
    (release / DESCRIPTION).write_text("{}")
    return "describes no release"


def spoil_architecture(release):
    (release / DESCRIPTION).unlink()
    for kind in ("I_ckpts", "P_ckpts"):
        shutil.rmtree(release / kind)
    return "is missing: fetch it, or name the points you have"


SPOILERS = [value for name, value in globals().items() if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_what_is_wrong_is_named_before_anything_is_written(spoil, release, tmp_path):
    message = spoil(release)
    with pytest.raises(S2vcError, match=message) as caught:
        import_release(release, tmp_path / "base")
    assert "\n" not in str(caught.value)
    assert {f.name for f in tmp_path.iterdir()} == {"release"}


def test_a_release_of_other_widths_is_not_the_published_one(release, tmp_path):
    (release / DESCRIPTION).unlink()
    for point, name in (("low", "0.2"), ("high", "2.6")):
        (release / "P_ckpts" / point).rename(release / "P_ckpts" / f"lmbda{name}")
    (release / "I_ckpts/still-a").rename(release / "I_ckpts/onedc_lmbda1.8")
    with pytest.raises(ModelError, match="of other widths than the published one"):
        import_release(release, tmp_path / "base", ["0.2"])


def test_too_little_disk(miniature, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputError, match="GB free and the model needs"):
        import_release(miniature.folder, tmp_path / "base")
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_unknown_points_and_dtypes_are_refused(miniature, imported, tmp_path):
    with pytest.raises(OutputError, match="exists"):
        import_release(miniature.folder, imported.path)
    with pytest.raises(InputError, match=r"no point 0\.3: choose from low, middle, high"):
        import_release(miniature.folder, tmp_path / "base", ["0.3"])
    with pytest.raises(InputError, match="no dtype int8"):
        import_release(miniature.folder, tmp_path / "base", dtype="int8")


def test_weights_beyond_half_precision_are_named(release, tmp_path):
    change(release / VAE, lambda t: t["quant_conv.bias"].fill_(1e6))
    with pytest.raises(ModelError, match=r"quant_conv\.bias does not fit fp16"):
        import_release(release, tmp_path / "base")
    assert import_release(release, tmp_path / "wide", dtype="bf16").points == ("low", "middle", "high")


def test_older_names_of_the_autoencoders_attention(release, tmp_path):
    def rename(tensors):
        for key in [key for key in tensors if ".attentions.0." in key]:
            old = key
            for new, name in (
                ("to_q", "query"),
                ("to_k", "key"),
                ("to_v", "value"),
                ("to_out.0", "proj_attn"),
            ):
                old = old.replace(f".{new}.", f".{name}.")
            tensors[old] = tensors.pop(key)

    before = import_release(release, tmp_path / "before", ["low"])
    change(release / VAE, rename)
    after = import_release(release, tmp_path / "after", ["low"])
    assert after.digest == before.digest


def test_sizes_of_the_published_release(tmp_path):
    """The figures of issue 14: 13.9 GB in fp16 where the base U-Net is shared, about 26 where it is not."""
    lines = describe_sizes(tmp_path, None, "fp16")
    assert "8 points (5.2, 3.7, 2.6, 1.8, 1.2, 0.6, 0.4, 0.2)" in lines[0]
    sizes = [float(line.split()[0]) for line in lines[1:]]
    assert sizes[0] == pytest.approx(13.9, abs=0.05) and sizes[1] == pytest.approx(25.9, abs=0.1)
    assert sizes[0] < sizes[2] < 16 and sizes[1] < sizes[3] < 28
    wide = [float(line.split()[0]) for line in describe_sizes(tmp_path, None, "fp32")[1:]]
    assert wide[0] == wide[2] == pytest.approx(2 * sizes[0], abs=0.02)


def test_an_index_that_is_none(tmp_path):
    with pytest.raises(ModelError, match="is not a model folder"):
        ModelFolder.open(tmp_path)
    (tmp_path / "model.json").write_text('{"format": "s2vc-model-folder"}')
    with pytest.raises(ModelError, match="is damaged"):
        ModelFolder.open(tmp_path)


@pytest.mark.slow
def test_the_command_imports_and_says_what_it_does(miniature, tmp_path, s2vc_command):
    ran = s2vc_command(
        "import-published", miniature.folder, tmp_path / "base", "--dry-run", "--points", "low,high"
    )
    assert ran.code == 0, ran.err
    assert b"2 points (low, high), size on disk:" in ran.out and "licences" in ran.err
    assert not list(tmp_path.iterdir())
    ran = s2vc_command("import-published", miniature.folder, tmp_path / "base", "--points", "low", "--verify")
    assert ran.code == 0, ran.err
    assert "all equal" in ran.err and "points low" in ran.err
    ran = s2vc_command("import-published", miniature.folder, tmp_path / "base")
    assert ran.code == 1 and "exists: choose another folder" in ran.err
