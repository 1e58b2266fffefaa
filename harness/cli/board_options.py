"""Options that select rows of the board, for all commands that show or export it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from harness.workspace.tags import Tags
    from results.store import Store

Values = list[str] | None
FILTERS = ("method", "student", "stride", "dataset", "teacher", "recipe")


@dataclass(frozen=True)
class Rows:
    """Filters, metric, order and budget of rows, and whether hidden ones are among them."""

    method: Annotated[Values, typer.Option("--method", "--methods", "-m", help="Only these methods: none,ka.")] = None
    student: Annotated[Values, typer.Option("--student", "--students", help="Only these students.")] = None
    stride: Annotated[Values, typer.Option("--stride", "--strides", "-s", help="Only these output strides.")] = None
    dataset: Annotated[Values, typer.Option("--dataset", "-d", help="Only these data sets.")] = None
    teacher: Annotated[Values, typer.Option("--teacher", "--teachers", help="Only students of these teachers.")] = None
    recipe: Annotated[Values, typer.Option("--recipe", "-r", help="Only these recipes.")] = None
    tag: Annotated[
        Values, typer.Option("--tag", "--tags", help="Only rows with a run of any of these tags (harness tag).")
    ] = None
    metric: Annotated[
        str, typer.Option("--metric", help="Metric to rank by, with interval and Δ: miou, boundary_iou, ...")
    ] = "miou"
    sort: Annotated[
        str | None,
        typer.Option("--sort", help="Column to sort by: delta, macs, method, ...", show_default="the metric"),
    ] = None

    max_gmacs: Annotated[float | None, typer.Option("--max-gmacs", min=0, help="Only rows of at most so many.")] = None
    max_latency: Annotated[float | None, typer.Option("--max-latency", min=0, help="At most so many ms.")] = None
    max_parameters: Annotated[float | None, typer.Option("--max-parameters", min=0, help="At most so many M.")] = None
    hidden: Annotated[bool, typer.Option("--hidden", help="Include rows that harness hide hides.")] = False

    def budget(self) -> dict[str, float]:
        """Column -> the most it may be, in its unit, of the limits that were given."""
        limits = {"macs": self.max_gmacs, "latency_ms": self.max_latency, "parameters": self.max_parameters}
        return {name: most for name, most in limits.items() if most is not None}

    def of_measured_rows(self) -> list[str]:
        """The flags that were given and that rows published by others cannot be chosen by."""
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return [f"--{name.replace('_', '-')}" for name in given if name not in FILTERS]

    def wanted(self) -> dict[str, list[str]]:
        """Column -> words of the given filters."""
        given: dict[str, Values] = {name: getattr(self, name) for name in FILTERS}
        return {name: _words(values) for name, values in given.items() if values}


def measured(workspace: Path, target: str, rows: Rows) -> pd.DataFrame:
    """The selected rows of a database, as a leaderboard; without those that are hidden, if they are not asked for.

    Args:
        workspace: says which runs are hidden or tagged.

    Returns:
        A leaderboard; `attrs["hidden"]` is the number of rows that were left out because all their runs are hidden.

    Raises:
        HarnessError: there is no database, or a filter matches nothing.
    """
    from harness.workspace.tags import by_run
    from results.advice import within
    from results.leaderboard import leaderboard
    from results.queries import cells, match_filters
    from results.store import open_store
    from results.tags import tagged, with_tags

    tags = _tags(workspace)
    try:
        with open_store(target, readonly=True) as store:
            filters, keys = match_filters(cells(store), rows.wanted()), tagged_keys(tags, rows)
            board = leaderboard(store, filters, rows.sort, keys=keys, metric=rows.metric)
            board = _not_hidden(store, within(board, rows.budget()), workspace, rows)
            return with_tags(board, tagged(store, by_run(tags)).rows)
    except ValueError as error:
        raise HarnessError(str(error)) from error


def some_rows(
    workspace: Path, target: str, rows: Rows, pick: Callable[[pd.DataFrame], pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Some of the selected rows as a leaderboard, and all of them in brief; hidden rows as for `measured`.

    Args:
        pick: from all rows in brief those to be shown.

    Raises:
        HarnessError: there is no database, or a filter matches nothing.
    """
    from harness.workspace.tags import by_run
    from results.advice import within
    from results.brief import brief, complete
    from results.leaderboard import MOST_DRAWN
    from results.queries import cells, match_filters
    from results.store import open_store
    from results.tags import tagged, with_tags

    tags = _tags(workspace)
    try:
        with open_store(target, readonly=True) as store:
            filters, keys = match_filters(cells(store), rows.wanted()), tagged_keys(tags, rows)
            everything = brief(store, filters, rows.metric, rows.budget(), rows.sort, keys)
            everything = _not_hidden(store, within(everything, rows.budget()), workspace, rows)
            some = complete(store, pick(everything), everything, MOST_DRAWN)
            of_rows = tagged(store, by_run(tags)).rows
            return with_tags(some, of_rows), with_tags(everything, of_rows)
    except ValueError as error:
        raise HarnessError(str(error)) from error


def _tags(workspace: Path) -> Tags:
    from harness.workspace.folders import Workspace
    from harness.workspace.tags import read_tags

    return read_tags(Workspace(workspace))


def tagged_keys(tags: Tags, rows: Rows) -> set[str] | None:
    """The runs that have any of the tags that were given; None where none was.

    Raises:
        HarnessError: no run has one of them.
    """
    from harness.workspace.tags import checked_tag, runs_tagged

    return runs_tagged(tags, map(checked_tag, _words(rows.tag))) if rows.tag else None


def hidden_keys(workspace: Path, rows: Rows) -> set[str]:
    """The runs that are not to be shown."""
    from harness.workspace.folders import Workspace
    from harness.workspace.hidden import hidden_runs

    return set() if rows.hidden else set(hidden_runs(Workspace(workspace)))


def _not_hidden(store: Store, board: pd.DataFrame, workspace: Path, rows: Rows) -> pd.DataFrame:
    from results.board import all_hidden

    hidden = all_hidden(store, rows.metric, hidden_keys(workspace, rows))
    shown = board[~board["row"].isin(hidden)].reset_index(drop=True)
    shown.attrs["hidden"] = len(board) - len(shown)
    return shown


def tell_hidden(board: pd.DataFrame) -> None:
    """Say on standard error how many rows were left out of a file."""
    if hidden := board.attrs.get("hidden"):
        what = f"{hidden} hidden row{'' if hidden == 1 else 's'} left out"
        typer.echo(f"{what} (harness hide lists them): --hidden includes them", err=True)


def _words(values: list[str]) -> list[str]:
    """Merge comma-separated lists and repeated flags. Commas inside brackets belong to a method's parameters."""
    words = (word.strip() for value in values for word in re.split(r",(?![^\[]*\])", value))
    return [word for word in words if word]
