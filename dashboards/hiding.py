"""Rows that `harness hide` hides: every page leaves them out; the page Leaderboard lists them, with their reasons."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards import source, stages
from results.leaderboard import metric_of


def split(board: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows to be shown, and those all of whose runs are hidden."""
    known = stages.hidden().keys()
    if not known:
        return board, board[:0]
    hidden = board["row"].isin(source.all_hidden(metric_of(board), known))
    return board[~hidden].reset_index(drop=True), board[hidden]


def left_out(board: pd.DataFrame) -> pd.DataFrame:
    """The rows to be shown; the page says how many are not."""
    shown, hidden = split(board)
    if len(hidden):
        rows = f"{len(hidden)} hidden row{' is' if len(hidden) == 1 else 's are'}"
        st.caption(f"{rows} left out: the page Leaderboard lists what is hidden, and why.")
    return shown
