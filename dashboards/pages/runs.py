"""One row a run, and all that is known of the one that is chosen."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from pandas.api.types import is_numeric_dtype

from dashboards import address, asking, compare_view, run_view, source, stages, tables
from results import sinks
from results.differences import MOST_SIDES
from results.metrics import HEADLINE
from results.tags import with_tags

TITLE = "Runs"
ICON = ":material/list_alt:"
ORDER = 3
FIRST = "table"
HEIGHT = 400  # of the table at most [pixels]


def asked() -> tuple[list[str], str, list[str]]:
    """Which runs the reader wants to see: their kinds, a text in them, their tags."""
    with st.sidebar:
        kinds = address.choices("Kind", "kind", source.kinds(), placeholder="all")
        text = address.text("Search", "search", placeholder="ka, node1, 3f2a...")
        known = sorted({tag for tags in stages.tags().values() for tag in tags})
        return kinds, text, asking.tags(known, "a run passes with any of them.")


def chosen(runs: pd.DataFrame) -> list[str]:
    """A table of runs; the keys of those that were chosen."""
    shown = _table(runs)
    texts = {str(name): list(shown[name].fillna("").astype(str)) for name in shown if not is_numeric_dtype(shown[name])}
    fit = tables.fit(texts)
    return address.table(
        "run",
        shown,
        list(runs["key"]),
        several=True,
        hide_index=True,
        height=fit.height(len(runs), HEIGHT),
        row_height=fit.row,
        column_config={name: st.column_config.Column(width=width) for name, width in fit.widths.items()},
    )


def _table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run; those that are hidden say why."""
    shown, hidden = tables.runs_table(with_tags(runs, stages.tags(), by="key")), stages.hidden()
    if hidden and runs["key"].isin(list(hidden)).any():
        shown.insert(
            1, "hidden", runs["key"].map(lambda key: sinks.visible(hidden[key].reason) if key in hidden else "")
        )
    return shown


def beside(keys: list[str]) -> None:
    """Several runs: their scores and what differs, and the way to classes, pictures and curves."""
    said = f"Compare these {len(keys)} runs: classes, pictures, curves"
    address.link("compare", said, ":material/compare_arrows:", side=keys[:MOST_SIDES])
    try:
        found = source.comparison(keys[:MOST_SIDES], HEADLINE)
    except ValueError as error:
        st.info(sinks.markdown(error))
        return
    compare_view.accuracy(found, HEADLINE)
    compare_view.made(found)


st.title("Runs")
if source.ready():
    kinds, text, tags = asked()
    count = source.count_runs(kinds, text, tags)
    st.caption(f"{count} finished stages, newest first. Tick one to see all of it, several to compare them.")
    with st.sidebar:
        number = address.page(count, source.PAGE)
    keys = chosen(source.runs_page(kinds, text, number, tags))
    there = set(source.runs_of(keys)["key"])
    address.unknown("Runs", [key for key in keys if key not in there])
    keys = [key for key in keys if key in there]
    if len(keys) > 1:
        beside(keys)
    elif keys:
        address.link("run", "Open this run alone", ":material/open_in_full:", run=keys)
        run_view.draw(keys[0])
