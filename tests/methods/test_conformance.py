"""The conformance suite over every registered method."""

from __future__ import annotations

import pytest

from harness.conformance import EXCLUSIONS, PROPERTIES, MethodUnderTest, run_property
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


def test_exclusions_name_what_exists() -> None:
    for method, item in EXCLUSIONS:
        assert method in METHODS
        assert item in {p.name for p in PROPERTIES}
