"""The pages, run by Streamlit's own test harness on databases that the real collector made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards import source
from results.ingest import collect
from results.store import open_store
from tests.results.factory import Fake, sweep, write_all

PAGES = Path(source.__file__).parent / "pages"
FAKES = [
    *sweep(("none", "kd", "ka"), (8, 16), (0, 1, 2), images=4),
    Fake("none", dataset="camvid", recipe="camvid-1", images=4),
    Fake("ka", dataset="camvid", recipe="camvid-1", images=4),
]


@pytest.fixture(autouse=True)
def _no_cache() -> Iterator[None]:
    st.cache_data.clear()
    yield
    st.cache_data.clear()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace, named in the environment."""
    monkeypatch.setenv("HARNESS_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("HARNESS_DB", str(tmp_path / "results.db"))
    return tmp_path


@pytest.fixture
def filled(workspace: Path) -> Path:
    """The same with a sweep in it."""
    with open_store(workspace / "results.db") as store:
        collect(write_all(workspace, FAKES), store)
    return workspace


def page(name: str) -> AppTest:
    """A page, run; it must not raise."""
    app = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=120).run()
    assert not app.exception
    return app


def texts(app: AppTest) -> str:
    """All that the page says in words."""
    kinds = (app.title, app.header, app.subheader, app.markdown, app.caption, app.info, app.warning, app.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def choose(app: AppTest, key: str, row: int) -> AppTest:
    """Choose a row of a table, as a click does."""
    app.session_state[key] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    app.run()
    assert not app.exception
    return app


def test_leaderboard_shows_the_data_set_with_most_runs(filled: Path) -> None:
    app = page("leaderboard")
    assert app.sidebar.selectbox[0].value == "shapes"
    table = app.dataframe[0].value
    assert len(table) == 7 and {"mIoU [%]", "Δ none [points]", "verdict", "GMACs", "seeds"} <= set(table.columns)
    assert app.metric[0].label == "best student: ka @8"
    said = texts(app)
    for words in ("Each row rests on 3 seeds", "95 of 100 such intervals", "Accuracy against cost", "dataset shapes"):
        assert words in said


def test_filters(filled: Path) -> None:
    app = page("leaderboard")
    methods = next(box for box in app.sidebar.multiselect if box.label == "Methods")
    methods.select("ka").run()
    assert app.dataframe[0].value["method"].unique().tolist() == ["ka"]
    app.sidebar.selectbox[0].select("camvid").run()
    assert not app.exception


def test_one_seed_is_said(filled: Path) -> None:
    app = page("leaderboard")
    app.sidebar.selectbox[0].select("camvid").run()
    assert not app.exception and len(app.dataframe[0].value) == 2
    assert "one seed: images only" in app.dataframe[0].value["verdict"].tolist()
    assert "another seed may turn" in texts(app)


def test_a_chosen_row_shows_what_is_behind_it(filled: Path) -> None:
    app = choose(page("leaderboard"), "board", 1)
    said = texts(app)
    assert "harness sweep --methods ka" in said and "IoU by class" in said and "paired over 3 seeds" in said
    assert len(app.dataframe[1].value) == 3  # its seeds


def test_numbers_follow_the_database(filled: Path) -> None:
    app = page("leaderboard")
    assert len(app.dataframe[0].value) == 7
    with open_store(filled / "results.db") as store:
        collect(write_all(filled, [Fake("none", 32, images=4)]), store)
    assert len(app.run().dataframe[0].value) == 8


@pytest.mark.parametrize("name", ["leaderboard", "runs"])
def test_a_missing_database_says_what_to_do(workspace: Path, name: str) -> None:
    app = page(name)
    assert "there is no database" in texts(app) and "harness sweep --methods" in texts(app)
    assert not (workspace / "results.db").exists()


@pytest.mark.parametrize("name", ["leaderboard", "runs"])
def test_an_empty_database_says_what_to_do(workspace: Path, name: str) -> None:
    open_store(workspace / "results.db").close()
    said = texts(page(name))
    assert "No finished run yet" in said and f"harness collect --workspace {workspace}" in said


def test_passwords_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DB", "postgresql://user:secret@127.0.0.1:1/name")
    said = texts(page("leaderboard"))
    assert "cannot be opened" in said and "secret" not in said


def test_runs(filled: Path) -> None:
    app = page("runs")
    assert len(app.dataframe[0].value) == len(FAKES)
    app.sidebar.text_input[0].set_value("camvid").run()
    assert len(app.dataframe[0].value) == 2
    choose(app, "runs", 0)
    assert "Attempts" in texts(app) and "Environment" in texts(app)


def test_reported_is_labelled(workspace: Path) -> None:
    app = page("reported")
    assert "none was measured by us" in texts(app)
    assert app.dataframe[0].value.loc["maskd", "DeepLabV3-ResNet18"] == pytest.approx(77.0)
    assert app.dataframe[0].value.index[0] == "student alone"


def test_the_entrance_runs(filled: Path) -> None:
    app = AppTest.from_file(str(PAGES.parent / "app.py"), default_timeout=120).run()
    assert not app.exception and app.title[0].value == "Leaderboard"


def test_pictures_stay_inside_the_workspace(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "samples").mkdir()
    (outside / "samples" / "secret.png").write_bytes(b"")
    key = Fake("ka").write(workspace, samples=3).name
    assert [path.name for path in source.pictures(workspace, key)] == [f"image00{n}.png" for n in range(3)]
    assert len(source.pictures(workspace, key, limit=2)) == 2
    (workspace / "stages" / key / "samples" / "link.png").symlink_to(outside / "samples" / "secret.png")
    assert len(source.pictures(workspace, key)) == 3
    (workspace / "stages" / "linked").symlink_to(outside)
    for wicked in ("linked", f"../../{outside.name}", str(outside), "nobody"):
        assert source.pictures(workspace, wicked) == []
