"""What the tests of all pages share: nothing is remembered from one test to the next, and where the board looks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards import source

PAGES = Path(source.__file__).parent / "pages"


@pytest.fixture(autouse=True)
def _no_cache() -> Iterator[None]:
    for cache in (st.cache_data, st.cache_resource):
        cache.clear()
    yield
    for cache in (st.cache_data, st.cache_resource):
        cache.clear()


def page(name: str, **address: str | list[str]) -> AppTest:
    """A page at an address, run; it must not raise."""
    app = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=120)
    for word, value in address.items():
        app.query_params[word] = value
    app.run()
    assert not app.exception
    return app


def look_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name a workspace in the environment, as `harness dashboard` does."""
    monkeypatch.setenv("HARNESS_WORKSPACE", str(root))
    monkeypatch.setenv("HARNESS_DB", str(root / "results.db"))
    return root


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace, named in the environment."""
    return look_at(tmp_path, monkeypatch)
