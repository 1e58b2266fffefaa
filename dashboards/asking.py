"""What a reader wants to see: the sidebar that several pages share, drawn from the address."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import address, figures, source
from results import sinks
from results.advice import BUDGET
from results.figures.looks import Looks
from results.leaderboard import columns_of
from results.metrics import HEADLINE, MetricInfo

ROW_ICON = ":material/leaderboard:"
FILTERS = {"student": "Students", "stride": "Output strides", "method": "Methods", "recipe": "Recipes"}
REFERENCES_STAY = "a row passes with a run that has any of them; `none` and teachers always do."
LIMITS = {"macs": "GMACs at most", "latency_ms": "Latency at most [ms]", "parameters": "Parameters at most [M]"}


def dark() -> bool:
    """Whether the page is on a dark ground."""
    return bool(st.context.theme.type == "dark")


def looks() -> Looks:
    """Colours and shapes of everything in the database."""
    return figures.looks(source.rows_in_brief(), dark())


def data_set() -> tuple[dict[str, list[Any]], pd.DataFrame]:
    """One data set, evaluated in one way, for other rows cannot be compared: filters, and its rows in brief."""
    rows = source.rows_in_brief()
    wanted: dict[str, list[Any]] = {}
    with st.sidebar:
        datasets = source.most_runs_first(rows, "dataset")
        wanted["dataset"] = [address.choice("Data set", "dataset", datasets)]
        there = rows[rows["dataset"] == wanted["dataset"][0]]
        ways = source.most_runs_first(there, "evaluation")
        if len(ways) > 1:
            words = "Scores of two ways cannot be compared."
            wanted["evaluation"] = [address.choice("Evaluation", "evaluation", ways, help=words)]
            there = there[there["evaluation"] == wanted["evaluation"][0]]
    return wanted, there


def metric(there: pd.DataFrame) -> str:
    """What to rank by, of what these rows were measured in."""
    known = source.metrics()
    measured = source.measured(there["dataset"].unique(), there["evaluation"].unique()) or [HEADLINE]
    with st.sidebar:
        return str(
            address.choice(
                "Metric",
                "metric",
                measured,
                format_func=lambda name: known[name].heading,
                help=_described(known, measured),
            )
        )


def _described(known: dict[str, MetricInfo], names: list[str]) -> str:
    infos = [known[name] for name in names]
    return "\n\n".join(f"{sinks.markdown(info.heading)}: {sinks.markdown(info.summary)}" for info in infos)


def filters(there: pd.DataFrame) -> dict[str, list[Any]]:
    """Students, heads, strides, methods and recipes; what is not chosen lets everything pass."""
    wanted: dict[str, list[Any]] = {}
    models = there.loc[there["method"] != "teacher", "student"].unique()
    heads = sorted({model.rpartition("/")[2] for model in models})
    with st.sidebar:
        for name, title in FILTERS.items():
            values = sorted(there[name].unique().tolist())
            if len(values) > 1:
                wanted[name] = address.choices(title, name, values, placeholder="all")
            if (
                name == "student"
                and len(heads) > 1
                and (chosen := address.choices("Heads", "head", heads, placeholder="all"))
            ):
                students = wanted.get(name) or values
                # No student of these heads: a name that nothing has, so that nothing passes.
                wanted[name] = [s for s in students if s.rpartition("/")[2] in chosen] or [""]
        wanted["tag"] = tags_of(there)
    return wanted


def tags_of(
    there: pd.DataFrame, what: str = "a row passes with a run that has any of them, and keeps all its runs."
) -> list[str]:
    """The tags that were chosen, of those that the runs of some data sets have."""
    found = source.tagged().datasets
    return tags(sorted({tag for dataset in there["dataset"].unique() for tag in found.get(dataset, ())}), what)


def tags(known: Sequence[str], what: str) -> list[str]:
    """The tags that were chosen, of those that occur; where none does, nothing is asked."""
    if not known and not address.get_all("tag"):
        return []
    return address.choices("Tags", "tag", known, placeholder="all", help=f"Given by `harness tag`; {what}")


def budget() -> dict[str, float]:
    """The most that a row may cost, by column."""
    limits = {}
    with st.sidebar, st.expander("Budget", expanded=any(address.get(f"max_{name}") for name in BUDGET)):
        for name, title in LIMITS.items():
            said = address.text(title, f"max_{name}", placeholder="no limit").strip().replace(",", ".")
            try:
                limit = float(said or "inf")
            except ValueError:
                limit = math.nan
            if math.isnan(limit):
                st.caption(f"`{sinks.markdown(said)}` is no number.")
            elif math.isfinite(limit):
                limits[name] = limit
    return limits


def reads() -> None:
    """Where the numbers come from."""
    st.sidebar.caption(f"Reads `{source.shown_database()}`")


def row_link(board: pd.DataFrame, row: str) -> None:
    """What is behind a row that was clicked in a figure, and the way to all of it."""
    if not board["row"].eq(row).any():
        address.unknown("Row", [row] if row else [])
        return
    chosen = board[board["row"] == row].iloc[0]
    st.markdown(f"**{sinks.markdown(chosen['method'])}** · {sinks.markdown(chosen['student'])}@{chosen['stride']}")
    st.code(chosen["reproduce"], language="bash", wrap_lines=True)
    address.link("leaderboard", "All that is known of this row", ROW_ICON, row=row, dataset=chosen["dataset"])
    if chosen["method"] != "teacher":
        address.link("classes", "Class by class", ":material/category:", row=row, dataset=chosen["dataset"])


def none_of(board: pd.DataFrame, row: pd.Series) -> str | None:
    """The row of `none` that a row is compared with; None where it is not shown."""
    same = board["method"].eq("none") & board["row"].ne(row["row"])
    for name in ("dataset", "evaluation", "student", "stride", "recipe", "weights"):
        same &= board[name].eq(row[name])
    return str(board.loc[same, "row"].iloc[0]) if same.any() else None


def cost_name(board: pd.DataFrame, cost: str) -> str:
    """A cost as people choose it."""
    return columns_of(board)[cost].heading or cost
