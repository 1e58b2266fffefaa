"""`harness leaderboard`: print the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.board_options import Rows, measured, some_rows, tell_hidden
from harness.cli.option_groups import with_groups
from harness.cli.options import DEFAULT_WORKSPACE, Database, Workspace, database
from harness.errors import HarnessError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

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
        typer.Option(
            "--top",
            min=0,
            help="Only so many rows (of each group); 0 for all.",
            show_default="200 in a table, else all",
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option("--group-by", help="A table for each: dataset, student, head, stride, method, recipe or teacher."),
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

        harness leaderboard --group-by stride --top 5

        harness leaderboard --metric boundary_iou

        harness leaderboard --format csv > table.csv

        harness leaderboard --dataset camvid --top 20

        harness leaderboard --reported --dataset camvid
    """
    from results.formats import FORMATS, as_text, render

    if form not in FORMATS:
        raise HarnessError(f"there is no format '{form}'", did_you_mean(form, FORMATS))
    if reported:
        if flags := [*rows.of_measured_rows(), *(["--group-by"] if group_by else [])]:
            raise HarnessError(f"{flags[0]} is about rows measured here, and --reported shows others", "leave one out")
        typer.echo(_reported(rows.wanted(), form, top))
        return
    target = database(workspace, db)
    if group_by:
        board = _in_groups(workspace, target, rows, form, group_by, top)
    elif top or (top is None and form == "table"):
        board, everything = some_rows(workspace, target, rows, lambda found: found.head(top or PRINTED))
        typer.echo(as_text(board, everything=everything) if form == "table" and len(board) else render(board, form))
    else:
        board = measured(workspace, target, rows)
        typer.echo(render(board, form))
    if form in ("csv", "json"):
        tell_hidden(board)


def _in_groups(workspace: Path, target: str, rows: Rows, form: str, by: str, top: int | None) -> pd.DataFrame:
    """Print the rows in groups, and return those that were printed; CSV and JSON hold them in the groups' order.

    Args:
        top: rows of each group, all for 0; None: in a table so many that about `PRINTED` are printed.
    """
    from results.formats import as_markdown, as_text, render
    from results.groups import BY, first_of, groups_of, said_of

    if by not in BY:
        raise HarnessError(f"rows cannot be grouped by '{by}'", did_you_mean(by, BY))

    def pick(everything: pd.DataFrame) -> pd.DataFrame:
        found = groups_of(everything, by)
        shown = first_of(found, PRINTED) if top is None and form == "table" else None
        places = [place for group in found for place in (shown[group.value] if shown else group.rows[: top or None])]
        return everything.iloc[places].reset_index(drop=True)

    board, everything = some_rows(workspace, target, rows, pick)
    said = {group.value: f"{group.title(by)} · {said_of(everything, group)}" for group in groups_of(everything, by)}
    sections = [(said[group.value], group.rows) for group in groups_of(board, by)]
    if form == "table" and len(board):
        typer.echo(as_text(board, everything=everything, sections=sections))
    else:
        typer.echo(as_markdown(board, sections) if form == "md" else render(board, form))
    return board


def _reported(wanted: dict[str, list[str]], form: str, top: int | None) -> str:
    """The selected published rows; the first so many, or all for 0 and None."""
    from results.reported import render_reported, reported

    try:
        rows = reported(wanted)
        return render_reported(rows.head(top or len(rows)), form)
    except ValueError as error:
        raise HarnessError(str(error)) from error
