"""The pages, run by Streamlit's own test harness on databases that the real collector made."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards import board_view, source
from results import groups, sinks
from results.ingest import collect
from results.store import open_store
from tests.dashboards.conftest import PAGES, look_at, page
from tests.results.factory import Fake, sweep, write_all

FAKES = [
    *sweep(("none", "kd", "ka"), (8, 16), (0, 1, 2), images=4),
    Fake("none", dataset="camvid", recipe="camvid-1", images=4),
    Fake("ka", dataset="camvid", recipe="camvid-1", images=4),
]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a sweep in it, which tests only read."""
    return collected(tmp_path_factory.mktemp("swept"))


def collected(root: Path) -> Path:
    with open_store(root / "results.db") as store:
        collect(write_all(root, FAKES), store)
    return root


@pytest.fixture
def filled(swept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, named in the environment."""
    return look_at(swept, monkeypatch)


def texts(app: AppTest) -> str:
    """All that the page says in words."""
    kinds = (app.title, app.header, app.subheader, app.markdown, app.caption, app.info, app.warning, app.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def keys(app: AppTest, name: str) -> list[str]:
    """The keys of the rows of the first table."""
    shown = app.dataframe[0].value
    if name == "leaderboard":
        return [str(row) for row in shown["row"]]
    full = {key[:10]: key for key in source.runs_page([], "", 1)["key"]}
    return [full[short] for short in shown["key"]]


def choose(app: AppTest, name: str, row: int) -> AppTest:
    """Choose a row of the first table, as a click does: by the address."""
    app.query_params[{"leaderboard": "row", "runs": "run"}[name]] = keys(app, name)[row]
    app.run()
    assert not app.exception
    return app


def test_what_the_first_page_asks_is_answered_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no database"):
        look_at(tmp_path, monkeypatch)
        source.prepare()
    file = collected(tmp_path) / "results.db"
    rows, written = page("leaderboard").metric[2].value, file.stat().st_mtime_ns
    st.cache_data.clear()
    source.prepare()
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM board")
    os.utime(file, ns=(written, written))
    assert page("leaderboard").metric[2].value == rows == "7"


def test_leaderboard_shows_the_data_set_with_most_runs(filled: Path) -> None:
    app = page("leaderboard")
    assert app.sidebar.selectbox[0].value == "shapes"
    table = app.dataframe[0].value
    assert len(table) == 7 and {"mIoU [%]", "Δ none [points]", "verdict", "GMACs", "seeds"} <= set(table.columns)
    assert app.metric[0].label == "best student: ka @8"
    said = texts(app)
    for words in ("Each row rests on 3 seeds", "95 of 100 such intervals", "within a point", "dataset shapes"):
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
    app = choose(page("leaderboard"), "leaderboard", 1)
    said = texts(app)
    assert "harness sweep --methods ka" in said and "IoU by class" in said and "paired over 3 seeds" in said
    assert len(app.dataframe[1].value) == 3  # its seeds


def multiselect(app: AppTest, label: str) -> Any:
    return next(box for box in app.sidebar.multiselect if box.label == label)


def test_what_was_chosen_stays_chosen_whatever_is_filtered(filled: Path) -> None:
    """A row's identity is its key: no filter and no order makes it another row."""
    app = page("leaderboard")
    place = app.dataframe[0].value.index[
        (app.dataframe[0].value["method"] == "ka") & (app.dataframe[0].value["stride"] == 8)
    ][0]
    choose(app, "leaderboard", int(place))
    assert app.header[0].value == sinks.markdown("ka · timm:mobilenetv2_100/linear@8")
    multiselect(app, "Output strides").select(16).run()
    assert not app.exception and not app.header and "not among those shown" in texts(app)
    multiselect(app, "Output strides").select(8).run()
    assert app.header[0].value.startswith("ka ") and "8" in app.header[0].value
    multiselect(app, "Methods").select("ka").run()
    assert app.header[0].value.startswith("ka ") and app.header[0].value.endswith("@8")


def test_an_address_leads_to_its_row(filled: Path) -> None:
    row = page("leaderboard").dataframe[0].value.set_index(["method", "stride"])["row"][("kd", 16)]
    app = AppTest.from_file(str(PAGES / "leaderboard.py"), default_timeout=120)
    app.query_params["row"] = row
    assert app.run().header[0].value == sinks.markdown("kd · timm:mobilenetv2_100/linear@16")


def test_holm_and_the_download_do_not_change_with_a_filter(filled: Path) -> None:
    app = page("leaderboard")
    before = app.dataframe[0].value.set_index("row")["verdict"]
    multiselect(app, "Methods").select("ka").run()
    after = app.dataframe[0].value.set_index("row")["verdict"]
    assert len(after) == 2 and (before[after.index] == after).all()


HOSTILE = "ka[![x](http://evil.invalid/a.png)<img src=x>$x$:red[y]\x1b[2J"


def test_names_in_records_are_no_markup(workspace: Path) -> None:
    fakes = [Fake(HOSTILE, seed=seed, images=2, numerics=HOSTILE, recipe=HOSTILE) for seed in (0, 1)]
    with open_store(workspace / "results.db") as store:
        collect(write_all(workspace, fakes, samples=1), store)
    for name in ("leaderboard", "runs"):
        app = choose(page(name), name, 0)
        elements = [*app.title, *app.header, *app.subheader, *app.markdown, *app.caption, *app.warning, *app.metric]
        for element in elements:
            text = str(getattr(element, "label", "")) + str(element.value)
            for markup in ("!\\[", "\\]\\(", "<img", "\\$x", ":red\\[", "\x1b"):
                assert not re.search(rf"(?<!\\){markup}", text), text
        assert app.header


def test_numbers_follow_the_database(workspace: Path) -> None:
    collected(workspace)
    app = page("leaderboard")
    assert len(app.dataframe[0].value) == 7
    with open_store(workspace / "results.db") as store:
        collect(write_all(workspace, [Fake("none", 32, images=4)]), store)
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


@pytest.mark.parametrize(("name", "key"), [("leaderboard", "row"), ("runs", "key")])
def test_a_long_table_comes_in_pages(filled: Path, monkeypatch: pytest.MonkeyPatch, name: str, key: str) -> None:
    whole = list(page(name).dataframe[0].value[key])
    monkeypatch.setattr(source, "PAGE", 3)
    app = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=120)
    app.query_params["page"] = "2"
    app.run()
    shown = list(app.dataframe[0].value[key])
    assert not app.exception and shown == whole[3:6]
    assert app.number_input[0].label == f"Page, of {-(-len(whole) // 3)}"
    app.query_params["page"] = "1000"  # there is no such page
    app.run()
    assert list(app.dataframe[0].value[key]) == whole[:3]


def grouped(app: AppTest) -> dict[str, list[str]]:
    """Heading of each group -> the rows of its table."""
    headings = [found.value.removeprefix("#### ") for found in app.markdown if found.value.startswith("#### ")]
    return dict(zip(headings, (list(frame.value["row"]) for frame in app.dataframe), strict=True))


def test_rows_come_in_groups(filled: Path) -> None:
    whole = page("leaderboard").dataframe[0].value.set_index("row")
    app = page("leaderboard")
    next(box for box in app.sidebar.selectbox if box.label == "Group by").select("stride").run()
    assert app.query_params["group"] == "stride" and not app.exception
    strides = {f"stride {n}": list(whole.index[whole["stride"] == n]) for n in (8, 16)}
    assert grouped(app) == strides and "4 rows · best\\: ka " in texts(app)
    row = strides["stride 16"][0]
    app.query_params["row"] = row
    app.run()
    assert app.header[0].value.startswith("ka ") and len(app.dataframe[2].value) == 3  # its seeds, below its table


def test_many_groups_come_in_pages_and_long_ones_alone(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "LEAST", 1)
    monkeypatch.setattr(source, "PAGE", 3)
    monkeypatch.setattr(board_view, "GROUPS", 2)
    app = AppTest.from_file(str(PAGES / "leaderboard.py"), default_timeout=120)
    app.query_params["group"] = "method"
    assert list(grouped(app.run())) == ["teacher", "ka"] and app.number_input[0].label == "Page, of 2"
    app.query_params["page"] = "2"
    shown = grouped(app.run())
    assert list(shown) == ["kd", "none"] and [len(rows) for rows in shown.values()] == [1, 1]
    del app.query_params["page"]
    app.query_params["only"] = "kd"
    assert [len(rows) for rows in grouped(app.run()).values()] == [2]
    app.query_params["only"] = "nobody"
    assert "“nobody”" in texts(app.run()) and len(grouped(app)) == 2


@pytest.mark.parametrize(("name", "word", "count"), [("run", "run", 1), ("compare", "side", 2)])
def test_what_a_page_offers_is_in_its_address(filled: Path, name: str, word: str, count: int) -> None:
    app = page(name)
    app.button[0].click().run()
    assert not app.exception and len(app.get("vega_lite_chart"))
    said = app.query_params[word]
    assert len([said] if isinstance(said, str) else said) == count


def test_reported_is_labelled(workspace: Path) -> None:
    app = page("reported")
    assert "none was measured by us" in texts(app)
    shown = app.dataframe[0].value.set_index("method")
    assert shown.loc["maskd", "DeepLabV3-ResNet18"] == pytest.approx(77.0)
    assert shown.index[0] == "student alone"


def test_the_entrance_runs(filled: Path) -> None:
    app = AppTest.from_file(str(PAGES.parent / "entrance" / "app.py"), default_timeout=120).run()
    assert not app.exception and app.title[0].value == "Leaderboard"
    # Nothing but the style, the pages' own texts and their names: no stray string of the entrance is shown.
    assert not [element.value for element in app.markdown if "Streamlit" in str(element.value)]


def test_our_own_rows_stand_below_what_is_reported_of_a_data_set(filled: Path) -> None:
    app = AppTest.from_file(str(PAGES / "reported.py"), default_timeout=120)
    app.query_params["dataset"] = "CamVid"
    app.run()
    assert not app.exception and "Measured here: CamVid" in texts(app)
    ours = next(one.value for one in app.dataframe if "seeds" in one.value)
    assert list(ours["method"]) == ["ka", "none"] and set(ours["recipe"]) == {"camvid-1"}
