"""PSNR of luma, MS-SSIM and flicker against second implementations."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
scipy_ndimage = pytest.importorskip("scipy.ndimage", reason="the reference of MS-SSIM needs scipy")

from s2vc.bench.metrics import Meter  # noqa: E402


def measured(names: list[str], source: list[np.ndarray], decoded: list[np.ndarray]) -> dict:  # type: ignore[type-arg]
    (result,) = Meter(names).measure(source, [decoded])
    assert isinstance(result, dict)
    return result


def noisy(pictures: list[np.ndarray], sigma: float = 12, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [np.clip(p + random.normal(0, sigma, p.shape), 0, 255).astype(np.uint8) for p in pictures]


@pytest.mark.parametrize(("size", "red", "blue"), [((40, 24), 0.299, 0.114), ((24, 1280), 0.2126, 0.0722)])
def test_luma(size: tuple[int, int], red: float, blue: float) -> None:
    random = np.random.default_rng(1)
    source, decoded = random.integers(0, 256, (2, 1, *size, 3), dtype=np.uint8)

    def luma(picture: np.ndarray) -> np.ndarray:  # BT.601 and BT.709, limited range, in 8 bits
        return np.rint(16 + 219 / 255 * (picture @ np.array([red, 1 - red - blue, blue])))

    expected = 10 * np.log10(255**2 / np.mean((luma(source[0]) - luma(decoded[0])) ** 2))
    result = measured(["psnr-y"], list(source), list(decoded))
    assert result["psnr-y"]["frames"] == pytest.approx([expected], abs=2e-3)


def reference_ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. (2003) with 11 × 11 Gaussian windows, of float (H, W, 3) in [0, 1], by scipy.

    Means over the places where the whole window lies in the picture; halved by the mean of 2 × 2, odd
    sides padded with zeros on both sides, as pytorch-msssim does.
    """
    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(p: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            p = scipy_ndimage.correlate1d(p, window, axis)
        return p[5:-5, 5:-5]

    product = np.ones(3)
    for level, weight in enumerate(weights):
        mean_x, mean_y = blur(x), blur(y)
        variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
        structure = (2 * (blur(x * y) - mean_x * mean_y) + 0.03**2) / (variance_x + variance_y + 0.03**2)
        luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        last = level == len(weights) - 1
        product *= (structure * luminance if last else structure).mean((0, 1)) ** weight
        halves = []
        for p in (x, y):
            odd = [(n % 2, n % 2) for n in p.shape[:2]]
            p = np.pad(p, [*odd, (0, 0)])
            p = p[: p.shape[0] // 2 * 2, : p.shape[1] // 2 * 2]
            halves.append(p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2, 3).mean((1, 3)))
        x, y = halves
    return float(product.mean())


def test_ms_ssim(scene) -> None:  # type: ignore[no-untyped-def]
    source = scene(2, 181, 164)
    for decoded in (noisy(source), [np.roll(p, 1, 0) // 2 * 2 for p in source]):
        expected = [reference_ms_ssim(a / 255, b / 255) for a, b in zip(source, decoded, strict=True)]
        result = measured(["ms-ssim"], source, decoded)["ms-ssim"]
        assert result["frames"] == pytest.approx(expected, abs=1e-4)
        assert 0.5 < result["mean"] < 0.999


def test_flicker(scene) -> None:  # type: ignore[no-untyped-def]
    source = scene(4, 32, 24)
    decoded = noisy(source, 5)
    expected = []
    for t in range(3):
        now = decoded[t + 1].astype(float) - source[t + 1]
        before = decoded[t].astype(float) - source[t]
        expected.append(np.abs(now - before).mean())
    assert measured(["flicker"], source, decoded)["flicker"]["frames"] == pytest.approx(expected, abs=1e-4)
    constant = [np.clip(p, 10, 245) for p in source]
    steady = [p + np.uint8(7) for p in constant]
    assert measured(["flicker"], constant, steady)["flicker"]["mean"] == 0
