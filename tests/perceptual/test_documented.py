"""Figures that the weights' README has, on the photos that they were taken on."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from s2vc.perceptual import DISTS, LPIPS, DinoV2Small, EfficientNetLite0, SPyNet, warp  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.conformance]
Photo = Callable[[str], np.ndarray]


def tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(("name", "first", "second"), [("alex", 0.7219, 0.1376), ("vgg", 0.5686, 0.4217)])
def test_lpips_of_the_projects_example(name: str, first: float, second: float, weights_dir: Path) -> None:
    folder = weights_dir / "lpips_examples"
    if not folder.is_dir():
        pytest.skip(
            "ex_ref.png, ex_p0.png and ex_p1.png of the LPIPS project are in no package of PyPI: "
            f"put them into {folder}"
        )
    import av

    def load(file: str) -> torch.Tensor:
        with av.open(str(folder / file)) as container:
            return tensor(next(container.decode(video=0)).to_ndarray(format="rgb24"))

    metric = LPIPS(name, weights_dir)  # type: ignore[arg-type]
    reference = load("ex_ref.png")
    assert metric(reference, load("ex_p0.png")).item() == pytest.approx(first, abs=1e-3)
    assert metric(reference, load("ex_p1.png")).item() == pytest.approx(second, abs=1e-3)


def test_dists_of_textures(photo: Photo, weights_dir: Path) -> None:
    grass, gravel = photo("grass.png"), photo("gravel.png")
    metric = DISTS(weights_dir)
    with torch.inference_mode():
        corner = tensor(grass[:256, :256])
        other, stones = tensor(grass[256:, 256:]), tensor(gravel[:256, :256])
        assert metric(corner, other).item() == pytest.approx(0.182, abs=1e-3)
        assert metric(corner, stones).item() == pytest.approx(0.326, abs=1e-3)


@pytest.mark.parametrize(
    ("file", "label", "probability"),
    [
        ("chelsea.png", 285, 0.385),  # Egyptian cat
        ("coffee.png", 967, 0.940),  # espresso
        ("motorcycle_left.png", 665, 0.722),  # moped
        ("rocket.jpg", 657, 0.223),  # missile
        ("china.jpg", 698, 0.301),  # palace
        ("flower.jpg", 985, 0.228),  # daisy
    ],
)
def test_efficientnet_names_what_is_seen(
    file: str, label: int, probability: float, photo_file: Callable[[str], bytes], weights_dir: Path
) -> None:
    image = pytest.importorskip("PIL.Image", reason="the figures were taken with Pillow's bicubic resizing")
    picture = image.open(io.BytesIO(photo_file(file))).convert("RGB")
    side = min(picture.size)
    left, top = ((n - side) // 2 for n in picture.size)
    square = picture.crop((left, top, left + side, top + side)).resize((224, 224), image.Resampling.BICUBIC)
    with torch.inference_mode():
        found = EfficientNetLite0(weights_dir).classify(tensor(np.asarray(square))).softmax(1)[0]
    assert int(found.argmax()) == label
    # weights stored in 16 bits move a probability by up to .004
    assert found[label].item() == pytest.approx(probability, abs=0.005)


def disparity(photo_file: Callable[[str], bytes]) -> np.ndarray:
    values = np.load(io.BytesIO(photo_file("motorcycle_disp.npz")))["arr_0"]
    return np.where(np.isfinite(values), values, np.nan)


def test_spynet_on_a_stereo_pair(photo: Photo, photo_file: Callable[[str], bytes], weights_dir: Path) -> None:
    left, right = (tensor(photo(f"motorcycle_{side}.png")) for side in ("left", "right"))
    blocks = (
        disparity(photo_file)[:, :740].reshape(125, 4, 185, 4).transpose(0, 2, 1, 3).reshape(125, 185, 16)
    )
    known = np.isfinite(blocks).any(-1)
    truth = np.nanmean(np.where(known[..., None], blocks, 0), -1) / 4
    with torch.inference_mode():
        a, b = (functional.interpolate(p, scale_factor=0.25, mode="area") for p in (left, right))
        flow = SPyNet(weights_dir)(a, b)
        moved = warp(b, flow)
    error = np.hypot(flow[0, 0].numpy() + truth, flow[0, 1].numpy())
    error = error[known]
    assert np.mean(error) == pytest.approx(0.86, abs=0.05)
    assert np.median(error) == pytest.approx(0.28, abs=0.02)

    def psnr(p: torch.Tensor) -> float:
        return -10 * float(torch.log10((p - a).square().mean()))

    assert psnr(b) == pytest.approx(13.73, abs=0.02)
    assert psnr(moved) == pytest.approx(24.71, abs=0.1)


def test_dinov2_matches_a_stereo_pair(
    photo: Photo, photo_file: Callable[[str], bytes], weights_dir: Path
) -> None:
    # The README has 86 to 88 % (random weights 48 %) and does not say how the pair was scaled; at full size,
    # with every patch of known disparity, it is 78 %.
    left, right = (tensor(photo(f"motorcycle_{side}.png")[:490, :728]) for side in ("left", "right"))
    blocks = (
        disparity(photo_file)[:490, :728].reshape(35, 14, 52, 14).transpose(0, 2, 1, 3).reshape(35, 52, 196)
    )
    known = np.isfinite(blocks).mean(-1) > 0.5
    shift = np.nanmedian(np.where(known[..., None], blocks, 0), -1) / 14
    rows, columns = np.mgrid[:35, :52]
    known &= columns - shift >= 0
    network = DinoV2Small(weights_dir, blocks=(5,))
    with torch.inference_mode():
        a, b = (network.normalised(network(p)[0])[0].flatten(1) for p in (left, right))
    best = (functional.normalize(a, dim=0).T @ functional.normalize(b, dim=0)).argmax(1).view(35, 52).numpy()
    distance = np.hypot(best // 52 - rows, best % 52 - (columns - shift))
    assert (distance[known] <= 1.5).mean() > 0.75
