"""The conformance suite over every registered method."""

from __future__ import annotations

import pytest
import torch

from harness.conformance import EXCLUSIONS, PROPERTIES, Case, MethodUnderTest, run_property
from harness.conformance.cases import LABELS, LARGE, SMALL, sizes
from harness.conformance.properties import expect_finite
from harness.plugins.registries import METHODS

_SUBJECTS: dict[str, MethodUnderTest] = {}


@pytest.mark.parametrize("item", PROPERTIES, ids=lambda item: item.name)
@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_keeps_to_every_property(name: str, item) -> None:
    subject = _SUBJECTS.setdefault(name, MethodUnderTest(METHODS.get(name)))
    result = run_property(item, subject)
    if result.outcome == "skip":
        pytest.skip(result.reason)
    assert result.outcome == "pass", result.reason


TINY = Case("one position", sizes(16, SMALL, 14), sizes(8, LARGE, 20), 2, (8, 8))


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("name", [name for name in METHODS.names() if METHODS.get(name).terms])
def test_one_position_is_enough(name: str, labels: str) -> None:
    """More than the suite asks of everyone: finite where a map is a single position."""
    subject = MethodUnderTest(METHODS.get(name))
    expect_finite(subject.build(subject.full, TINY, torch.float32), subject.step(TINY, 0, labels, torch.float32), "")


def test_exclusions_name_what_exists() -> None:
    for method, item in EXCLUSIONS:
        assert method in METHODS
        assert item in {p.name for p in PROPERTIES}
