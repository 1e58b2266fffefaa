"""Published rows: reported by their authors, not measured by us."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboards import address, source, tables
from results import sinks
from results.leaderboard import columns_of, metric_of
from results.reported import display_reported, render_reported, reported

TITLE = "Reported"
ICON = ":material/menu_book:"
ORDER = 2
FIRST = "table"

MOST = 50  # of our own rows


def measured_here(dataset: str) -> None:
    """Our own rows of a data set, below what others report; nothing where there is no database."""
    try:
        names = [name for name in source.choices()["dataset"] if name.partition("[")[0].lower() == dataset.lower()]
        board = source.board({"dataset": names}) if names else pd.DataFrame()
    except ValueError:
        return
    st.subheader(f"Measured here: {sinks.markdown(dataset)}")
    if not len(board):
        st.caption(f"No run on {sinks.markdown(dataset)} yet.")
        return
    columns = columns_of(board)
    named = ("method", "student", "stride", metric_of(board), "seeds", "recipe", "weights", "evaluation", "split")
    shown = {columns[name].title: tables.shown_texts(columns[name], board.head(MOST)) for name in named}
    st.dataframe(pd.DataFrame(shown), hide_index=True)
    more = f" The best {MOST} of {len(board)} rows." if len(board) > MOST else ""
    st.caption(
        "Other recipes, initial weights, input sizes and often other splits than those of the sources above: a number "
        f"here and a number there are no comparison of methods.{more}"
    )


st.title("Reported by others")
st.warning(
    "These numbers were **reported by their authors, or re-run by users; none was measured by us.** Recipes, splits "
    "and seeds are those of the source, mostly one run and the best checkpoint on the very split that is reported. "
    "They are never mixed with measured rows.",
    icon=":material/menu_book:",
)
everything = reported()
dataset = address.choice(
    "Data set", "dataset", sorted(everything["dataset"].unique()), "Cityscapes", draw=st.segmented_control
)
rows = everything[everything["dataset"] == dataset]
for _, part in rows.groupby(["kind", "source", "protocol"], sort=False):
    first = part.iloc[0]
    who = "Reported by authors" if first["kind"] == "authors" else "Re-run by users"
    st.subheader(f"{who}: {first['source']}")
    st.caption(first["protocol"])
    for _, some in part.groupby(["dataset", "split"], sort=False):
        name = f"{some['dataset'].iloc[0]} {some['split'].iloc[0]}".strip()
        st.markdown(f"**{name}**, mIoU [%]{tables.teachers(some)}")
        matrix = tables.reported_matrix(some).reset_index()
        looks: dict[str, Any] = {str(name): st.column_config.NumberColumn(format="%.2f") for name in matrix}
        looks["method"] = st.column_config.TextColumn(width=120)
        st.dataframe(matrix, hide_index=True, width="content", placeholder="", column_config=looks)
measured_here(dataset)
with st.expander("One line a number, with source and note"):
    st.dataframe(display_reported(rows), hide_index=True)
    st.download_button("Download as CSV", render_reported(rows, "csv"), "reported.csv", "text/csv")
