"""Fréchet and kernel distance of sets of patches."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
linalg = pytest.importorskip("scipy.linalg", reason="the reference of the Fréchet distance needs scipy")

from s2vc.bench.metrics import Meter, meter, sets  # noqa: E402


def draw(seed: int, count: int = 60, size: int = 7, shift: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(count, size)) @ random.normal(size=(size, size))
    return (mixed + 100 + shift).astype(np.float32)


def moments(features: np.ndarray, parts: int = 3) -> sets.Moments:
    found = sets.Moments()
    for part in np.array_split(features, parts):
        found.add(part)
    return found


def test_frechet_distance_by_the_matrix_root() -> None:
    x, y = draw(1).astype(float), draw(2, shift=0.5).astype(float)
    root = linalg.sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)
    found = sets.frechet_distance(moments(draw(1)), moments(draw(2, shift=0.5), 5))
    assert found == pytest.approx(expected, rel=1e-6)
    assert sets.frechet_distance(moments(draw(1)), moments(draw(1), 1)) < 1e-6


def test_frechet_distance_of_scaled_and_moved_sets() -> None:
    x = draw(3)
    center = x.mean(0)
    scaled = center + 3 * (x - center) + 2
    # Σ₂ = 9 Σ₁, so tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½) = (3 − 1)² tr Σ₁
    expected = 7 * 4 + 4 * np.trace(np.cov(x.T.astype(float)))
    assert sets.frechet_distance(moments(x), moments(scaled)) == pytest.approx(expected, rel=1e-4)


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    return (float(a @ b) / len(a) + 1) ** 3


def test_kernel_distance_by_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw(4, 25) / 50, draw(5, 25, shift=9) / 50
    total = 0.0
    for i in range(25):
        for j in range(25):
            if i != j:
                total += kernel(x[i], x[j]) + kernel(y[i], y[j]) - kernel(x[i], y[j]) - kernel(x[j], y[i])
    assert sets.kernel_distance(x, y) == pytest.approx(total / (25 * 24), rel=1e-4)
    assert sets.kernel_distance(x, x) == 0


def test_kernel_distance_is_unbiased() -> None:
    # two sets of one distribution: the mean over many small draws is zero, where the biased estimate is not
    random = np.random.default_rng(6)
    values = []
    for _ in range(400):
        x, y = random.normal(size=(2, 6, 4)).astype(np.float32)
        values.append(sets.kernel_distance(x, y))
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error


def test_kernel_distance_in_blocks() -> None:
    random = np.random.default_rng(7)
    x, y = random.normal(size=(2, 1100, 3)).astype(np.float32)  # three blocks, the last not full
    k = [(a.astype(float) @ b.T.astype(float) / 3 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    off = [m.sum() - np.trace(m) for m in k]
    expected = (off[0] + off[1] - 2 * off[2]) / (1100 * 1099)
    assert sets.kernel_distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_patches_lie_half_a_side_apart_and_centred() -> None:
    pictures = torch.arange(2 * 3 * 14 * 21, dtype=torch.float32).view(2, 3, 14, 21)
    patches = sets.cut_patches(pictures, 8)
    # rows 1 and 5 (14 − 8 = 6: two places, two pixels over), columns 0, 4, 8, 12 (13 = 3 · 4 + 1)
    corners = [(1, c) for c in (0, 4, 8, 12)] + [(5, c) for c in (0, 4, 8, 12)]
    assert patches.shape == (16, 3, 8, 8)
    for k, (top, left) in enumerate(corners):
        for n in (0, 1):
            expected = pictures[n, :, top : top + 8, left : left + 8]
            assert torch.equal(patches[8 * n + k], expected)


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a network, three figures of each patch of 8 × 8."""

    def load(self: Meter, key: str) -> sets.PatchFeatures:
        return sets.PatchFeatures(8, lambda patches: patches.mean((2, 3)))

    monkeypatch.setattr(Meter, "_load", load)
    monkeypatch.setattr(meter, "weights_used", lambda file, folder: {file: "0"})


NAMES = ["frechet-efficientnet-lite0", "kernel-efficientnet-lite0"]


@pytest.mark.usefixtures("small_network")
def test_sets_are_of_the_patches_of_all_frames_that_networks_see(scene) -> None:  # type: ignore[no-untyped-def]
    source = scene(5, 80, 64)
    decoded = [np.roll(p, 3, 0) // 2 for p in source]
    (result,) = Meter(NAMES, step=2).measure(source, [decoded])
    assert isinstance(result, dict)

    def features(pictures: list[np.ndarray]) -> np.ndarray:
        tensor = torch.from_numpy(np.stack(pictures[::2])).permute(0, 3, 1, 2).float() / 255
        return sets.cut_patches(tensor, 8).mean((2, 3)).numpy()

    x, y = features(source), features(decoded)
    frechet, kernel = (result[name] for name in NAMES)
    assert frechet["samples"] == kernel["samples"] == len(x) == 3 * 19 * 15
    assert frechet["dimensions"] == 3
    assert frechet["mean"] == pytest.approx(sets.frechet_distance(moments(x), moments(y)), rel=1e-4)
    assert kernel["mean"] == pytest.approx(sets.kernel_distance(x, y), rel=1e-4)


@pytest.mark.usefixtures("small_network")
def test_of_many_patches_the_kernel_distance_sees_a_drawn_part(monkeypatch, scene) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(sets, "KEPT", 200)
    source = scene(3, 80, 64)
    decoded = [p // 2 for p in source]
    measure = Meter(NAMES)
    first, second = measure.measure(source, [decoded, source])
    assert isinstance(first, dict) and isinstance(second, dict)
    assert first["kernel-efficientnet-lite0"]["samples"] == 200
    assert first["frechet-efficientnet-lite0"]["samples"] == 3 * 19 * 15
    assert second["kernel-efficientnet-lite0"]["mean"] == 0  # drawn from the same places
    assert measure.measure(source, [decoded])[0] == first  # and from the same ones in every run


@pytest.mark.usefixtures("small_network")
def test_too_few_patches_for_a_covariance() -> None:
    picture = np.random.default_rng(8).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    measure = Meter(NAMES)
    network = measure._networks["efficientnet-lite0"]
    measure._networks["efficientnet-lite0"] = sets.PatchFeatures(64, network.embed)  # type: ignore[union-attr]
    (result,) = measure.measure([picture] * 3, [[picture] * 3])
    assert isinstance(result, dict) and set(result) == {"kernel-efficientnet-lite0"}
    assert "too few patches" in measure.missing["frechet-efficientnet-lite0"]
