"""The leaderboard: runs of one setting as one row, with intervals and differences from `none`."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pandas as pd
from sqlalchemy import ColumnElement, and_, func, select

from results import store as schema
from results.board import among, frame_of, lesson_costs, lessons, read_rows, rows_of_runs, runs_of, shared_cost
from results.columns import FIXED, METRICS, Column, board_columns
from results.flags import NOT_AHEAD, flags_of
from results.metrics import HEADLINE, MetricInfo
from results.queries import SETTING, Filters, image_states, matching, metrics
from results.ranking import ranked
from results.rows import Known, baselines_of, drawn_rows, groups_of, row_of, single_seeds
from results.store import Store

BOARD = tuple(column.name for column in board_columns(METRICS))
"""Columns of a leaderboard that is ranked by mIoU, of runs that have no metrics of their own."""
MOST_DRAWN = 16
"""Families that reading draws where collecting had no time for them: a few seconds at most."""


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
    columns = board_columns(known, checked_metric(known, metric))
    named = {column.name: column for column in columns}
    sort = sort or metric
    if sort not in named:
        raise ValueError(f"there is no column '{sort}' to sort by: {', '.join(named)}")
    wanted = {name: values for name, values in matching(filters or {}).items() if values}
    if "seed" in wanted:
        board = _of_seeds(store, wanted, keys, known, metric, most_drawn)
    else:
        conditions: list[ColumnElement[bool]] = [schema.board.c[name].in_(values) for name, values in wanted.items()]
        conditions += [] if keys is None else [among(store, schema.board.c.row, rows_of_runs(store, keys))]
        board = drawn(store, read_rows(store, metric, conditions, columns), known, metric, most_drawn)
    board = ranked(store, board, known, metric, named[sort], descending)[list(named)]
    return with_reason(store, board, metric)


def with_reason(store: Store, board: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A board; if it is empty, and not because of a filter, `attrs["why_empty"]` is the sentence that says why."""
    if len(board):
        return board
    with store.read() as connection:
        rows, runs = (
            connection.execute(select(func.count()).select_from(table).where(condition)).scalar()
            for table, condition in (
                (schema.board, schema.board.c.metric == metric),
                (schema.runs, schema.runs.c.method.is_not(None)),
            )
        )
    if not runs:
        board.attrs["why_empty"] = "no results yet: harness collect fills the database from finished runs"
    elif not rows:
        what = f"{runs} finished run{'s have' if runs != 1 else ' has'} no {metric}"
        board.attrs["why_empty"] = f"{what}: no pixel of the labels that they were evaluated on counts"
    return board


def checked_metric(known: Known, metric: str) -> str:
    """The metric.

    Raises:
        ValueError: no run has it.
    """
    if metric not in known:
        raise ValueError(f"no run has the metric '{metric}': there are {', '.join(known)}")
    return metric


def _of_seeds(
    store: Store, filters: Filters, keys: Iterable[str] | None, known: Known, metric: str, most: int | None
) -> pd.DataFrame:
    """The rows of some seeds only: computed from their runs where the database keeps them with other runs.

    How they stand is that of their whole rows.
    """
    r = schema.runs.c
    conditions = {name: r[name].in_(list(values)) for name, values in filters.items()}
    setting = [condition for name, condition in conditions.items() if name in SETTING]
    with store.read() as connection:
        shown = runs_of(connection, and_(r.method.is_not(None), *conditions.values()))
        nones = runs_of(connection, and_(r.method == "none", *setting))
        costs = lesson_costs(connection, {parent for run in shown for parent in lessons(run)})
    if keys is not None:
        wanted = {run["row"] for run in shown if run["key"] in set(keys)}
        shown = [run for run in shown if run["row"] in wanted]
    columns = board_columns(known, metric)
    these = [schema.board.c[name].in_(list(values)) for name, values in filters.items() if name != "seed"]
    whole = drawn(store, read_rows(store, metric, these, columns), known, metric, most)
    names = [str(name) for name in whole]
    values = zip(*(whole[name].to_numpy(dtype=object) for name in names))
    kept = {row["row"]: row for row in (dict(zip(names, some)) for some in values)}
    groups, baselines = groups_of(shown, metric), baselines_of(groups_of(nones, metric))
    changed = [group for group in groups if kept[group.row]["keys"] != group.keys]
    states = image_states(store, single_seeds(changed, baselines), metric)
    for group in changed:
        row, stands = row_of(group, baselines, states, known), kept[group.row]
        share = shared_cost(json.loads(row["lessons"]), costs)
        behind = NOT_AHEAD in str(stands["flags"]).split("; ")
        kept[group.row] = (
            stands | json.loads(row["others"]) | {name: row[name] for name in row if name not in _STANDING}
        )
        kept[group.row] |= {
            "shared_training_s": share,
            "training_s": row["own_training_s"] + share,
            "pending": False,
            "flags": "; ".join(flags_of(row, group.runs, False if behind else None)),
        }
    rows = [kept[group.row] for group in groups]
    return frame_of({name: [row[name] for row in rows] for name in names}, columns)


_STANDING = frozenset(("tier", "gap_closed", "gap_closed_low", "gap_closed_high", "gap_closed_basis"))


def drawn(store: Store, board: pd.DataFrame, known: Known, metric: str, most: int | None = None) -> pd.DataFrame:
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


def columns_of(board: pd.DataFrame) -> dict[str, Column]:
    """The columns of a leaderboard as they are declared, by name."""
    infos = {name: MetricInfo(**info) for name, info in board.attrs.get("metrics", {}).items()} or METRICS
    beside = [FIXED["tags"]] if "tags" in board else []
    return {column.name: column for column in (*board_columns(infos, metric_of(board)), *beside)}


def metric_of(board: pd.DataFrame) -> str:
    """The metric that a leaderboard is ranked by."""
    return str(board.attrs.get("metric", HEADLINE))


def metric_info(board: pd.DataFrame) -> MetricInfo:
    """What the metric that a leaderboard is ranked by declares."""
    return MetricInfo(**board.attrs["metrics"][metric_of(board)])
