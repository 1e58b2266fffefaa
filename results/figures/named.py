"""Figures by name, drawn for paper from a database: what `harness plot` writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from results import ablation, classes, frontier, lengths, queries, strides
from results.figures.ablation import term_gains
from results.figures.classes import class_differences, class_intervals, class_scores
from results.figures.lengths import gain_over_length
from results.figures.looks import Looks, looks
from results.figures.strides import gain_map, metric_over_stride
from results.figures.tradeoff import accuracy_against_cost
from results.leaderboard import columns_of, leaderboard, metric_of
from results.metrics import STATE_METRICS
from results.queries import SETTING
from results.ranking import COMPARABLE
from results.store import Store


def _tradeoff(store: Store, board: pd.DataFrame, look: Looks, over: str, hidden: Collection[str]) -> Any:
    cost = "macs" if over == "stride" else over
    rows = board[board["method"] != "teacher"].reset_index(drop=True)
    return accuracy_against_cost(rows, look, cost, frontier.frontier_doubt(store, rows, cost) or None)


def _strides(store: Store, board: pd.DataFrame, look: Looks, over: str, hidden: Collection[str]) -> Any:
    return metric_over_stride(_of_one_student(store, board, hidden), look, over)


def _gains(store: Store, board: pd.DataFrame, look: Looks, over: str, hidden: Collection[str]) -> Any:
    return gain_map(_of_one_student(store, board, hidden), look)


def _lengths(store: Store, board: pd.DataFrame, look: Looks, over: str, hidden: Collection[str]) -> Any:
    own = board[board["method"] != "teacher"]
    for name in ("student", "stride"):
        _one(name, sorted(set(map(str, own[name]))), name)
    return gain_over_length(lengths.over_lengths(store, own), look)


def _classes(store: Store, board: pd.DataFrame, look: Looks, over: str, hidden: Collection[str]) -> Any:
    row, found = _class_tables(store, board, [metric_of(board)])
    ((name, table),) = found.items()
    return class_intervals(table, look, look.colours[row["method"]], f"{name} [%]")


def _class_gains(store: Store, board: pd.DataFrame, look: Looks, over: str, hidden: Collection[str]) -> Any:
    row, found = _class_tables(store, board, [metric_of(board)])
    ((name, table),) = found.items()
    return class_differences(table, look, look.colours[row["method"]], f"Δ {name} [points]")


def _boundary(store: Store, board: pd.DataFrame, look: Looks, over: str, hidden: Collection[str]) -> Any:
    row, found = _class_tables(store, board, classes.OUTLINES)
    return class_scores(found, look, look.colours[row["method"]])


def _ablation(store: Store, board: pd.DataFrame, look: Looks, over: str, hidden: Collection[str]) -> Any:
    there = {one.method: one for one in ablation.ablations(store)}
    asked = [name for name in there if board["method"].eq(name).any()]
    method = _one("method that was taken apart", asked, "method")
    shown = board[board["method"].eq(method)]
    metric = columns_of(board)[metric_of(board)]
    table = ablation.contributions(store, there[method].rows, metric=metric.name, hidden=hidden)
    same = [name for name in (*SETTING, "teacher") if name in table]
    table = table.merge(shown[same].drop_duplicates(), on=same)
    for name in same:
        _one(name, sorted(set(map(str, table[name]))), name)
    return term_gains(table, look, look.colours[method], metric)


FIGURES: Mapping[str, Callable[[Store, pd.DataFrame, Looks, str, Collection[str]], Any]] = {
    "tradeoff": _tradeoff,
    "strides": _strides,
    "gains": _gains,
    "lengths": _lengths,
    "classes": _classes,
    "class-gains": _class_gains,
    "boundary": _boundary,
    "ablation": _ablation,
}
"""Name -> a figure of the rows of a leaderboard, over a cost or the stride."""


def draw(store: Store, name: str, board: pd.DataFrame, over: str = "stride", hidden: Collection[str] = ()) -> Any:
    """A figure for paper.

    Args:
        name: one of `FIGURES`.
        board: the rows that are asked for.
        over: "stride" or a column that is a cost: what lies along the axis of `tradeoff` and `strides`.
        hidden: keys of runs that are not drawn, where a figure shows more rows than are asked for.

    Raises:
        ValueError: the rows are of two data sets, or of more than the figure can show; or there is nothing to draw.
    """
    for column in COMPARABLE:
        _one(column, sorted(set(map(str, board[column]))), "dataset")
    chart = FIGURES[name](store, board, looks(_named(store, board)).for_paper(), over, hidden)
    if chart is None:
        raise ValueError("there is nothing to draw: no row has what the figure shows")
    return chart


def _named(store: Store, board: pd.DataFrame) -> pd.DataFrame:
    """Methods and students of the whole database: each looks the same in every figure."""
    return pd.concat([queries.rows_in_brief(store)[["method", "student"]], board[["method", "student"]]])


def _all_of(rows: pd.DataFrame, keys: Collection[str]) -> pd.Series:
    """Rows all of whose runs are among some keys."""
    return rows["keys"].map(lambda own: set(own.split(",")) <= set(keys)).astype(bool)


def _one(what: str, names: Sequence[str], option: str) -> str:
    """The only one of several names.

    Raises:
        ValueError: there are more, or none.
    """
    if not names:
        raise ValueError(f"no row has a {what}")
    if len(names) > 1:
        raise ValueError(f"the figure shows one {what}, and there are {', '.join(names)}: choose with --{option}")
    return names[0]


def _of_one_student(store: Store, board: pd.DataFrame, hidden: Collection[str]) -> pd.DataFrame:
    """The rows of the one student and recipe, and its teacher, which a filter may have left out."""
    own = board[board["method"] != "teacher"]
    student, recipe = (_one(name, sorted(set(own[name])), name) for name in ("student", "recipe"))
    everything = leaderboard(store, {"dataset": [str(board["dataset"].iloc[0])]}, metric=metric_of(board))
    kept = everything[everything["row"].isin(set(own["row"])) | everything["method"].eq("teacher")]
    kept = kept[kept["evaluation"].eq(board["evaluation"].iloc[0]) & ~_all_of(kept, hidden)]
    return strides.one_setting(kept, student, recipe)


def _class_tables(store: Store, board: pd.DataFrame, names: Sequence[str]) -> tuple[pd.Series, dict[str, pd.DataFrame]]:
    """The one row of a method, and its classes beside those of its `none`, by what each metric is called.

    Raises:
        ValueError: there are more rows, or their runs do not have a metric class by class.
    """
    own = board[~board["method"].isin(["none", "teacher"])]
    rows = [f"{row['method']} {row['student']}@{row['stride']}" for _, row in own.iterrows()]
    _one("row of a method", rows, "method, --student, --stride")
    row = own.iloc[0]
    same = {name: [row[name]] for name in ("dataset", "student", "stride", "recipe", "weights")}
    none = leaderboard(store, {**same, "method": ["none"]})
    none = none[none["evaluation"].eq(row["evaluation"])]
    members = [member.runs for member in frontier.members_of(pd.concat([own, none.iloc[:1]]))]
    sides = (members[0], members[1] if len(members) > 1 else None)
    measured = classes.by_class(store, [key for side in sides if side for key in side.values()])
    if missing := [name for name in names if name not in measured]:
        why = f"{', '.join(missing)}: not known class by class; there are {', '.join(measured) or 'none'}"
        if missing[0] in STATE_METRICS:
            why = classes.lacking(measured)
        raise ValueError(f"{row['method']} beside its `none`: {why}")
    known = queries.metrics(store)
    return row, {classes.heading(known[name]): classes.class_table(store, *sides, name) for name in names}
