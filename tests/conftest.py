"""What no test leaves to the next one, and what all of them share."""

from __future__ import annotations

import gc

import pytest

from harness.system import shipping


def pytest_sessionstart() -> None:
    """Importing and collecting leave no garbage that is worth looking for."""
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What is there now stays for good: whoever collects garbage (Streamlit does after every page) need not look
    through a million objects of torch and pandas each time."""
    gc.enable()
    gc.freeze()


@pytest.fixture(autouse=True)
def _plugin_files_are_shipped_by_their_own_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "_needed", dict(shipping._needed))


@pytest.fixture(autouse=True)
def _tables_are_as_wide_under_xdist_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of `pytest -n` are told a width of 80."""
    monkeypatch.delenv("COLUMNS", raising=False)
