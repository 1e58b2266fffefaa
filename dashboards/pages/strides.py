"""What output stride does a method buy: the metric over the stride, a line a method."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboards import address, answers, asking, figures, hiding, source
from results import formats, sinks, strides
from results.figures.strides import gain_map, metric_over_stride

TITLE = "Strides"
ICON = ":material/show_chart:"
ORDER = 1.4
FIRST = "chart"
OVER = {"stride": "output stride", "macs": "GMACs", "latency_ms": "latency", "parameters": "parameters"}


def setting(there: pd.DataFrame) -> tuple[str, str, list[str], list[str]]:
    """One student and recipe, the ones with most strides first, and the methods and tags to show."""
    students = there[there["method"] != "teacher"]
    with st.sidebar:
        order = students.groupby("student")["stride"].nunique().sort_values(ascending=False, kind="stable").index
        student = address.choice("Student", "student", list(order))
        own = students[students["student"] == student]
        recipe = address.choice("Recipe", "recipe", most_measured(own))
        names = sorted(set(own["method"]) - {"none"})
        chosen = address.choices("Methods", "method", names, placeholder="all")
        tags = asking.tags_of(there, asking.REFERENCES_STAY)
    return student, recipe, chosen, tags


def most_measured(rows: pd.DataFrame) -> list[str]:
    """The recipes of some rows: those with most strides first, of these those with most runs."""
    grouped = rows.groupby("recipe").agg(strides=("stride", "nunique"), runs=("seeds", "sum"))
    return list(grouped.sort_values(["strides", "runs"], ascending=False, kind="stable").index)


def board(wanted: dict[str, list[Any]], ranked: str, student: str, recipe: str, tags: list[str]) -> pd.DataFrame:
    """The rows of a student and recipe with any of some tags, its `none`, and all teachers of the data set."""
    own = wanted | {"student": [student], "recipe": [recipe]}
    tagged = source.board(own | {"tag": tags}, ranked)
    nones = [source.board(own | {"method": ["none"]}, ranked)] if tags else []
    return source.joined(tagged, *nones, source.board(wanted | {"method": ["teacher"]}, ranked))


def lines(rows: pd.DataFrame) -> None:
    """The picture."""
    looks = asking.looks()
    over = address.choice("Over", "over", list(OVER), draw=st.segmented_control, format_func=OVER.__getitem__)
    chart = metric_over_stride(rows, looks, over)
    if chart is None:
        st.info("The cost of no row that is shown is known.")
        return
    st.html(figures.legend(rows, looks))
    st.altair_chart(chart, width="stretch", theme=None)
    alone = rows["seeds"].eq(1) & rows["method"].ne("teacher")
    said = " Where a row has one seed, its interval is over images alone: not training noise." if alone.any() else ""
    st.caption(f"Bands: 95 % intervals.{said} Grey, dashed: no distillation. Dotted: the teacher, at its own stride.")


def words(rows: pd.DataFrame) -> None:
    """What stride each method buys, in sentences, and how often its runs beat those of `none`."""
    found, chances = answers.over_strides(rows)
    st.subheader("What stride does it buy?")
    if not found:
        st.caption("There is no method beside `none`.")
    column = strides.metric_column_of(rows)
    st.markdown("\n".join(f"* {sinks.markdown(strides.sentence(bought, column))}" for bought in found))
    if found:
        st.caption(
            "Of each method the cheapest stride at which a test does not find it worse than `none` at the next denser "
            "one, with the difference; paired over seeds and images where both have the same. What cannot be told "
            "apart need not be as good: more seeds narrow the interval."
        )
    if len(chances):
        st.markdown("**How often a run beats one of `none`**, over all strides that both have:")
        percent = [100 * chances[name] for name in ("chance", "low", "high")]
        said = [f"{value:.0f} ({low:.0f} to {high:.0f})" for value, low, high in zip(*percent, strict=True)]
        table = pd.DataFrame({"method": chances["method"].map(sinks.visible), "chance [%]": said})
        st.dataframe(table.assign(strides=chances["strides"]), hide_index=True, width="content")


def differences(rows: pd.DataFrame) -> None:
    """The map of differences."""
    st.subheader("Difference to `none`")
    chart = gain_map(rows, asking.looks())
    if chart is None:
        st.caption("No row has a `none` of the same data, student, stride and recipe to be compared with.")
        return
    strides = rows.loc[rows["delta"].notna(), "stride"].nunique()
    left, _ = st.columns([1 + strides, max(1, 5 - strides)])
    left.altair_chart(chart, width="stretch", theme=None)
    st.caption("Blue: better, orange: worse. Pale print: no clear difference, or one seed.")


st.title("Strides")
if source.ready():
    wanted, there = asking.data_set()
    ranked = asking.metric(there)
    student, recipe, methods, tags = setting(there)
    asking.reads()
    rows = strides.one_setting(hiding.left_out(board(wanted, ranked, student, recipe, tags)), student, recipe)
    rows = rows[rows["method"].isin([*methods, "none", "teacher"])] if methods else rows
    rows = rows.reset_index(drop=True)
    if (rows["method"] != "teacher").any():
        st.caption(sinks.markdown(formats.caption(rows)))
        lines(rows)
        words(rows)
        differences(rows)
    else:
        st.info("No row fits these filters.")
