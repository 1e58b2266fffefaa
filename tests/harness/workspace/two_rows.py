"""A workspace of two rows of two seeds, and what commands say of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from typer.testing import CliRunner

from harness.cli.app import app
from harness.workspace.folders import Workspace
from results.ingest import collect
from results.store import open_store
from tests.results.factory import Fake, write_all

KA = [Fake("ka", seed=seed, images=3) for seed in (0, 1)]
NONE = [Fake("none", seed=seed, images=3) for seed in (0, 1)]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """Two rows of two seeds, collected, and what pages and commands look at by default."""
    monkeypatch.setenv("HARNESS_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("HARNESS_DB", str(tmp_path / "results.db"))
    with open_store(tmp_path / "results.db") as store:
        collect(write_all(tmp_path, [*KA, *NONE]), store)
    for cache in (st.cache_data, st.cache_resource):
        cache.clear()
    yield Workspace(tmp_path)
    for cache in (st.cache_data, st.cache_resource):
        cache.clear()


def command(*words: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    found = CliRunner().invoke(app, list(words))
    return found.exit_code, found.output
