"""EfficientNet-Lite0, the DINOv2 trunk and SPyNet against second implementations with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from s2vc.errors import ModelError  # noqa: E402
from s2vc.perceptual import DinoV2Small, EfficientNetLite0, SPyNet, warp  # noqa: E402


def pictures(seed: int, *size: int) -> torch.Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


def test_efficientnet_equals_the_package() -> None:
    package = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="pip install --no-deps efficientnet_lite_pytorch==0.1.0"
    )
    torch.manual_seed(1)
    reference = package.EfficientNet.from_name("efficientnet-lite0").eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    network = EfficientNetLite0(pretrained=False)
    network.load_named(reference.state_dict())
    x = pictures(2, 1, 3, 224, 224)
    with torch.inference_mode():
        expected = reference((x * 255 - 127) / 128)
        torch.testing.assert_close(network.classify(x), expected, rtol=1e-5, atol=1e-6)
        before = network(x)
        network.fuse()
        torch.testing.assert_close(network.classify(x), expected, rtol=1e-5, atol=1e-5)
        for a, b in zip(network(x), before, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert not any(p.requires_grad for p in network.parameters())


def test_efficientnets_maps() -> None:
    network = EfficientNetLite0(pretrained=False, blocks=(0, 4, 10, 15))
    maps = network(pictures(3, 1, 3, 75, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 38, 32), (40, 10, 8), (112, 5, 4), (320, 3, 2)]
    assert [network.channels[b] for b in network.blocks] == [m.shape[1] for m in maps]
    for wrong in ((), (4, 2), (16,), (-1,)):
        with pytest.raises(ValueError, match="has no blocks"):
            EfficientNetLite0(pretrained=False, blocks=wrong)


def test_dinov2_equals_torchs_transformer() -> None:
    """Layer scale folded into the projections makes each block a layer of torch's own encoder."""
    torch.manual_seed(4)
    network = DinoV2Small(pretrained=False, blocks=(0, 1))
    for block in network.blocks:
        for scale in (block.ls1, block.ls2):
            nn.init.uniform_(scale.gamma, 0.2, 1.0)
    x = pictures(5, 2, 3, 28, 42)
    layers = []
    for block in network.blocks:
        layer = nn.TransformerEncoderLayer(
            384, 6, 1536, dropout=0, activation="gelu", norm_first=True, batch_first=True, layer_norm_eps=1e-6
        ).eval()
        first, second = block.ls1.gamma, block.ls2.gamma
        mlp = block.mlp
        layer.load_state_dict(
            {
                "self_attn.in_proj_weight": block.attn.qkv.weight,
                "self_attn.in_proj_bias": block.attn.qkv.bias,
                "self_attn.out_proj.weight": first[:, None] * block.attn.proj.weight,
                "self_attn.out_proj.bias": first * block.attn.proj.bias,
                "linear1.weight": mlp["fc1"].weight,
                "linear1.bias": mlp["fc1"].bias,
                "linear2.weight": second[:, None] * mlp["fc2"].weight,
                "linear2.bias": second * mlp["fc2"].bias,
                **{f"norm1.{key}": value for key, value in block.norm1.state_dict().items()},
                **{f"norm2.{key}": value for key, value in block.norm2.state_dict().items()},
            }
        )
        layers.append(layer)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    patches = ((x - mean) / std).unfold(2, 14, 14).unfold(3, 14, 14)  # (N, 3, rows, columns, 14, 14)
    kernel = network.patch_embed["proj"].weight.flatten(1)
    tokens = patches.permute(0, 2, 3, 1, 4, 5).reshape(2, 6, -1) @ kernel.T
    grid = network.pos_embed[:, 1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    positions = nn.functional.interpolate(grid, (2, 3), mode="bicubic", align_corners=False)
    tokens = tokens + network.patch_embed["proj"].bias + positions.flatten(2).transpose(1, 2)
    tokens = torch.cat([(network.cls_token + network.pos_embed[:, :1]).expand(2, 1, 384), tokens], 1)
    with torch.no_grad():
        for layer, found in zip(layers, network(x), strict=True):
            tokens = layer(tokens)
            expected = tokens[:, 1:].transpose(1, 2).reshape(2, 384, 2, 3)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            normal = network.normalised(found)
            assert normal.mean(1).abs().max() < 1e-5 and (normal.var(1) - 1).abs().max() < 0.01


def test_dinov2_says_what_it_takes() -> None:
    with pytest.raises(ValueError, match="multiples of 14"):
        DinoV2Small(pretrained=False, blocks=(0,))(pictures(6, 1, 3, 28, 30))
    with pytest.raises(ValueError, match="no blocks"):
        DinoV2Small(pretrained=False, blocks=(8,))


def test_warp_reads_where_the_flow_points() -> None:
    picture = pictures(7, 1, 2, 9, 11)
    flow = torch.zeros(1, 2, 9, 11)
    flow[:, 0], flow[:, 1] = 2, -3
    moved = warp(picture, flow)
    torch.testing.assert_close(moved[..., 3:, :9], picture[..., :6, 2:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(moved[..., :, 10], moved[..., :, 8], rtol=1e-5, atol=1e-5)  # its edge
    between = warp(picture, torch.full_like(flow, 0.5))[0, :, 4, 5]
    expected = picture[0, :, 4:6, 5:7].mean((1, 2))
    torch.testing.assert_close(between, expected, rtol=1e-5, atol=1e-5)


def test_spynets_flow_has_gradients_and_any_size() -> None:
    torch.manual_seed(8)
    network = SPyNet(pretrained=False)
    a, b = pictures(9, 2, 3, 33, 50), pictures(10, 2, 3, 33, 50).requires_grad_()
    flow = network(a, b)
    assert flow.shape == (2, 2, 33, 50)
    flow.square().sum().backward()
    assert b.grad is not None and torch.isfinite(b.grad).all() and b.grad.abs().sum() > 0


def test_spynet_finds_motion(weights_dir: Path) -> None:
    network = SPyNet(weights_dir)
    wide = nn.functional.interpolate(pictures(11, 1, 3, 20, 30), scale_factor=8, mode="bicubic").clamp(0, 1)
    first, second = wide[..., 16:144, 20:212], wide[..., 16:144, 17:209]
    flow = network(first, second)[..., 16:-16, 16:-16]
    # what lies at x in the first lies at x + 3 in the second
    assert flow[:, 0].median().item() == pytest.approx(3, abs=0.1)
    assert flow[:, 1].median().item() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    ("network", "file"),
    [
        (EfficientNetLite0, "efficientnet_lite0"),
        (DinoV2Small, "dinov2s14_saliency_blocks0-7"),
        (SPyNet, "spynet_basicvsr_reds"),
    ],
)
def test_foreign_weights_are_one_line(network, file: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from safetensors.torch import save_file

    save_file({"other": torch.zeros(1)}, tmp_path / f"{file}.safetensors")
    with pytest.raises(ModelError, match=f"{file}.safetensors does not fit"):
        network(tmp_path)
