"""Clocks and counters of the speed bench."""

from __future__ import annotations

import types

import pytest

torch = pytest.importorskip("torch")

from s2vc.bench.timing import Stages, convolution_rate, count_macs  # noqa: E402


def test_inner_stages_are_not_counted_twice() -> None:
    now = [0.0]
    stages = Stages(clock=lambda: now[0])
    with stages.span("networks"):
        now[0] += 1
        with stages.span("entropy"):
            now[0] += 10
        with stages.span("entropy"):
            now[0] += 20
        now[0] += 2
    assert dict(stages.seconds) == {"networks": 3, "entropy": 30}
    assert dict(stages.calls) == {"networks": 1, "entropy": 2}


def test_watching_wraps_and_puts_back() -> None:
    class Coder:
        def put(self, n: int) -> int:
            return n + 1

        @staticmethod
        def cost(n: int) -> int:
            return 2 * n

    module = types.ModuleType("module")
    module.search = lambda n: n - 1  # type: ignore[attr-defined]
    before = dict(vars(Coder)), module.search
    stages = Stages()
    stages.watch(Coder, "put", "entropy")
    stages.watch(Coder, "cost", "entropy")
    stages.watch(module, "search", "motion")
    assert (Coder().put(1), Coder.cost(2), module.search(3)) == (2, 4, 2)
    assert dict(stages.calls) == {"entropy": 2, "motion": 1}
    stages.unwatch()
    assert (dict(vars(Coder)), module.search) == before


def test_a_generators_user_is_not_counted() -> None:
    now = [0.0]

    class Reader:
        def __iter__(self):  # type: ignore[no-untyped-def]
            for number in range(3):
                now[0] += 1
                yield number

    stages = Stages(clock=lambda: now[0])
    stages.watch(Reader, "__iter__", "reading")
    for _ in Reader():
        now[0] += 10
    assert stages.seconds["reading"] == 3


def test_macs_of_convolutions_products_and_attention() -> None:
    layer = torch.nn.Conv2d(4, 8, 3, padding=1)
    with torch.inference_mode():
        assert count_macs(lambda: layer(torch.rand(1, 4, 5, 6))) == 4 * 8 * 9 * 30
        assert count_macs(lambda: torch.rand(3, 4) @ torch.rand(4, 5)) == 60
        q, k = torch.rand(1, 2, 7, 16), torch.rand(1, 2, 5, 16)
        attend = torch.nn.functional.scaled_dot_product_attention
        assert count_macs(lambda: attend(q, k, k)) == 2 * 7 * 5 * 32


def test_convolution_rate_is_a_rate() -> None:
    assert convolution_rate(64, 48, seconds=0.02, channels=8) > 1e5
