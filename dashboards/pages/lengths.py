"""From which length of training on does a method gain? Differences to `none` over the iterations."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboards import address, answers, asking, figures, hiding, source
from results import formats, sinks
from results.columns import Column
from results.figures.lengths import gain_over_length
from results.leaderboard import columns_of, metric_of

TITLE = "Lengths"
ICON = ":material/timeline:"
ORDER = 1.6
FIRST = "chart"


def setting(there: pd.DataFrame) -> tuple[str, int, list[str], list[str]]:
    """One student and stride, those under most recipes first, and the methods and tags to show."""
    students = there[there["method"] != "teacher"]
    counts = students.groupby(["student", "stride"]).agg(recipes=("recipe", "nunique"), runs=("seeds", "sum"))
    settings = counts.sort_values(["recipes", "runs"], ascending=False, kind="stable").index
    with st.sidebar:
        student = address.choice("Student", "student", list(dict.fromkeys(settings.get_level_values(0))))
        strides = [stride for name, stride in settings if name == student]
        stride = address.choice("Output stride", "stride", strides)
        own = students[(students["student"] == student) & (students["stride"] == stride)]
        chosen = address.choices("Methods", "method", sorted(set(own["method"]) - {"none"}), placeholder="all")
        tags = asking.tags_of(there, asking.REFERENCES_STAY)
    return student, stride, chosen, tags


def board(wanted: dict[str, list[Any]], ranked: str, tags: list[str]) -> pd.DataFrame:
    """The rows of a setting with any of some tags, and every `none` that they are compared with."""
    tagged = source.board(wanted | {"tag": tags}, ranked)
    return source.joined(tagged, source.board(wanted | {"method": ["none"]}, ranked)) if tags else tagged


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The score and the difference of every method and length."""
    columns, metric = columns_of(rows), metric_of(rows)

    def cells(column: Column) -> list[str]:
        return list(formats.cells(column, rows))

    return pd.DataFrame(
        {
            "method": rows["method"].map(sinks.visible),
            "iterations": rows["iterations"],
            columns[metric].title: cells(columns[metric]),
            columns["delta"].title: cells(columns["delta"]),
            "verdict": rows["verdict"],
            "seeds": rows["seeds"],
            "recipe": rows["recipe"].map(sinks.visible),
        }
    )


def picture(rows: pd.DataFrame) -> None:
    """The curves, or what is missing for them."""
    looks = asking.looks()
    chart = gain_over_length(rows, looks)
    if chart is None:
        st.info("No row has a `none` of the same data, student, stride and recipe to be compared with.")
        return
    st.html(figures.legend(rows[rows["delta"].notna()], looks))
    st.altair_chart(chart, width="stretch", theme=None)
    st.caption(
        "Differences to `none` trained for as long, with 95 % intervals; recipes that differ in nothing but the number "
        "of iterations. The dashed line is `none`."
    )


st.title("Lengths")
if source.ready():
    wanted, there = asking.data_set()
    ranked = asking.metric(there)
    student, stride, methods, tags = setting(there)
    asking.reads()
    rows = hiding.left_out(board(wanted | {"student": [student], "stride": [stride]}, ranked, tags))
    rows = answers.over_lengths(rows[rows["method"] != "teacher"])
    rows = rows[rows["method"].isin([*methods, "none"])].reset_index(drop=True) if methods else rows
    if not len(rows):
        st.info("No row fits these filters.")
    else:
        st.caption(sinks.markdown(formats.caption(rows)))
        if rows["iterations"].nunique() < 2:
            st.info("One length of training so far. For a second one:")
            st.code("harness sweep ... --set student.iterations=2000", language="bash")
        picture(rows)
        st.dataframe(shown(rows), hide_index=True, width="stretch")
