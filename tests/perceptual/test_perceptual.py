"""LPIPS, FloLPIPS and DISTS: arithmetic against second implementations and the packages, gradients."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from s2vc.perceptual import (  # noqa: E402
    DISTS,
    LPIPS,
    AlexNetFeatures,
    VGG16Features,
    flow_weighted,
)

FOLDER = os.environ.get("S2VC_WEIGHTS_DIR", "")
needs_weights = pytest.mark.skipif(
    not (FOLDER and Path(FOLDER, "vgg16_features.safetensors").is_file()),
    reason="published weights needed: set S2VC_WEIGHTS_DIR",
)

# torchvision's published layer lists: a number is a 3x3 convolution with ReLU, "M" max pooling
VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]


def vgg16_sequential() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for item in VGG16:
        if isinstance(item, int):
            layers += [nn.Conv2d(channels, item, 3, padding=1), nn.ReLU(inplace=False)]
            channels = item
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def alexnet_sequential() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(), nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip


class TorchvisionFire(nn.Module):
    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def squeezenet_sequential() -> nn.Sequential:
    fire = TorchvisionFire
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        fire(64, 16, 64), fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True),
        fire(128, 32, 128), fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True),
        fire(256, 48, 192), fire(384, 48, 192), fire(384, 64, 256), fire(512, 64, 256),
    )  # fmt: skip


SEQUENTIAL = {"alex": alexnet_sequential, "vgg": vgg16_sequential, "squeeze": squeezenet_sequential}
TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29), "squeeze": (1, 4, 7, 9, 10, 11, 12)}


def with_weights_of(backbone: nn.Module, name: str) -> nn.Sequential:
    with torch.device("meta"):  # drawing VGG-16's weights a second time takes longer than the test
        sequential = SEQUENTIAL[name]()
    stored = {k.removeprefix("features."): v for k, v in backbone.state_dict().items()}
    sequential.load_state_dict(stored, assign=True)
    return sequential


def pictures(seed: int, size: tuple[int, int] = (37, 50), count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["alex", "vgg", "squeeze"])
def test_lpips_equals_a_second_implementation(name: str) -> None:
    torch.manual_seed(1)
    metric = LPIPS(name, pretrained=False)  # type: ignore[arg-type]
    plain = with_weights_of(metric.backbone, name)
    x, y = pictures(2), pictures(3)
    expected = torch.zeros(2)
    a, b = (((2 * p - 1) - torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)) for p in (x, y))
    a, b = (p / torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1) for p in (a, b))
    tap = 0
    for index, layer in enumerate(plain[: TAPS[name][-1] + 1]):
        a, b = layer(a), layer(b)
        if index in TAPS[name]:
            u, v = (p / (p.norm(dim=1, keepdim=True) + 1e-10) for p in (a, b))
            weight = getattr(metric, f"head{tap}")
            expected += nn.functional.conv2d((u - v) ** 2, weight).mean((1, 2, 3))
            tap += 1
    assert tap == len(TAPS[name])
    torch.testing.assert_close(metric(x, y), expected.detach(), rtol=1e-5, atol=1e-6)


def test_dists_equals_a_second_implementation() -> None:
    torch.manual_seed(2)
    metric = DISTS(pretrained=False)
    plain = with_weights_of(metric.backbone, "vgg").double()
    x, y = pictures(4).double(), pictures(5).double()

    def run(p: torch.Tensor) -> list[torch.Tensor]:
        outputs = [p]
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
        p = (p - mean) / std
        for index, layer in enumerate(plain):
            if isinstance(layer, nn.MaxPool2d):
                window = torch.outer(*[torch.tensor([1.0, 2.0, 1.0], dtype=p.dtype)] * 2) / 16
                patches = nn.functional.unfold(p**2, 3, padding=1, stride=2).unflatten(1, (p.shape[1], 9))
                size = [(n + 1) // 2 for n in p.shape[2:]]
                p = ((patches * window.view(1, 1, 9, 1)).sum(2).unflatten(2, size) + 1e-12).sqrt()
            else:
                p = layer(p)
            if index in TAPS["vgg"]:
                outputs.append(p)
        return outputs

    alpha, beta = (w.double().view(-1) / (metric.alpha.sum() + metric.beta.sum()).double() for w in
                   (metric.alpha, metric.beta))  # fmt: skip
    score = torch.ones(2, dtype=torch.float64)
    start = 0
    for a, b in zip(run(x), run(y), strict=True):
        a, b = a.flatten(2), b.flatten(2)
        part = slice(start, start + a.shape[1])
        start = part.stop
        luminance = (2 * a.mean(2) * b.mean(2) + 1e-6) / (a.mean(2) ** 2 + b.mean(2) ** 2 + 1e-6)
        covariance = (a * b).mean(2) - a.mean(2) * b.mean(2)
        structure = (2 * covariance + 1e-6) / (a.var(2, correction=0) + b.var(2, correction=0) + 1e-6)
        score -= (alpha[part] * luminance + beta[part] * structure).sum(1)
    assert start == 1475
    torch.testing.assert_close(metric(x.float(), y.float()).double(), score.detach(), rtol=1e-5, atol=1e-5)


@pytest.fixture
def torchvision_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision does not install everywhere; the reference packages want three of its names."""
    vision = types.ModuleType("torchvision")
    vision.models = types.ModuleType("torchvision.models")  # type: ignore[attr-defined]
    vision.transforms = types.ModuleType("torchvision.transforms")  # type: ignore[attr-defined]
    for name, make in (
        ("vgg16", vgg16_sequential),
        ("alexnet", alexnet_sequential),
        ("squeezenet1_1", squeezenet_sequential),
    ):
        setattr(
            vision.models, name, lambda pretrained=False, make=make: types.SimpleNamespace(features=make())
        )
    for key in ("torchvision", "torchvision.models", "torchvision.transforms"):
        monkeypatch.setitem(sys.modules, key, eval(key.replace("torchvision", "vision", 1)))
    for key in ("lpips", "DISTS_pytorch"):
        for loaded in [m for m in sys.modules if m == key or m.startswith(key + ".")]:
            monkeypatch.delitem(sys.modules, loaded)


@pytest.mark.parametrize("name", ["alex", "vgg", "squeeze"])
@pytest.mark.usefixtures("torchvision_stand_in")
def test_lpips_equals_the_package(name: str) -> None:
    package = pytest.importorskip("lpips", reason="reference package: pip install --no-deps lpips==0.1.4")
    torch.manual_seed(3)
    metric = LPIPS(name, pretrained=False)  # type: ignore[arg-type]
    reference = package.LPIPS(net=name, pretrained=False, pnet_rand=True, verbose=False)
    own = {k.removeprefix("features."): v for k, v in metric.backbone.state_dict().items()}
    keys = list(reference.net.state_dict())
    reference.net.load_state_dict({k: own[k.split(".", 1)[1]] for k in keys})
    for number in range(reference.L):
        reference.lins[number].model[-1].weight.data = getattr(metric, f"head{number}").clone()
    x, y = pictures(6), pictures(7)
    torch.testing.assert_close(
        metric(x, y), reference(x, y, normalize=True).view(-1).detach(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.usefixtures("torchvision_stand_in")
def test_dists_equals_the_package() -> None:
    package = pytest.importorskip(
        "DISTS_pytorch", reason="reference package: pip install --no-deps DISTS-pytorch"
    )
    torch.manual_seed(4)
    metric = DISTS(pretrained=False)
    reference = package.DISTS(load_weights=False)
    own = {k.removeprefix("features."): v for k, v in metric.backbone.state_dict().items()}
    state = {k: own[k.split(".", 1)[1]] for k in reference.state_dict() if k.split(".", 1)[-1] in own}
    state |= {"alpha": metric.alpha, "beta": metric.beta}
    assert len(state) == 28
    reference.load_state_dict(state, strict=False)
    x, y = pictures(8), pictures(9)
    torch.testing.assert_close(metric(x, y), reference(x, y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", [lambda: LPIPS("alex", pretrained=False), lambda: DISTS(pretrained=False)])
def test_gradient_reaches_the_picture_and_nothing_else(metric) -> None:  # type: ignore[no-untyped-def]
    network = metric()
    x = pictures(10).to(memory_format=torch.channels_last)
    y = torch.zeros_like(x).requires_grad_()  # black: feature vectors of zeros among the others
    with torch.autocast("cpu", torch.bfloat16):
        distance = network(x, y)
    assert distance.dtype == torch.float32 and distance.shape == (2,)
    distance.sum().backward()
    assert y.grad is not None and torch.isfinite(y.grad).all() and y.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in network.parameters())


def test_equal_pictures_have_no_distance() -> None:
    x = pictures(11)
    assert LPIPS("vgg", pretrained=False)(x, x).abs().max() == 0
    assert DISTS(pretrained=False)(x, x).abs().max() < 1e-5


def test_stopping_at_a_tap_gives_the_same_activations() -> None:
    torch.manual_seed(5)
    whole = VGG16Features(pretrained=False)
    part = VGG16Features(pretrained=False, until="relu3_3")
    part.load_state_dict({k: v for k, v in whole.state_dict().items() if k in part.state_dict()})
    outputs = part(pictures(12))
    assert [o.shape[1] for o in outputs] == [64, 128, 256]
    for a, b in zip(outputs, whole(pictures(12)), strict=False):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="relu9"):
        AlexNetFeatures(pretrained=False, until="relu9")


@pytest.mark.parametrize("name", ["alex", "squeeze"])
def test_flolpips_equals_the_papers_formula(name: str) -> None:
    torch.manual_seed(6)
    metric = LPIPS(name, pretrained=False)  # type: ignore[arg-type]
    x, y = metric.features(pictures(15)), metric.features(pictures(16))
    difference = torch.randn(2, 2, 37, 50, generator=torch.Generator().manual_seed(17))
    expected = torch.zeros(2)
    for n in range(2):
        for number, (a, b) in enumerate(zip(x, y, strict=True)):
            u, v = (z[n] / z[n].norm(dim=0) for z in (a, b))
            d = ((u - v) ** 2 * getattr(metric, f"head{number}")[0]).sum(0)
            flow = nn.functional.interpolate(
                difference[n : n + 1], d.shape, mode="bilinear", align_corners=False
            )
            weight = (flow[0, 0] ** 2 + flow[0, 1] ** 2).sqrt()
            expected[n] += (d * weight / weight.sum()).sum()
    maps = metric.maps(x, y)
    torch.testing.assert_close(flow_weighted(maps, difference), expected, rtol=1e-5, atol=1e-6)
    # equal motion, be it none or the same everywhere: LPIPS itself
    for same in (torch.zeros_like(difference), torch.full_like(difference, 3.0)):
        torch.testing.assert_close(flow_weighted(maps, same), metric.distance(x, y), rtol=1e-4, atol=1e-6)


@needs_weights
def test_first_filters_are_the_published_ones() -> None:
    # prints of torchvision's models, shared/weights/README.md
    vgg = VGG16Features(until="relu1_2").features["0"].weight[0, 0]
    published = [[-0.5537, 0.1427, 0.5290], [-0.5831, 0.3566, 0.7657], [-0.6902, -0.0480, 0.4841]]
    torch.testing.assert_close(vgg, torch.tensor(published), rtol=0, atol=3e-4)
    alex = AlexNetFeatures(until="relu1").features["0"].weight[0, 0, 0]
    torch.testing.assert_close(alex[:3], torch.tensor([0.11864, 0.094069, 0.095435]), rtol=0, atol=1e-4)


@needs_weights
def test_published_weights_rank_damage() -> None:
    x = nn.functional.interpolate(pictures(13, (16, 24), 1), scale_factor=4, mode="bicubic").clamp(0, 1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(14))
    for metric in (LPIPS("alex"), LPIPS("vgg"), DISTS()):
        distances = [float(metric(x, (x + s * noise).clamp(0, 1))) for s in (0.02, 0.1)]
        assert distances == sorted(distances) and distances[0] > 0
