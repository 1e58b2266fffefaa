"""The first page: how accurate, how sure, at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import address, asking, board_view, figures, hiding, samples, source, stages, tables
from results import advice, formats, groups, sinks
from results.columns import Column
from results.exports import EXPORTS
from results.leaderboard import metric_of
from results.tags import with_tags

TITLE = "Leaderboard"
ICON = ":material/leaderboard:"
ORDER = 1
FIRST = "table"
LINKED = 5  # runs of a row that have a link
FILES = {
    "csv": ("Download as CSV", "csv", "text/csv"),
    "md": ("Markdown", "md", "text/markdown"),
    "latex": ("LaTeX", "tex", "application/x-tex"),
    "json": ("JSON", "json", "application/json"),
    "parquet": ("Parquet", "parquet", "application/vnd.apache.parquet"),
}  # format -> label, ending, type


def rows_of(
    wanted: dict[str, list[Any]], ranked: str, limits: dict[str, float], *more: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All rows in brief with their tags, and those that are hidden.

    Args:
        more: columns beside those of every row in brief.
    """
    everything = advice.within(source.brief_board(wanted, ranked, [*limits, *more]), limits)
    rows, hidden = hiding.split(everything)
    return with_tags(rows, source.tagged().rows), hidden


def overview(board: pd.DataFrame) -> None:
    """The few numbers."""
    numbers = tables.summary(board)
    left, middle, right, last = st.columns(4)
    left.metric(f"best student: {sinks.markdown(numbers['best student is'])}", numbers["best student"])
    middle.metric("clearly better than `none`", numbers["clearly better than none"])
    right.metric("rows", numbers["rows"])
    last.metric("runs behind them", numbers["runs"])
    st.caption(sinks.markdown(tables.caption(board)))
    if said := advice.cheapest_near_best(board):
        st.markdown(sinks.markdown(said))


def order(board: pd.DataFrame, columns: Sequence[Column]) -> tuple[str, bool, str]:
    """The column to sort by, or "rank", whether in reverse, and what to group by, or "nothing".

    A click on a heading sorts too, but is not in the link.
    """
    titles = {column.name: column.title for column in columns}
    with st.sidebar:
        by = address.choice("Sort by", "sort", ["rank", *titles], format_func=lambda name: titles.get(name, name))
        backwards = address.switch("in reverse", "reverse")
        return str(by), backwards, address.choice("Group by", "group", ["nothing", *groups.several(board)])


def ordered(board: pd.DataFrame, by: str, backwards: bool, columns: Sequence[Column]) -> pd.DataFrame:
    """The rows in the order that the reader wants."""
    if by == "rank":
        return board.iloc[::-1].reset_index(drop=True) if backwards else board
    best_first = next(column.direction for column in columns if column.name == by) == "higher"
    up = best_first == backwards
    return board.sort_values(by, ascending=up, kind="stable", ignore_index=True, key=lambda v: v.where(v != ""))


def behind(board: pd.DataFrame) -> None:
    """What there is to see of the rows that are chosen."""
    chosen = address.get_all("row")
    if len(chosen) > 1:
        address.link("compare", f"Compare these {len(chosen)} rows", ":material/compare_arrows:", side=chosen[:6])
    details(board, chosen[-1] if chosen else None)


def download(board: pd.DataFrame, wanted: dict[str, list[Any]], hidden: int) -> None:
    """The rows shown with every column, read when they are asked for."""

    def content(form: str) -> bytes:
        everything = source.board(wanted, metric_of(board))
        found = everything.set_index("row", drop=False).reindex(list(board["row"])).reset_index(drop=True)
        found.attrs = everything.attrs | {"hidden": hidden}
        return EXPORTS[form](with_tags(found, source.tagged().rows))

    with st.container(horizontal=True):
        for form, (label, suffix, mime) in FILES.items():
            st.download_button(
                label, partial(content, form), f"leaderboard.{suffix}", mime, icon=":material/download:", key=form
            )


def details(board: pd.DataFrame, chosen: str | None) -> None:
    """Everything behind one row."""
    if chosen is None:
        st.info(
            "Choose a row of the table to see all of it, and the command that makes it again; several to compare them."
        )
        return
    if not board["row"].eq(chosen).any():
        st.info("The row that was chosen is not among those shown. Choose another, or take the filters off.")
        return
    row = source.complete(board[board["row"] == chosen], board).iloc[0]
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
        st.altair_chart(figures.class_bars(source.per_class(keys), beside, asking.looks()), width="stretch", theme=None)
        if beside is not None:
            st.caption("Ticks: `none` of the same student, stride and data.")
    with right:
        st.subheader("Runs behind it")
        runs = with_tags(source.runs_of(keys).sort_values("seed"), stages.tags(), by="key")
        st.dataframe(tables.seeds_table(runs, keys), hide_index=True)
        with st.container(horizontal=True):
            for seed, key in list(zip(runs["seed"], runs["key"], strict=True))[:LINKED]:
                address.link("run", f"Curves of seed {seed}", ":material/monitoring:", run=key)
        compared = f" Δ: {row['delta_basis']}." if row["delta_basis"] else ""
        st.caption(f"Interval: {row[f'{metric_of(board)}_basis']}.{compared}{_cost(row)}")
        samples.draw(keys)


def _cost(row: pd.Series) -> str:
    """What its training cost, in the two parts of it; "" where they are not both known."""
    own, shared = row["own_training_s"] / 3600, row["shared_training_s"] / 3600
    if not shared > 0 or pd.isna(own):
        return ""
    parts = f"{formats.number(own)} h its own, {formats.number(shared)} h its part of its teacher's and translators'"
    return f" Training: {formats.number(own + shared)} h, {parts}."


def _baseline(board: pd.DataFrame, row: pd.Series) -> pd.DataFrame | None:
    """IoU by class of the `none` beside a row, where it is among the rows shown."""
    none = None if row["method"] in ("none", "teacher") else asking.none_of(board, row)
    if none is None:
        return None
    return source.per_class(source.complete(board[board["row"] == none], board)["keys"].iloc[0].split(","))


def hidden_rows(board: pd.DataFrame) -> None:
    """Rows that are hidden, and why."""
    if not len(board):
        return
    with st.expander(f"{len(board)} hidden row{'' if len(board) == 1 else 's'}"):
        shown = source.complete(board.head(source.PAGE), board)
        st.dataframe(tables.hidden_table(shown, stages.hidden()), hide_index=True)
        st.caption("They count in tiers, intervals and corrections all the same. `harness hide RUN --undo` shows them.")


st.title("Leaderboard")
if source.ready():
    wanted, there = asking.data_set()
    ranked = asking.metric(there)
    wanted |= asking.filters(there)
    limits = asking.budget()
    rows, hidden = rows_of(wanted, ranked, limits)
    asking.reads()
    if len(rows):
        overview(rows)
        columns = tables.board_columns(rows)
        by, backwards, group = order(rows, columns)
        if by != "rank" and by not in rows:
            rows, hidden = rows_of(wanted, ranked, limits, by)
        rows = ordered(rows, by, backwards, columns)
        told = False
        if group == "nothing":
            board_view.table(rows, columns)
        else:
            told = board_view.in_groups(rows, columns, group, behind)
        if pending := rows.attrs.get("pending"):
            said = f"Tiers and intervals over images of {pending} rows are not computed yet"
            st.caption(f"{said}: `harness collect` does it.")
        download(rows, wanted, len(hidden))
        if not told:
            behind(rows)
        hidden_rows(hidden)
        with st.expander("How to read this"):
            for said in tables.reading(rows):
                st.markdown(said)
    else:
        st.info("No row fits these filters.")
        hidden_rows(hidden)
