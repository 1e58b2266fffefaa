"""The leaderboard's table, or, where it is grouped, a table a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from dashboards import address, source, tables
from results import groups, sinks
from results.columns import Column
from results.tags import with_tags

GROUPS = 12  # tables of a page
ONLY = "only"  # of the address: the group that is shown alone
HEIGHT = 388  # of the table at most [pixels]: what is told of a row begins above the lower edge of a window of 900


def table(board: pd.DataFrame, columns: Sequence[Column]) -> None:
    """The table, a page of it where it is long."""
    with st.sidebar:
        first = source.PAGE * (address.page(len(board), source.PAGE) - 1)
    shown = _complete(board.iloc[first : first + source.PAGE], board)
    texts = tables.board_texts(shown, columns)
    _grid(shown, texts, tables.board_fit(texts))


def _complete(rows: pd.DataFrame, board: pd.DataFrame) -> pd.DataFrame:
    """Some rows with all columns."""
    return with_tags(source.complete(rows, board), source.tagged().rows)


def _grid(shown: pd.DataFrame, texts: tables.Texts, fit: tables.Fit) -> None:
    """Rows as a table in which they are chosen."""
    address.table(
        "row",
        tables.board_table(shown, texts),
        list(shown["row"]),
        several=True,
        hide_index=True,
        height=fit.height(len(shown), HEIGHT),
        row_height=fit.row,
        placeholder="",
        column_config={
            column.title: st.column_config.Column(
                help=sinks.markdown(column.help) or None, width=fit.widths[column.title]
            )
            for column in texts
        },
    )


def in_groups(board: pd.DataFrame, columns: Sequence[Column], by: str, behind: Callable[[pd.DataFrame], None]) -> bool:
    """A table a group, those with the first rows first.

    Args:
        behind: draws what there is to see of the chosen rows, below the table that has the last of them.

    Returns:
        Whether a table has it.
    """
    found = groups.groups_of(board, by)
    columns = [column for column in columns if column.name != by or by == "method"]
    if ONLY in st.query_params:
        one = next((group for group in found if group.value == address.get(ONLY)), None)
        if one:
            _heading(board, one, by)
            address.step("All groups", ":material/arrow_back:", page=None, **{ONLY: None})
            table(_part(board, one.rows), columns)
            return False
        address.unknown("Group", [address.get(ONLY)])
    with st.sidebar:
        first = GROUPS * (address.page(len(found), GROUPS) - 1)
    found = found[first : first + GROUPS]
    places = groups.first_of(found, source.PAGE)
    shown = _complete(_part(board, [place for group in found for place in places[group.value]]), board)
    fit = tables.board_fit(tables.board_texts(shown, columns))
    drawn = False
    for group in found:
        _heading(board, group, by)
        keys = board["row"].iloc[list(places[group.value])]
        rows = shown[shown["row"].isin(keys)].reset_index(drop=True)
        texts = tables.board_texts(rows, columns)
        _grid(rows, texts, tables.board_fit(texts, fit))
        if len(group.rows) > len(keys):
            said = f"All {len(group.rows)} rows of {group.title(by)}; above are the first {len(keys)}"
            address.step(sinks.markdown(said), ":material/unfold_more:", page=None, **{ONLY: group.value})
        if rows["row"].isin(address.get_all("row")[-1:]).any():
            behind(board)
            drawn = True
    return drawn


def _part(board: pd.DataFrame, places: Sequence[int]) -> pd.DataFrame:
    """Some rows of a board, by their positions."""
    return board.iloc[list(places)].reset_index(drop=True)


def _heading(board: pd.DataFrame, group: groups.Group, by: str) -> None:
    """What a group is called, how many rows it has, and its best."""
    with st.container(gap=None):
        st.markdown(f"#### {sinks.markdown(group.title(by))}")
        st.caption(sinks.markdown(groups.said_of(board, group)))
