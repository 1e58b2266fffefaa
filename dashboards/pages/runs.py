"""One row a run, and all that is known of the one that is chosen."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards import address, run_view, source, stages, tables
from results import sinks

TITLE = "Runs"
ICON = ":material/list_alt:"
ORDER = 3


def chosen(runs: pd.DataFrame) -> list[str]:
    """The table of all runs; the keys of those that were chosen."""
    with st.sidebar:
        kinds = address.choices("Kind", "kind", sorted(runs["kind"].unique()), placeholder="all")
        text = address.text("Search", "search", placeholder="ka, node1, 3f2a...")
    if kinds:
        runs = runs[runs["kind"].isin(kinds)]
    if text:
        columns = ("key", "name", "host", "device", "job", "revision", "recipe", "dataset", "numerics")
        found = pd.concat([runs[name].str.contains(text, case=False, regex=False) for name in columns], axis=1)
        runs = runs[found.any(axis=1)]
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
    everything = source.all_runs()
    st.caption(f"{len(everything)} finished stages, newest first. Tick one to see all of it, several to compare them.")
    keys = [key for key in chosen(everything) if everything["key"].eq(key).any()]
    if len(keys) > 1:
        address.link("compare", f"Compare these {len(keys)} runs", ":material/compare_arrows:", side=keys)
    elif keys:
        address.link("run", "Open this run alone", ":material/open_in_full:", run=keys)
        run_view.draw(keys[0])
