"""Bjøntegaard deltas: the package's own figures, ranges of rates, overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s2vc.bench.delta import delta

bjontegaard = pytest.importorskip("bjontegaard")

RATES = np.array([0.01, 0.02, 0.04, 0.08, 0.16])
DISTS = 0.3 - 0.08 * np.log10(RATES / 0.01)

# the example of the package's README: x265 with two presets, kbit/s and dB
ANCHOR = [(9487.76, 40.037), (4593.60, 38.615), (2486.44, 36.845), (1358.24, 34.851)]
TEST = [(9787.80, 40.121), (4469.00, 38.651), (2451.52, 36.970), (1356.24, 34.987)]


def curve(factor: float = 1.0, part: slice = slice(None)) -> list[tuple[float, float]]:
    return [(float(r * factor), float(d)) for r, d in zip(RATES[part], DISTS[part], strict=True)]


def test_the_packages_own_example() -> None:
    columns = [np.array(points).T for points in (ANCHOR, TEST)]
    found = delta(ANCHOR, TEST, higher_is_better=True)
    assert found.rate == pytest.approx(
        bjontegaard.bd_rate(*columns[0], *columns[1], method="akima"), abs=1e-9
    )
    assert found.metric == pytest.approx(
        bjontegaard.bd_psnr(*columns[0], *columns[1], method="akima"), abs=1e-9
    )


@given(
    st.lists(st.floats(0.2, 2), min_size=4, max_size=7), st.lists(st.floats(0.2, 2), min_size=4, max_size=7)
)
def test_the_package_on_any_two_curves(steps: list[float], others: list[float]) -> None:
    def points(steps: list[float]) -> tuple[np.ndarray, np.ndarray]:
        along = np.cumsum(steps)
        return 0.01 * 2**along, 20 + 3 * along + np.sin(along)

    anchor, test = points(steps), points(others)
    assume(max(anchor[1][0], test[1][0]) < min(anchor[1][-1], test[1][-1]) - 1e-6)
    expected = bjontegaard.bd_rate(
        *anchor, *test, method="akima", require_matching_points=False, min_overlap=0
    )
    found = delta(list(zip(*anchor, strict=True)), list(zip(*test, strict=True)), higher_is_better=True)
    assert found.rate == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("rates", [None, (0.015, 0.1), (0.001, 0.05), (0.03, 5)])
def test_a_constant_factor_of_rate_is_the_bd_rate(factor: float, rates: tuple[float, float] | None) -> None:
    """DISTS is lower for better; at a factor of rate f the curve lies 0.08 log10(f) higher."""
    found = delta(curve(), curve(factor), higher_is_better=False, rates=rates)
    assert found.rate == pytest.approx(100 * (factor - 1), abs=1e-6)
    assert found.metric == pytest.approx(0.08 * np.log10(factor), abs=1e-9)
    if rates is None:
        assert found.overlap == pytest.approx(1)


def test_a_range_of_rates_leaves_the_rest_out() -> None:
    """Half the rate below 0.04 bpp, the same above: the range decides what is seen."""
    test = [(r * (0.5 if r < 0.04 else 1), d) for r, d in curve()]
    whole = delta(curve(), test, higher_is_better=False).rate
    upper = delta(curve(), test, higher_is_better=False, rates=(0.05, 1)).rate
    assert whole is not None and whole < -10 and upper == pytest.approx(0, abs=0.5)
    assert delta(curve(), test, higher_is_better=False, rates=(0.5, 1)).rate is None


def test_overlap_is_of_the_anchors_log_rate() -> None:
    found = delta(curve(), curve(0.5, slice(3, None)), higher_is_better=False)
    assert found.overlap == pytest.approx(0.25) and found.rate == pytest.approx(-50, abs=1e-6)
    # within 0.04 to 0.16 bpp the same two points are half of the anchor's range
    held = delta(curve(), curve(1, slice(3, None)), higher_is_better=False, rates=(0.04, 0.16))
    assert held.overlap == pytest.approx(0.5)
    none = delta(curve(part=slice(0, 2)), curve(part=slice(3, None)), higher_is_better=False)
    assert none.rate is None and none.metric is None and none.overlap == 0
    assert delta(curve(), curve()[:1], higher_is_better=False).rate is None


def test_points_that_cost_more_for_less_are_left_out() -> None:
    bent = [*curve(0.5), (0.05, 0.31)]
    assert delta(curve(), bent, higher_is_better=False).rate == pytest.approx(-50, abs=1e-6)
