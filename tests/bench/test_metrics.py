"""Measuring decoded pictures: the meter's own work, whatever the metric."""

from __future__ import annotations

import inspect
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from s2vc.bench.metrics import METRICS, PSNR_CAP, Meter, meter, of_same_network, psnr  # noqa: E402
from s2vc.bench.names import HIGHER_IS_BETTER  # noqa: E402
from s2vc.errors import S2vcError  # noqa: E402


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
    measure = Meter(["psnr", "flicker"])
    results = measure.measure(source, [source, source[:2], [*source, source[0]], frames(4, size=(24, 30))])
    assert isinstance(results[0], dict) and results[0]["psnr"]["mean"] == PSNR_CAP
    assert "ends after 2 frames" in str(results[1])
    assert "goes on after the source's 3 frames" in str(results[2])
    assert "30x24 decoded, 32x24 in the source" in str(results[3])
    assert all(isinstance(result, S2vcError) for result in results[1:])
    assert measure.seen == (24, 32, 3)


def test_a_decoding_that_fails_late_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meter, "_at_once", lambda *_: 2)  # three chunks, the second cut short

    def broken():  # type: ignore[no-untyped-def]
        yield from frames(4, 3)
        raise S2vcError("damaged")

    source, other = frames(3, 5), frames(5, 5)
    names = ["psnr", "flicker", "tof-dis"]
    both = Meter(names).measure(source, [broken(), other])
    assert str(both[0]) == "damaged"
    assert both[1] == Meter(names).measure(source, [other])[0]


def test_no_frames_at_all() -> None:
    (result,) = Meter(["psnr"]).measure([], [[]])
    assert "no frames" in str(result)


def test_results_do_not_depend_on_how_frames_are_cut(
    monkeypatch: pytest.MonkeyPatch, scene, weights_dir
) -> None:  # type: ignore[no-untyped-def]
    source = scene(5, 48, 40)
    decoded = [np.roll(picture, 1, 1) for picture in source]
    names = ["psnr-y", "flicker", "warping-error-dis", "tof-dis", "lpips-alex", "flolpips-dis-alex"]
    measure = Meter(names, weights_dir, step=2)
    found = []
    for at_once in (1, 2, 3, 5):
        monkeypatch.setattr(Meter, "_at_once", lambda *_, n=at_once: n)
        (result,) = measure.measure(source, [decoded])
        assert isinstance(result, dict) and list(result) == names
        found.append([value for name in names for value in result[name]["frames"]])
    for other in found[1:]:
        assert other == pytest.approx(found[0], abs=2e-5)
    lengths = {name: len(result[name]["frames"]) for name in names}
    assert list(lengths.values()) == [5, 4, 4, 4, 3, 2]


def test_memory_does_not_grow_with_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meter, "_at_once", lambda *_: 4)
    alive, most = 0, 0

    def freed() -> None:
        nonlocal alive
        alive -= 1

    def clip(seed: int):  # type: ignore[no-untyped-def]
        nonlocal alive, most
        random = np.random.default_rng(seed)
        for _ in range(60):
            picture = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            weakref.finalize(picture, freed)
            alive += 1
            most = max(most, alive)
            yield picture
            del picture

    Meter(["psnr", "flicker", "tof-dis"]).measure(clip(1), [clip(2), clip(3)])
    assert most <= 3 * (4 + 2)


def test_a_metric_without_weights_is_missing_not_replaced(tmp_path) -> None:  # type: ignore[no-untyped-def]
    names = [name for name, metric in METRICS.items() if metric.weights]
    measure = Meter(["psnr", *names], tmp_path)
    (result,) = measure.measure(frames(5), [frames(6)])
    assert isinstance(result, dict) and set(result) == {"psnr"}
    assert set(measure.missing) == set(names)
    assert "vgg16_features" in measure.missing["dists"]
    assert set(measure.made_with) == {"torch", "device", "step", "psnr"}


def test_small_and_short_clips_are_missing_with_the_reason() -> None:
    measure = Meter(["psnr", "ms-ssim", "vmaf", "tof-dis", "flicker"])
    (result,) = measure.measure(frames(5, 1, (20, 32)), [frames(6, 1, (20, 32))])
    assert isinstance(result, dict) and set(result) == {"psnr"}
    assert "161 pixels" in measure.missing["ms-ssim"] and "32 pixels" in measure.missing["vmaf"]
    assert "two" in measure.missing["tof-dis"] and "two" in measure.missing["flicker"]
    measure.measure(frames(5, 2), [frames(6, 2)])
    assert "flicker" not in measure.missing  # each clip for itself


def test_networks_see_every_step_th_frame_and_the_pictures_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Mean(torch.nn.Module):
        def __init__(self, *_: object) -> None:
            super().__init__()

        def features(self, pictures: torch.Tensor) -> list[torch.Tensor]:
            assert pictures.shape[1] == 3 and pictures.max() <= 1
            return [pictures]

        def distance(self, first: list[torch.Tensor], second: list[torch.Tensor]) -> torch.Tensor:
            return (first[0] - second[0]).mean((1, 2, 3))

    monkeypatch.setattr(meter, "DISTS", Mean)
    monkeypatch.setattr(meter, "weights_used", lambda file, folder: {file: "0"})
    source, one, two = frames(7), frames(8), frames(9)
    measure = Meter(["dists"], step=2)
    results = measure.measure(source, [one, two])
    for decoded, result in zip((one, two), results, strict=True):
        expected = [(source[i].astype(float) - decoded[i]).mean() / 255 for i in (0, 2)]
        assert isinstance(result, dict)
        assert result["dists"]["frames"] == pytest.approx(expected, abs=1e-5)
    assert measure.made_with["dists"]["weights"] == {"vgg16_features": "0", "dists_alpha_beta": "0"}


def test_every_metric_names_its_package_and_weights(weights_dir) -> None:  # type: ignore[no-untyped-def]
    names = ["psnr", "ms-ssim", "tof-dis", "lpips-alex"]
    made_with = Meter(names, weights_dir).made_with
    assert all(made_with[name]["package"].rpartition(" ")[2][0].isdigit() for name in names)
    assert made_with["ms-ssim"]["package"].startswith("pytorch-msssim ")
    assert set(made_with["lpips-alex"]["weights"]) == {
        "alexnet_features.safetensors", "lpips_heads_v0.1.safetensors",
    }  # fmt: skip
    assert all(len(digest) == 64 for digest in made_with["lpips-alex"]["weights"].values())


def test_the_table_is_what_the_meter_knows() -> None:
    with pytest.raises(ValueError, match="no metric ssim"):
        Meter(["ssim"])
    code = inspect.getsource(meter)
    for name, metric in METRICS.items():
        # a name that the meter starts nothing for would be "missing" for ever
        assert HIGHER_IS_BETTER[name] == metric.higher_is_better
        assert metric.weights or f'"{name}"' in code, name
        assert metric.values in ("frame", "pair", "clip")
        assert (metric.backbone is None) == (not metric.weights)


def test_metrics_of_a_network_that_was_trained_on() -> None:
    # what tiny-1's card says
    assert of_same_network(["lpips-vgg", "dists"]) == {"lpips-vgg", "dists", "flolpips-dis-vgg"}
    assert of_same_network(["efficientnet_lite0"]) == {
        "frechet-efficientnet-lite0", "kernel-efficientnet-lite0",
    }  # fmt: skip
    assert of_same_network(["psnr"]) == {"psnr"} and of_same_network([]) == set()
