"""`harness export board`: the leaderboard as a file for a paper, a spreadsheet or a notebook."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.board_options import Rows, measured, tell_hidden
from harness.cli.option_groups import with_groups
from harness.cli.options import DEFAULT_WORKSPACE, Database, Workspace, database
from harness.errors import HarnessError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


@with_groups
def export_board(
    form: Annotated[
        str | None,
        typer.Option(
            "--format", "-f", help="csv, md, latex, json, parquet or html.", show_default="from the file's name"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; by default, print the text.")] = None,
    pictures: Annotated[
        int,
        typer.Option(
            "--pictures", min=0, help="html: number of images per student and stride whose predictions are shown."
        ),
    ] = 0,
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    *,
    rows: Rows,
) -> None:
    """Write the leaderboard to a file.

    csv, json and parquet contain every column, unrounded, with units in the names; md and latex contain a selection for
    readers, with intervals, caption and notes. The LaTeX table needs booktabs. html is a single file with sortable
    tables, filters and charts; it opens without a server or a network. Rows that `harness hide` hides are left out, if
    --hidden does not include them; html lists them below the table.

    Examples:

        harness export board --out board.csv

        harness export board --format latex --methods none,kd,ka --strides 16 --out table.tex

        harness export board --out board.parquet --dataset camvid

        harness export board --out board.html --pictures 2
    """
    from harness.workspace.files import write_atomic
    from results.exports import BINARY, EXPORTS, HTML, SUFFIXES

    form = form or (SUFFIXES.get(out.suffix.lower().lstrip("."), "") if out else "")
    known = [*EXPORTS, HTML]
    if form not in known:
        what = f"there is no format '{form}'" if form else "the format is missing"
        raise HarnessError(what, did_you_mean(form, known) if form else f"give --format {'|'.join(known)}")
    if form in BINARY and out is None:
        raise HarnessError(f"{form} is not text for a terminal", f"name a file: --out board.{form}")
    if pictures and form != HTML:
        raise HarnessError(f"{form} holds no pictures", "leave --pictures out, or write html")
    target = database(workspace, db)
    board = measured(workspace, target, replace(rows, hidden=rows.hidden or form == HTML))
    content = _page(target, board, pictures, workspace) if form == HTML else EXPORTS[form](board)
    tell_hidden(board)
    if out is None:
        sys.stdout.write(content.decode())
        return
    write_atomic(out, content)
    typer.echo(f"{out}: {len(board)} rows, {len(content) / 1024:.0f} KiB")


def _page(target: str, board: pd.DataFrame, pictures: int, workspace: Path) -> bytes:
    """The board as one HTML file."""
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.hidden import hidden_runs
    from results.page import as_html
    from results.store import open_store

    hidden = {key: entry.reason for key, entry in hidden_runs(Folder(workspace)).items()}
    with open_store(target, readonly=True) as store:
        return as_html(store, board, pictures, workspace, hidden).encode()
