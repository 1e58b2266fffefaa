"""One row a run, and all that is known of the one that is chosen."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards import address, run_view, source, stages, tables
from results import sinks

TITLE = "Runs"
ICON = ":material/list_alt:"
ORDER = 3


def asked() -> tuple[list[str], str]:
    """Which runs the reader wants to see."""
    with st.sidebar:
        kinds = address.choices("Kind", "kind", source.kinds(), placeholder="all")
        return kinds, address.text("Search", "search", placeholder="ka, node1, 3f2a...")


def chosen(runs: pd.DataFrame) -> list[str]:
    """A table of runs; the keys of those that were chosen."""
    return address.table(
        "run",
        _table(runs),
        list(runs["key"]),
        several=True,
        hide_index=True,
        height=min(38 + 35 * max(1, len(runs)), 400),
    )


def _table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run; those that are hidden say why."""
    shown, hidden = tables.runs_table(runs), stages.hidden()
    if hidden and runs["key"].isin(list(hidden)).any():
        shown.insert(
            1, "hidden", runs["key"].map(lambda key: sinks.visible(hidden[key].reason) if key in hidden else "")
        )
    return shown


st.title("Runs")
if source.ready():
    kinds, text = asked()
    count = source.count_runs(kinds, text)
    st.caption(f"{count} finished stages, newest first. Tick one to see all of it, several to compare them.")
    with st.sidebar:
        number = address.page(count, source.PAGE)
    keys = chosen(source.runs_page(kinds, text, number))
    there = set(source.runs_of(keys)["key"])
    keys = [key for key in keys if key in there]
    if len(keys) > 1:
        address.link("compare", f"Compare these {len(keys)} runs", ":material/compare_arrows:", side=keys)
    elif keys:
        address.link("run", "Open this run alone", ":material/open_in_full:", run=keys)
        run_view.draw(keys[0])
