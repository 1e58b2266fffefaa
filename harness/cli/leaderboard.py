"""`harness leaderboard`: print the leaderboard."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.board_options import Rows, first_rows, measured, tell_hidden
from harness.cli.option_groups import with_groups
from harness.cli.options import DEFAULT_WORKSPACE, Database, Workspace, database
from harness.errors import HarnessError, did_you_mean

PRINTED = 200
"""Rows of a table that is printed, if no other number is asked for."""


@with_groups
def leaderboard(
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    form: Annotated[str, typer.Option("--format", "-f", help="table, csv, md or json.")] = "table",
    reported: Annotated[
        bool,
        typer.Option("--reported", help="Show tables published by authors, not measured here, instead."),
    ] = False,
    top: Annotated[
        int | None,
        typer.Option("--top", min=0, help="Only so many rows; 0 for all.", show_default="200 in a table, else all"),
    ] = None,
    *,
    rows: Rows,
) -> None:
    """Print the leaderboard: a metric with its interval, difference to `none` with its verdict, cost.

    One row is a method at a student, an output stride, a data set and a recipe, over all its seeds. A verdict is
    "better", "worse" or "no clear difference"; with one seed nothing is said of training noise.

    Examples:

        harness leaderboard

        harness leaderboard --methods none,ka --strides 8,16 --sort delta

        harness leaderboard --metric boundary_iou

        harness leaderboard --format csv > table.csv

        harness leaderboard --dataset camvid --top 20

        harness leaderboard --reported --dataset camvid
    """
    from results.formats import FORMATS, as_text, render

    if form not in FORMATS:
        raise HarnessError(f"there is no format '{form}'", did_you_mean(form, FORMATS))
    if reported:
        typer.echo(_reported(rows.wanted(), form))
        return
    top = PRINTED if top is None and form == "table" else top
    if not top:
        board = measured(workspace, database(workspace, db), rows)
        typer.echo(render(board, form))
    else:
        board, everything = first_rows(workspace, database(workspace, db), rows, top)
        typer.echo(as_text(board, everything=everything) if form == "table" and len(board) else render(board, form))
    if form in ("csv", "json"):
        tell_hidden(board)


def _reported(wanted: dict[str, list[str]], form: str) -> str:
    """The selected published rows."""
    from results.reported import render_reported, reported

    try:
        return render_reported(reported(wanted), form)
    except ValueError as error:
        raise HarnessError(str(error)) from error
