"""Options that select rows of the board, for all commands that show or export it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import HarnessError

if TYPE_CHECKING:
    import pandas as pd

Values = list[str] | None
FILTERS = ("method", "student", "stride", "dataset", "teacher", "recipe")


@dataclass(frozen=True)
class Rows:
    """Filters, metric, order and budget of rows."""

    method: Annotated[Values, typer.Option("--method", "--methods", "-m", help="Only these methods: none,ka.")] = None
    student: Annotated[Values, typer.Option("--student", "--students", help="Only these students.")] = None
    stride: Annotated[Values, typer.Option("--stride", "--strides", "-s", help="Only these output strides.")] = None
    dataset: Annotated[Values, typer.Option("--dataset", "-d", help="Only these data sets.")] = None
    teacher: Annotated[Values, typer.Option("--teacher", "--teachers", help="Only students of these teachers.")] = None
    recipe: Annotated[Values, typer.Option("--recipe", "-r", help="Only these recipes.")] = None
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

    def budget(self) -> dict[str, float]:
        """Column -> the most it may be, in its unit, of the limits that were given."""
        limits = {"macs": self.max_gmacs, "latency_ms": self.max_latency, "parameters": self.max_parameters}
        return {name: most for name, most in limits.items() if most is not None}

    def wanted(self) -> dict[str, list[str]]:
        """Column -> words of the given filters."""
        given: dict[str, Values] = {name: getattr(self, name) for name in FILTERS}
        return {name: _words(values) for name, values in given.items() if values}


def measured(target: str, rows: Rows) -> pd.DataFrame:
    """The selected rows of a database, as a leaderboard.

    Raises:
        HarnessError: there is no database, or a filter matches nothing.
    """
    from results.advice import within
    from results.leaderboard import leaderboard
    from results.queries import cells, match_filters
    from results.store import open_store

    try:
        with open_store(target, readonly=True) as store:
            filters = match_filters(cells(store), rows.wanted())
            return within(leaderboard(store, filters, rows.sort, metric=rows.metric), rows.budget())
    except ValueError as error:
        raise HarnessError(str(error)) from error


def _words(values: list[str]) -> list[str]:
    """Merge comma-separated lists and repeated flags. Commas inside brackets belong to a method's parameters."""
    words = (word.strip() for value in values for word in re.split(r",(?![^\[]*\])", value))
    return [word for word in words if word]
