"""`harness export board`: the leaderboard as a file for a paper, a spreadsheet or a notebook."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.board_options import Rows, measured
from harness.cli.option_groups import with_groups
from harness.cli.options import DEFAULT_WORKSPACE, Database, Workspace, database
from harness.errors import HarnessError, did_you_mean


@with_groups
def export_board(
    form: Annotated[
        str | None,
        typer.Option("--format", "-f", help="csv, md, latex, json or parquet.", show_default="by the file's name"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; without it, text is printed.")] = None,
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    *,
    rows: Rows,
) -> None:
    """Write the leaderboard to a file.

    csv, json and parquet hold every column, unrounded, units in the names; md and latex what a reader needs, with
    intervals, caption and notes. The LaTeX table needs booktabs.

    Examples:

        harness export board --out board.csv

        harness export board --format latex --methods none,kd,ka --strides 16 --out table.tex

        harness export board --out board.parquet --dataset camvid
    """
    from harness.workspace.files import write_atomic
    from results.exports import BINARY, EXPORTS, SUFFIXES

    form = form or (SUFFIXES.get(out.suffix.lower().lstrip("."), "") if out else "")
    if form not in EXPORTS:
        what = f"there is no format '{form}'" if form else "no format is named"
        raise HarnessError(what, did_you_mean(form, EXPORTS) if form else f"give --format {'|'.join(EXPORTS)}")
    if form in BINARY and out is None:
        raise HarnessError(f"{form} is not text", f"name a file: --out board.{form}")
    board = measured(database(workspace, db), rows)
    content = EXPORTS[form](board)
    if out is None:
        sys.stdout.write(content.decode())
        return
    write_atomic(out, content)
    typer.echo(f"{out}: {len(board)} rows, {len(content) / 1024:.0f} KiB")
