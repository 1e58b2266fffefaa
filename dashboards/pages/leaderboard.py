"""The first page: how accurate, how sure, at what cost."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboards import address, figures, samples, source, tables
from results import formats, sinks
from results.leaderboard import COMPARABLE, metric_of
from results.metrics import MetricInfo

TITLE = "Leaderboard"
ICON = ":material/leaderboard:"
ORDER = 1
FILTERS = {"student": "Students", "stride": "Output strides", "method": "Methods", "recipe": "Recipes"}


def asked() -> tuple[dict[str, list[Any]], str]:
    """What the reader wants to see, and the metric to rank by. One data set at a time, evaluated in one way: other rows
    cannot be compared."""
    runs = source.all_runs()
    runs = runs[runs["miou"].notna()]
    known = source.metrics()
    datasets = list(runs["dataset"].value_counts().index)  # the one with most runs first
    wanted: dict[str, list[Any]] = {}
    with st.sidebar:
        wanted["dataset"] = [address.choice("Data set", "dataset", datasets)]
        there = runs[runs["dataset"] == wanted["dataset"][0]]
        ways = list(there["evaluation"].value_counts().index)
        if len(ways) > 1:
            wanted["evaluation"] = [st.selectbox("Evaluation", ways, help="Scores of two ways cannot be compared.")]
            there = there[there["evaluation"] == wanted["evaluation"][0]]
        measured = [name for name in known if there[name].notna().any()]
        metric = address.choice(
            "Metric", "metric", measured, format_func=lambda name: known[name].heading, help=_described(known, measured)
        )
        for name, title in FILTERS.items():
            values = sorted(there[name].unique().tolist())
            if len(values) > 1:
                wanted[name] = address.choices(title, name, values, placeholder="all")
        st.caption(f"Reads `{source.shown_database()}`")
    return wanted, str(metric)


def _described(known: dict[str, MetricInfo], names: list[str]) -> str:
    infos = [known[name] for name in names]
    return "\n\n".join(f"{sinks.markdown(info.heading)}: {sinks.markdown(info.summary)}" for info in infos)


def overview(board: pd.DataFrame) -> None:
    """Title and the few numbers."""
    st.title("Leaderboard")
    numbers = tables.summary(board)
    left, middle, right, last = st.columns(4)
    left.metric(f"best student: {sinks.markdown(numbers['best student is'])}", numbers["best student"])
    middle.metric("clearly better than `none`", numbers["clearly better than none"])
    right.metric("rows", numbers["rows"])
    last.metric("runs behind them", numbers["runs"])
    st.caption(sinks.markdown(formats.caption(board)))


def ordered(board: pd.DataFrame) -> pd.DataFrame:
    """The rows in the order that the reader wants; a click on a heading sorts too, but no link can tell of that."""
    columns = {column.name: column for column in tables.board_columns(board)}
    with st.sidebar:
        by = address.choice(
            "Sort by",
            "sort",
            ["rank", *columns],
            format_func=lambda name: columns[name].title if name in columns else name,
        )
        backwards = address.switch("the other way round", "reverse")
    if by == "rank":
        return board.iloc[::-1].reset_index(drop=True) if backwards else board
    best_first = columns[by].direction == "higher"
    return board.sort_values(by, ascending=best_first == backwards, kind="stable", ignore_index=True)


def table(board: pd.DataFrame) -> list[str]:
    """The table; the keys of the rows that were chosen."""
    chosen = address.table(
        "row",
        tables.board_table(board),
        list(board["row"]),
        hide_index=True,
        height=min(38 + 35 * len(board), 600),
        placeholder="",
        column_config={
            column.title: st.column_config.Column(help=sinks.markdown(column.help) or None, width=width)
            for column, width in tables.widths(board).items()
        },
    )
    st.download_button(
        "Download as CSV", formats.as_csv(board), "leaderboard.csv", "text/csv", icon=":material/download:"
    )
    return chosen


def charts(board: pd.DataFrame) -> None:
    """Accuracy against cost, and the gain over `none`."""
    looks = figures.looks(source.all_runs())
    st.html(figures.legend(board, looks))
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader("Accuracy against cost")
        shown = board
        if (board["method"] == "teacher").any() and (board["method"] != "teacher").any():
            with_teachers = address.switch("with teachers", "teachers", help="Teachers are far above and to the right.")
            shown = board if with_teachers else board[board["method"] != "teacher"]
        st.altair_chart(figures.accuracy_against_cost(shown, looks), width="stretch", theme=None)
        st.caption("Dashed: the Pareto frontier. Points of equal cost are set side by side.")
    with right:
        st.subheader("Gain over `none`")
        gain = figures.gain_over_none(board, looks)
        if gain is None:
            st.caption("No row has a `none` of the same data, student, stride and recipe to be compared with.")
        else:
            st.altair_chart(gain, width="stretch", theme=None)
            st.caption("An interval that crosses the line is not a clear difference.")


def details(board: pd.DataFrame, chosen: str | None) -> None:
    """Everything behind one row."""
    if chosen is None:
        st.info("Choose a row of the table to see what is behind it, and the command that makes it again.")
        return
    if not board["row"].eq(chosen).any():
        st.info("The row that was chosen is not among those shown. Choose another, or take the filters off.")
        return
    row = board[board["row"] == chosen].iloc[0]
    keys = row["keys"].split(",")
    st.header(sinks.markdown(f"{row['method']} · {row['student']}@{row['stride']}"))
    st.caption(f"Row `{chosen}`. The address of this page leads to it, with all that was chosen.")
    st.markdown("Make it again:")
    st.code(row["reproduce"], language="bash", wrap_lines=True)
    if row["dirty"]:
        st.warning("At least one run was made with changes to the code that no commit holds.")
    if row["numerics"]:
        st.warning(f"Numerics: {sinks.markdown(row['numerics'])}")
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.subheader("IoU by class")
        beside = _baseline(board, row)
        st.altair_chart(figures.class_bars(source.per_class(keys), beside), width="stretch", theme=None)
        if beside is not None:
            st.caption("Dark ticks: `none` of the same student, stride and data.")
    with right:
        st.subheader("Runs behind it")
        st.dataframe(tables.seeds_table(source.all_runs(), keys), hide_index=True)
        compared = f" Δ: {row['delta_basis']}." if row["delta_basis"] else ""
        st.caption(f"Interval: {row[f'{metric_of(board)}_basis']}.{compared}")
        samples.draw(keys)


def _baseline(board: pd.DataFrame, row: pd.Series) -> pd.DataFrame | None:
    """IoU by class of the `none` beside a row, where it is among the rows shown."""
    same = board["method"].eq("none")
    for name in (*COMPARABLE, "student", "stride", "recipe", "weights"):
        same &= board[name].eq(row[name])
    if row["method"] in ("none", "teacher") or not same.any():
        return None
    return source.per_class(board.loc[same, "keys"].iloc[0].split(","))


if source.ready():
    rows = source.board(*asked())
    if len(rows):
        overview(rows)
        rows = ordered(rows)
        chosen = table(rows)
        details(rows, chosen[0] if chosen else None)
        with st.expander("How to read this"):
            for said in tables.reading(rows):
                st.markdown(said)
        charts(rows)
    else:
        st.title("Leaderboard")
        st.info("No row fits these filters.")
