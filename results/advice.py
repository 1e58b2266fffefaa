"""What the table says to somebody who has to choose."""

from __future__ import annotations

import pandas as pd

from results import formats
from results.leaderboard import columns_of, metric_of

CLOSE = 0.01
"""A point of a metric in per cent: what is near enough to the best, as a fraction."""
BUDGET = {"macs": "GMACs", "latency_ms": "ms", "parameters": "M parameters"}
"""Costs that can be limited, and the unit in which a limit is said."""


def within(board: pd.DataFrame, budget: dict[str, float]) -> pd.DataFrame:
    """The rows that cost at most so much; rows of unknown cost are not among them.

    Args:
        budget: column of `BUDGET` -> the most, in the column's unit (GMACs, ms, millions).
    """
    columns = columns_of(board)
    for name, most in budget.items():
        board = board[board[name].astype(float) * columns[name].factor <= most]
    return board.reset_index(drop=True)


def cheapest_near_best(board: pd.DataFrame, cost: str = "macs") -> str:
    """Which row is the cheapest within a point of the best, in a sentence; "" where none can be named.

    Args:
        board: rows of one data set, evaluated alike; teachers are not looked at.
        cost: what cheap means.
    """
    columns, metric = columns_of(board), columns_of(board)[metric_of(board)]
    rows = board[board["method"].ne("teacher") & board[metric.name].notna() & board[cost].notna()]
    if len(rows) < 2 or metric.unit != "%":
        return ""
    sign = 1 if metric.direction == "higher" else -1
    best = rows.sort_values([metric.name, cost], ascending=[sign < 0, True]).iloc[0]
    near = rows[(best[metric.name] - rows[metric.name]).abs() <= CLOSE]
    cheapest = near.sort_values([cost, metric.name], ascending=[True, sign < 0]).iloc[0]

    def said(row: pd.Series) -> str:
        value = formats.with_interval(metric, row.to_dict()).removesuffix(" ¹")
        unit = columns[cost].unit or columns[cost].heading
        return f"{_name(row, rows)}, {value} %, {formats.cell(columns[cost], row[cost])} {unit}"

    if cheapest["row"] == best["row"]:
        return f"Best: {said(best)}. No cheaper row is within a point of it."
    share = 100 * cheapest[cost] / best[cost]
    less = f"{share:.0f} % of its cost" if share < 99.5 else "the same cost"
    return f"Best: {said(best)}. Cheapest within a point of it: {said(cheapest)} ({less})."


def _name(row: pd.Series, rows: pd.DataFrame) -> str:
    student = f" · {row['student']}" if rows["student"].nunique() > 1 else ""
    return f"{row['method']} @{row['stride']}{student}"
