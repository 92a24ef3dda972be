"""Measuring decoded pictures."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from s2vc.bench.metrics import PSNR_CAP, Meter, psnr
from s2vc.errors import S2vcError


def frames(seed: int, count: int = 3, size: tuple[int, int] = (24, 32)) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8))


def test_psnr_against_a_second_implementation() -> None:
    source, decoded = frames(1), frames(2)
    (result,) = Meter(["psnr"]).measure(source, [decoded])
    assert isinstance(result, dict)
    errors = [np.mean((a / 255 - b / 255) ** 2) for a, b in zip(source, decoded, strict=True)]
    expected = [-10 * np.log10(error) for error in errors]
    assert result["psnr"]["frames"] == pytest.approx(expected, abs=1e-3)
    assert result["psnr"]["mean"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert result["psnr"]["of_mean_error"] == pytest.approx(-10 * np.log10(np.mean(errors)), abs=1e-3)
    assert psnr(0) == PSNR_CAP


def test_decodings_fail_one_by_one() -> None:
    source = frames(3)
    results = Meter(["psnr"]).measure(
        source, [source, source[:2], [*source, source[0]], frames(4, size=(24, 30))]
    )
    assert isinstance(results[0], dict) and results[0]["psnr"]["mean"] == PSNR_CAP
    assert "ends after 2 frames" in str(results[1])
    assert "goes on after the source's 3 frames" in str(results[2])
    assert "30x24 decoded, 32x24 in the source" in str(results[3])
    assert all(isinstance(result, S2vcError) for result in results[1:])


def test_a_metric_without_weights_is_missing_not_replaced(tmp_path) -> None:  # type: ignore[no-untyped-def]
    meter = Meter(["psnr", "dists"], tmp_path)
    (result,) = meter.measure(frames(5), [frames(6)])
    assert isinstance(result, dict) and set(result) == {"psnr"}
    assert "vgg16_features" in meter.missing["dists"]


def test_networks_see_every_step_th_frame_and_the_pictures_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from s2vc.bench import metrics

    class Mean(torch.nn.Module):
        def __init__(self, *_: object) -> None:
            super().__init__()

        def features(self, pictures: torch.Tensor) -> list[torch.Tensor]:
            assert pictures.shape[1] == 3 and pictures.max() <= 1
            return [pictures]

        def distance(self, first: list[torch.Tensor], second: list[torch.Tensor]) -> torch.Tensor:
            return (first[0] - second[0]).mean((1, 2, 3))

    monkeypatch.setattr(metrics, "DISTS", Mean)
    monkeypatch.setattr(metrics, "find_weights", lambda *_: __file__)
    source, one, two = frames(7), frames(8), frames(9)
    results = Meter(["dists"], step=2).measure(source, [one, two])
    for decoded, result in zip((one, two), results, strict=True):
        expected = [(source[i].astype(float) - decoded[i]).mean() / 255 for i in (0, 2)]
        assert isinstance(result, dict)
        assert result["dists"]["frames"] == pytest.approx(expected, abs=1e-5)
