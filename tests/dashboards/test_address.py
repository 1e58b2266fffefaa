"""The state of a page in its address, both ways, in Streamlit's own test harness."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import address


def _page() -> None:
    import pandas as pd
    import streamlit as st

    from dashboards import address

    found = {
        "dataset": address.choice("Data set", "dataset", ["shapes", "camvid"]),
        "stride": address.choice("Stride", "stride", [8, 16], 16, draw=st.segmented_control),
        "methods": address.choices("Methods", "method", ["none", "ka[beta=1,2]", "kd"]),
        "columns": address.choices("Columns", "column", ["a", "b", "c"], ["a", "b"]),
        "search": address.text("Search", "search"),
        "teachers": address.switch("Teachers", "teachers"),
        "smooth": address.number("Smooth", "smooth", 0, 10, 3),
        "rows": address.table("row", pd.DataFrame({"x": [1, 2]}), ["first", "second"], several=True),
    }
    st.session_state["found"] = found


def _open(**address: Any) -> AppTest:
    app = AppTest.from_function(_page, default_timeout=60)
    for name, value in address.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


DEFAULTS = {
    "dataset": "shapes", "stride": 16, "methods": [], "columns": ["a", "b"], "search": "", "teachers": False,
    "smooth": 3, "rows": [],
}  # fmt: skip


def found(app: AppTest) -> dict[str, Any]:
    return dict(app.session_state["found"])


def address_of(app: AppTest) -> dict[str, Any]:
    return dict(app.query_params.items())


def test_an_address_that_says_nothing_means_the_defaults() -> None:
    app = _open()
    assert found(app) == DEFAULTS and address_of(app) == {}


def test_what_is_chosen_is_in_the_address_and_the_address_opens_the_same_page() -> None:
    app = _open()
    app.selectbox[0].select("camvid").run()
    app.multiselect[0].select("kd").select("ka[beta=1,2]").run()
    app.multiselect[1].unselect("a").run()
    app.text_input[0].set_value("3f2a & more").run()
    app.toggle[0].set_value(True).run()
    app.slider[0].set_value(7).run()
    assert not app.exception
    there = address_of(app)
    wanted = DEFAULTS | {
        "dataset": "camvid", "methods": ["kd", "ka[beta=1,2]"], "columns": ["b"], "search": "3f2a & more",
        "teachers": True, "smooth": 7,
    }  # fmt: skip
    assert found(app) == wanted
    assert set(there) == {"dataset", "method", "column", "search", "teachers", "smooth"}
    assert found(_open(**there)) == wanted


def test_a_default_is_taken_out_of_the_address_again() -> None:
    app = _open(dataset="camvid", teachers="yes", stride="8")
    app.selectbox[0].select("shapes").run()
    app.toggle[0].set_value(False).run()
    assert found(app) == DEFAULTS | {"stride": 8} and set(address_of(app)) == {"stride"}


def test_choosing_nothing_is_told_from_saying_nothing() -> None:
    app = _open()
    app.multiselect[1].set_value([]).run()
    assert found(app)["columns"] == []
    assert found(_open(**address_of(app)))["columns"] == []


def test_another_address_is_another_state_whatever_the_widgets_held() -> None:
    """As when one goes back."""
    app = _open()
    app.selectbox[0].select("camvid").run()
    app.query_params.clear()
    app.query_params["search"] = "ka"
    app.run()
    assert found(app) == DEFAULTS | {"search": "ka"} and app.selectbox[0].value == "shapes"


@pytest.mark.parametrize(
    "wicked",
    [
        {"dataset": "nonsense", "stride": "x", "method": "<script>", "smooth": "1e9", "teachers": "maybe"},
        {"smooth": "nan", "stride": "99999999999999999999", "method": ["nonsense", "rm -rf"]},
    ],
)
def test_words_that_fit_nothing_are_passed_over(wicked: dict[str, Any]) -> None:
    app = _open(**wicked)
    assert found(app) == DEFAULTS


def test_rows_are_chosen_by_their_keys() -> None:
    assert found(_open(row=["second", "gone", "second"]))["rows"] == ["second", "gone"]


@pytest.mark.parametrize(("several", "picked"), [(True, ["on another page", "b"]), (False, ["b"])])
def test_what_is_ticked_on_another_page_of_a_table_stays_ticked(
    monkeypatch: pytest.MonkeyPatch, several: bool, picked: list[str]
) -> None:
    clicked = {"row": {"selection": {"rows": [1], "columns": [], "cells": []}}}
    monkeypatch.setattr(address.st, "session_state", clicked)
    assert address._picked("row", ["a", "b"], ["on another page", "a"], several) == picked
