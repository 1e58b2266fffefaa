"""Learning rate schedules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.specs.spec import Schedule
from harness.training.randomness import derive_seed
from harness.training.schedule import lr_factor

NAMES = ["poly", "cosine", "onecycle", "constant"]


@given(
    name=st.sampled_from(NAMES),
    warmup=st.integers(0, 30),
    iterations=st.integers(1, 200),
    floor=st.floats(0, 1),
    data=st.data(),
)
def test_factors_lie_between_zero_and_one(
    name: str, warmup: int, iterations: int, floor: float, data: st.DataObject
) -> None:
    schedule = Schedule(name=name, warmup=warmup, floor=floor)  # type: ignore[arg-type]
    iteration = data.draw(st.integers(0, iterations - 1))
    factor = lr_factor(schedule, iteration, iterations)
    assert 0 < factor <= 1 + 1e-12
    if iteration >= warmup:
        assert factor >= floor - 1e-12


def test_poly_is_the_papers_formula() -> None:
    assert lr_factor(Schedule(name="poly", power=0.9), 300, 1000) == pytest.approx(0.7**0.9)


def test_warm_up_rises_in_a_line() -> None:
    schedule = Schedule(name="constant", warmup=3)
    assert [lr_factor(schedule, i, 10) for i in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_one_cycle_peaks_at_thirty_per_cent() -> None:
    values = [lr_factor(Schedule(name="onecycle"), i, 100) for i in range(100)]
    assert values.index(max(values)) == 30 and values[0] == pytest.approx(0.04)


def test_mix_tells_purposes_and_iterations_apart() -> None:
    seeds = {derive_seed(s, p, i) for s in range(3) for p in ("network", "method") for i in range(50)}
    assert len(seeds) == 300
    assert derive_seed(0, "network", 1) == derive_seed(0, "network", 1)
