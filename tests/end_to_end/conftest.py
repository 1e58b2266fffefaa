"""Stages of tests are many and say nothing of speed: few runs are timed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.cost import timing


@pytest.fixture(autouse=True, scope="module")
def _few_timed_runs() -> Iterator[None]:
    before, timing.RUNS = timing.RUNS, 3
    yield
    timing.RUNS = before
