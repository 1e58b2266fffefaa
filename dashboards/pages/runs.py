"""One row a run: attempts, environment, and the record itself."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards import address, figures, source, tables
from results import sinks

TITLE = "Runs"
ICON = ":material/list_alt:"
ORDER = 3


def chosen(runs: pd.DataFrame) -> str | None:
    """The table of all runs; the key of the one that was chosen."""
    with st.sidebar:
        kinds = address.choices("Kind", "kind", sorted(runs["kind"].unique()), placeholder="all")
        text = address.text("Search", "search", placeholder="ka, node1, 3f2a...")
    if kinds:
        runs = runs[runs["kind"].isin(kinds)]
    if text:
        columns = ("key", "name", "host", "device", "job", "revision", "recipe", "dataset", "numerics")
        found = pd.concat([runs[name].str.contains(text, case=False, regex=False) for name in columns], axis=1)
        runs = runs[found.any(axis=1)]
    found_keys = address.table(
        "run",
        tables.runs_table(runs),
        list(runs["key"]),
        hide_index=True,
        height=min(38 + 35 * max(1, len(runs)), 500),
    )
    return found_keys[0] if found_keys else None


def details(key: str) -> None:
    """All that is known of one run."""
    run = source.run(key)
    record = run.record
    st.header(sinks.markdown(record.name))
    st.code(record.reproduce, language="bash", wrap_lines=True)
    if run.row["problem"]:
        st.warning(f"confusion.npz: {sinks.markdown(run.row['problem'])}")
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Attempts")
        st.dataframe(pd.DataFrame([attempt.model_dump() for attempt in record.attempts]), hide_index=True)
        if record.training.terms:
            st.subheader("Terms, unweighted")
            st.dataframe(pd.DataFrame({n: t.model_dump() for n, t in record.training.terms.items()}).T)
        if record.cost:
            st.subheader("Multiply-adds by operator")
            macs = pd.Series(record.cost.macs_by_operator, name="GMACs").div(1e9).sort_values(ascending=False)
            st.dataframe(macs.round(4))
            if record.cost.uncounted:
                st.caption(
                    "Not counted: " + ", ".join(f"{sinks.markdown(n)} × {c}" for n, c in record.cost.uncounted.items())
                )
    with right:
        if record.metrics:
            st.subheader("IoU by class")
            st.altair_chart(figures.class_bars(source.per_class([key])), width="stretch", theme=None)
        st.subheader("Environment")
        st.json(record.environment.model_dump(), expanded=True)
    with st.expander("The record"):
        st.json(record.model_dump(mode="json"), expanded=1)


st.title("Runs")
if source.ready():
    everything = source.all_runs()
    st.caption(f"{len(everything)} finished stages, newest first. Choose one to see all that is known of it.")
    key = chosen(everything)
    if key and everything["key"].eq(key).any():
        details(key)
