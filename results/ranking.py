"""What of the leaderboard depends on all its rows: Holm's correction, the frontier, fewer images, the order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd

from results.board import most_images, p_values
from results.columns import Column
from results.flags import with_fewer_images
from results.metrics import MetricInfo
from results.rows import Known
from results.statistics import holm, pareto
from results.store import Store

COMPARABLE = ("dataset", "evaluation")
"""What rows must have in common to be ranked together."""


def ranked(
    store: Store,
    board: pd.DataFrame,
    known: Known,
    metric: str,
    sort: Column,
    descending: bool | None = None,
    whole: bool = False,
) -> pd.DataFrame:
    """Rows of the leaderboard in order, with what follows from all of them.

    Args:
        board: rows as `results.board.read_rows` gives them: row, p, flags, images, macs, the metric, and the column to
            sort by are needed.
        sort: the column to sort by the rows that can be compared.
        descending: the default is what puts the best first, as the column declares.
        whole: these are all rows of their data sets that the database has.

    Returns:
        The rows with `p_holm` and `frontier`, and in `attrs` what `results.leaderboard.leaderboard` says.
    """
    datasets = board["dataset"].unique().tolist()
    pending = int(board["pending"].sum())
    board["tier"] = board["tier"].astype("Int64")
    board["flags"] = _flags(board, _most_images(board) if whole else most_images(store, metric, datasets))
    board["p_holm"], comparisons = _holm(board, {} if whole else p_values(store, metric, datasets))
    board["frontier"] = _frontier(board, known[metric])
    down = sort.direction == "higher" if descending is None else descending
    order = list(dict.fromkeys([*COMPARABLE, sort.name, "student", "stride", "method", "row"]))
    board = board.sort_values(order, ascending=[name != sort.name or not down for name in order], na_position="last")
    board = board.reset_index(drop=True)
    board.attrs = {
        "metric": metric,
        "metrics": {name: asdict(info) for name, info in known.items()},
        "comparisons": comparisons,
        "pending": pending,
    }
    return board


def _most_images(board: pd.DataFrame) -> dict[tuple[str, ...], float]:
    """(data set, manifest, split) -> the most images that a row was evaluated on there."""
    if board["images"].nunique() < 2:
        return {}
    return dict(board.groupby(["dataset", "manifest", "split"])["images"].max())


def _flags(board: pd.DataFrame, most: Mapping[tuple[str, ...], float]) -> pd.Series:
    """The flags of every row, with the one that depends on all rows of the same data and split."""
    flags = board["flags"].copy()
    perhaps = board[board["images"] < max(most.values(), default=0)]
    where = zip(perhaps["dataset"], perhaps["manifest"], perhaps["split"])
    fewer = [images < most.get(split, 0) for images, split in zip(perhaps["images"], where)]
    places = perhaps.index[fewer]
    flags[places] = [with_fewer_images(words) for words in flags[places]]
    return flags


def _holm(board: pd.DataFrame, family: Mapping[str, pd.Series]) -> tuple[pd.Series, dict[str, int]]:
    """Holm's p-values over all comparisons of each data set in the database, and how many those are.

    Args:
        family: data set -> p-values by row, of every row in the database that is compared; those shown may be left out.
    """
    adjusted = pd.Series(float("nan"), index=board.index)
    counts = {}
    for dataset, part in board.groupby("dataset", sort=True):
        own = pd.Series(part["p"].to_numpy(), index=part["row"].to_numpy(dtype=object), dtype=float)
        others = family.get(str(dataset))
        of_set = own if others is None else pd.concat([own, others[~others.index.isin(own.index)]])
        adjusted.loc[part.index] = holm(of_set.to_numpy())[: len(own)]
        counts[str(dataset)] = int(of_set.notna().sum())
    return adjusted, counts


def _frontier(board: pd.DataFrame, metric: MetricInfo) -> pd.Series:
    """Which rows no other row that can be compared with them beats in both cost and metric."""
    front = pd.Series(False, index=board.index)
    for _, part in board.groupby(list(COMPARABLE), sort=False):
        values = part[metric.name] if metric.direction == "higher" else -part[metric.name]
        front.loc[part.index] = pareto(part["macs"], values)
    return front
