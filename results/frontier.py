"""Rows of a leaderboard on resampled images, and whether each is on the frontier of cost and metric."""

from __future__ import annotations

import pandas as pd

from results.compare import Frontier, Resampled, pareto_doubt
from results.leaderboard import metric_info
from results.queries import image_states
from results.standing import Member, keys_of, resampled
from results.store import Store

MOST_DOUBTED = 400
"""Rows for which the doubt of a frontier is worked out; more are not told apart in a picture."""


def members_of(board: pd.DataFrame) -> list[Member]:
    """The rows of a leaderboard."""
    return [
        Member(
            str(row["row"]),
            (),
            str(row["method"]),
            dict(zip(map(int, row["seed_list"].split(",")), row["keys"].split(","), strict=True)),
        )
        for row in board.to_dict("records")
    ]


def resampled_rows(store: Store, board: pd.DataFrame) -> dict[str, Resampled]:
    """The rows of a leaderboard on resampled images (`results.standing.resampled`)."""
    metric, members = metric_info(board), members_of(board)
    return resampled(members, image_states(store, keys_of(members), metric.name), metric)


def frontier_doubt(store: Store, board: pd.DataFrame, cost: str = "macs") -> dict[str, Frontier]:
    """Row -> whether it is on the frontier of cost and metric of the rows shown: "on", "off" or "perhaps".

    Args:
        board: rows of one data set.
        cost: the column that is the cost.

    Returns:
        Empty for more than `MOST_DOUBTED` rows; without rows whose images were not kept.
    """
    if len(board) > MOST_DOUBTED:
        return {}
    known = resampled_rows(store, board)
    shown = board[board["row"].isin(known.keys())]
    if not len(shown):
        return {}
    words, _ = pareto_doubt(shown[cost].astype(float), [known[row] for row in shown["row"]])
    return dict(zip(shown["row"], words, strict=True))
