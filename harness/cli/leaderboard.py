"""`harness leaderboard`: the table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, Database, Workspace, database
from harness.errors import HarnessError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

Values = list[str] | None


def leaderboard(
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    form: Annotated[str, typer.Option("--format", "-f", help="table, csv, md or json.")] = "table",
    method: Annotated[Values, typer.Option("--method", "--methods", "-m", help="Only these methods: none,ka.")] = None,
    student: Annotated[Values, typer.Option("--student", "--students", help="Only these students.")] = None,
    stride: Annotated[Values, typer.Option("--stride", "--strides", "-s", help="Only these output strides.")] = None,
    dataset: Annotated[Values, typer.Option("--dataset", "-d", help="Only these data sets.")] = None,
    teacher: Annotated[Values, typer.Option("--teacher", "--teachers", help="Only students of these teachers.")] = None,
    recipe: Annotated[Values, typer.Option("--recipe", "-r", help="Only these recipes.")] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="What to rank by, with interval and Δ: miou, boundary_iou, ...")
    ] = "miou",
    sort: Annotated[
        str | None,
        typer.Option("--sort", help="Column to sort by: delta, macs, method, ...", show_default="the metric"),
    ] = None,
    reported: Annotated[
        bool,
        typer.Option("--reported", help="Instead: published tables, reported by authors, not measured here."),
    ] = False,
) -> None:
    """Print the leaderboard: a metric with its interval, difference to `none` with its verdict, cost.

    One row is a method at a student, an output stride, a data set and a recipe, over all its seeds. A verdict is
    "better", "worse" or "no clear difference"; with one seed nothing is said of training noise.

    Examples:

        harness leaderboard

        harness leaderboard --methods none,ka --strides 8,16 --sort delta

        harness leaderboard --metric boundary_iou

        harness leaderboard --format csv > table.csv

        harness leaderboard --reported --dataset camvid
    """
    from results.formats import FORMATS, render

    if form not in FORMATS:
        raise HarnessError(f"there is no format '{form}'", did_you_mean(form, FORMATS))
    filters = {"method": method, "student": student, "stride": stride, "dataset": dataset, "teacher": teacher}
    filters |= {"recipe": recipe}
    wanted = {name: _words(values) for name, values in filters.items() if values}
    if reported:
        typer.echo(_reported(wanted, form))
        return
    board = _measured(database(workspace, db), wanted, sort, metric)
    typer.echo(render(board, form))


def _words(values: list[str]) -> list[str]:
    """Comma lists and repeated flags as one list. Commas inside brackets belong to a method's parameters."""
    words = (word.strip() for value in values for word in re.split(r",(?![^\[]*\])", value))
    return [word for word in words if word]


def _measured(target: str, wanted: dict[str, list[str]], sort: str | None, metric: str) -> pd.DataFrame:
    """The rows of the database that are asked for."""
    from results.leaderboard import leaderboard
    from results.queries import cells, match_filters
    from results.store import open_store

    try:
        with open_store(target, readonly=True) as store:
            known = cells(store)
            filters = match_filters(known, wanted)
            return leaderboard(store, filters, sort, metric=metric)
    except ValueError as error:
        raise HarnessError(str(error)) from error


def _reported(wanted: dict[str, list[str]], form: str) -> str:
    """The published rows that are asked for."""
    from results.reported import render_reported, reported

    try:
        return render_reported(reported(wanted), form)
    except ValueError as error:
        raise HarnessError(str(error)) from error
