"""Published rows: reported by their authors, not measured by us."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboards import address, tables
from results.reported import display_reported, render_reported, reported

TITLE = "Reported"
ICON = ":material/menu_book:"
ORDER = 2

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
with st.expander("One line a number, with source and note"):
    st.dataframe(display_reported(rows), hide_index=True)
    st.download_button("Download as CSV", render_reported(rows, "csv"), "reported.csv", "text/csv")
