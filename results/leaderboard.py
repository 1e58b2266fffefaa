"""The leaderboard: runs of one setting as one row, with intervals and differences from `none`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict

import pandas as pd
from sqlalchemy import and_

from results import store as schema
from results.board import (
    frame_of,
    lesson_costs,
    most_images,
    p_values,
    read_rows,
    rows_of_runs,
    runs_of,
    training_cost,
)
from results.columns import METRICS, Column, board_columns
from results.flags import NOT_AHEAD, flags_of, with_fewer_images
from results.metrics import HEADLINE, MetricInfo
from results.queries import SETTING, Filters, image_states, matching, metrics
from results.rows import Known, baselines_of, drawn_rows, groups_of, row_of, single_seeds
from results.statistics import holm, pareto
from results.store import Store

BOARD = tuple(column.name for column in board_columns(METRICS))
"""Columns of a leaderboard that is ranked by mIoU, of runs that have no metrics of their own."""
COMPARABLE = ("dataset", "evaluation")
"""What rows must have in common to be ranked together."""


MOST_DRAWN = 16
"""Families that reading draws where collecting had no time for them: a few seconds at most."""

MOST_NAMED = 10_000
"""Values that a question may name; SQLite takes three times as many."""


def leaderboard(
    store: Store,
    filters: Filters | None = None,
    sort: str | None = None,
    descending: bool | None = None,
    keys: Iterable[str] | None = None,
    metric: str = HEADLINE,
    most_drawn: int | None = MOST_DRAWN,
) -> pd.DataFrame:
    """The leaderboard: one row a cell without its seed, with the columns of `results.columns.board_columns`.

    Δ is to the `none` of the same data, student, stride, recipe and initial weights, even where a filter hides that
    row. `p_holm` is corrected for all comparisons of the data set in the database, whatever is shown; `frontier` marks
    the rows that no other row shown beats in both metric and MACs. Teachers are rows of method "teacher".
    Rows of one data set that were evaluated alike stand together, for other numbers cannot be compared.
    `tier`, `gap_closed` and `flags` are of all rows of the same setting in the database (`results.standing`).

    Args:
        filters: as for `runs`.
        sort: a column to sort by the rows that can be compared; the metric by default.
        descending: the default is what puts the best first, as the column declares.
        keys: show only rows to which one of these runs belongs (with all seeds of such a row).
        metric: what the rows are ranked by, with interval and Δ.
        most_drawn: intervals over images and tiers that collecting had no time for are drawn now, for so many families
            (data set, student and stride) at most; None for all.

    Returns:
        A data frame; `attrs` holds `metric` and `metrics`, what each declares (see `columns_of`), and `pending`, the
        number of rows whose tiers and intervals over images are not drawn.

    Raises:
        ValueError: a filter's or the sort's column, or the metric, does not exist.
    """
    known = metrics(store)
    if metric not in known:
        raise ValueError(f"no run has the metric '{metric}': there are {', '.join(known)}")
    columns = board_columns(known, metric)
    named = {column.name: column for column in columns}
    sort = sort or metric
    if sort not in named:
        raise ValueError(f"there is no column '{sort}' to sort by: {', '.join(named)}")
    wanted = {name: values for name, values in matching(filters or {}).items() if values}
    if "seed" in wanted:
        board = _of_seeds(store, wanted, keys, known, metric, most_drawn)
    else:
        conditions = [schema.board.c[name].in_(values) for name, values in wanted.items()]
        rows = None if keys is None else rows_of_runs(store, keys)
        if rows is not None and len(rows) <= MOST_NAMED:
            conditions.append(schema.board.c.row.in_(rows))
        board = read_rows(store, metric, conditions, columns)
        board = board if rows is None else board[board["row"].isin(rows)].reset_index(drop=True)
        board = _drawn(store, board, known, metric, most_drawn)
    pending = int(board["pending"].sum())
    board["tier"] = board["tier"].astype("Int64")
    board["flags"] = _flags(board, most_images(store, metric, set(board["dataset"])))
    board["p_holm"], comparisons = _holm(board, p_values(store, metric, set(board["dataset"])))
    board["frontier"] = _frontier(board, known[metric])
    down = named[sort].direction == "higher" if descending is None else descending
    order = list(dict.fromkeys([*COMPARABLE, sort, "student", "stride", "method", "row"]))
    board = board.sort_values(order, ascending=[name != sort or not down for name in order], na_position="last")
    board = board[list(named)].reset_index(drop=True)
    board.attrs = {
        "metric": metric,
        "metrics": {name: asdict(info) for name, info in known.items()},
        "comparisons": comparisons,
        "pending": pending,
    }
    return board


def _of_seeds(
    store: Store, filters: Filters, keys: Iterable[str] | None, known: Known, metric: str, most: int | None
) -> pd.DataFrame:
    """The rows of some seeds only, which the database does not keep: computed from their runs.

    How they stand is that of their whole rows.
    """
    r = schema.runs.c
    conditions = {name: r[name].in_(list(values)) for name, values in filters.items()}
    setting = [condition for name, condition in conditions.items() if name in SETTING]
    with store.read() as connection:
        shown = runs_of(connection, and_(r.method.is_not(None), *conditions.values()))
        everything = runs_of(connection, and_(r.method.is_not(None), *setting))
        costs = lesson_costs(connection)
    if keys is not None:
        wanted = {run["row"] for run in shown if run["key"] in set(keys)}
        shown = [run for run in shown if run["row"] in wanted]
    groups, baselines = groups_of(shown, metric), baselines_of(groups_of(everything, metric))
    states = image_states(store, single_seeds(groups, baselines), metric)
    columns = board_columns(known, metric)
    these = [schema.board.c[name].in_(list(values)) for name, values in filters.items() if name != "seed"]
    whole = _drawn(store, read_rows(store, metric, these, columns), known, metric, most).set_index("row")
    standing = ["tier", "gap_closed", "gap_closed_low", "gap_closed_high", "gap_closed_basis"]
    rows = []
    for group in groups:
        row = row_of(group, baselines, states, known)
        row = (
            json.loads(row["others"])
            | row
            | {"training_s": training_cost(json.loads(row["paid"]), costs), "pending": False}
        )
        row |= {name: whole.loc[group.row, name] for name in standing}
        behind = NOT_AHEAD in str(whole.loc[group.row, "flags"]).split("; ")
        rows.append(row | {"flags": "; ".join(flags_of(row, group.runs, False if behind else None))})
    names = rows[0] if rows else [*(c.name for c in columns if c.seeds), "manifest", "family", "pending"]
    return frame_of({name: [row[name] for row in rows] for name in names}, columns)


def _drawn(store: Store, board: pd.DataFrame, known: Known, metric: str, most: int | None = None) -> pd.DataFrame:
    """Rows with what has to be drawn from images, where the database has that not yet.

    Args:
        most: of so many families; the rows of the others stay `pending`.
    """
    families = list(dict.fromkeys(board.loc[board["pending"].astype(bool), "family"]))
    found = {row["row"]: row for row in drawn_rows(store, families[:most], known, metric)} if families[:most] else {}
    shown = board["row"].isin(found.keys())
    for name in [str(name) for name in board if name in next(iter(found.values()), {})]:
        values = [found[row][name] for row in board.loc[shown, "row"]]
        board.loc[shown, name] = pd.Series(values, index=board.index[shown], dtype=board[name].dtype)
    return board


def _flags(board: pd.DataFrame, most: Mapping[tuple[str, ...], float]) -> pd.Series:
    """The flags of every row, with the one that depends on all rows of the same data and split."""
    flags = board["flags"].copy()
    perhaps = board[board["images"] < max(most.values(), default=0)]
    where = zip(perhaps["dataset"], perhaps["manifest"], perhaps["split"])
    fewer = [images < most.get(split, 0) for images, split in zip(perhaps["images"], where)]
    places = perhaps.index[fewer]
    flags[places] = [with_fewer_images(words) for words in flags[places]]
    return flags


def columns_of(board: pd.DataFrame) -> dict[str, Column]:
    """The columns of a leaderboard as they are declared, by name."""
    infos = {name: MetricInfo(**info) for name, info in board.attrs.get("metrics", {}).items()} or METRICS
    return {column.name: column for column in board_columns(infos, metric_of(board))}


def metric_of(board: pd.DataFrame) -> str:
    """The metric that a leaderboard is ranked by."""
    return str(board.attrs.get("metric", HEADLINE))


def metric_info(board: pd.DataFrame) -> MetricInfo:
    """What the metric that a leaderboard is ranked by declares."""
    return MetricInfo(**board.attrs["metrics"][metric_of(board)])


def _holm(board: pd.DataFrame, family: Mapping[str, Mapping[str, float]]) -> tuple[list[float], dict[str, int]]:
    """Holm's p-values over all comparisons of each data set in the database, and how many those are.

    Args:
        family: data set -> row -> p-value, of every row in the database that is compared.
    """
    adjusted: dict[str, float] = {}
    counts = {}
    for dataset, part in board.groupby("dataset", sort=True):
        of_set = {**family.get(str(dataset), {}), **dict(zip(part["row"].tolist(), part["p"].tolist(), strict=True))}
        adjusted |= dict(zip(of_set, holm(of_set.values()).tolist(), strict=True))
        counts[str(dataset)] = sum(not math.isnan(p) for p in of_set.values())
    return [adjusted[row] for row in board["row"].tolist()], counts


def _frontier(board: pd.DataFrame, metric: MetricInfo) -> pd.Series:
    """Which rows no other row that can be compared with them beats in both cost and metric."""
    front = pd.Series(False, index=board.index)
    for _, part in board.groupby(list(COMPARABLE), sort=False):
        values = part[metric.name] if metric.direction == "higher" else -part[metric.name]
        front.loc[part.index] = pareto(part["macs"], values)
    return front
