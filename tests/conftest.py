"""What no test leaves to the next one."""

from __future__ import annotations

import pytest

from harness.system import shipping


@pytest.fixture(autouse=True)
def _plugin_files_are_shipped_by_their_own_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "_needed", dict(shipping._needed))


@pytest.fixture(autouse=True)
def _tables_are_as_wide_under_xdist_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of `pytest -n` are told a width of 80."""
    monkeypatch.delenv("COLUMNS", raising=False)
