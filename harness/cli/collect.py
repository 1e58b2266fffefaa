"""`harness collect`: from records to the database."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Database, Workspace, database
from harness.errors import HarnessError


def collect(
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build a new database from the records, then replace the old one.")
    ] = False,
    patience: Annotated[
        float,
        typer.Option("--patience", min=0, metavar="SECONDS", help="For drawing tiers and intervals over images."),
    ] = 20.0,
    as_json: AsJson = False,
) -> None:
    """Update the database from the records in the workspace.

    A sweep does this automatically. Safe to run at any time, repeatedly, and from several machines. A deleted database
    is restored completely, and one of an older version is rebuilt. Invalid records are reported and skipped; the exit
    code is then 1.

    Tiers and intervals over images are drawn once, when their runs have changed, the main metric's first. Of very many
    new runs some are left when `--patience` is over: the next `harness collect` goes on with them.

    Examples:

        harness collect

        harness collect --workspace runs --db postgresql://board@db.example.org/harness

        harness collect --rebuild

        harness collect --patience 3600
    """
    from results import sinks
    from results.rebuild import collect_into

    if not (workspace / "stages").is_dir():
        what = f"{workspace} is not a workspace: it has no stages folder"
        raise HarnessError(what, "name the workspace with --workspace, or run harness sweep first")
    try:
        done = collect_into(workspace, database(workspace, db), rebuild, patience, processes=os.cpu_count() or 1)
    except ValueError as error:
        raise HarnessError(str(error)) from error
    summary = done.summary
    if done.note:
        typer.echo(sinks.terminal(done.note), err=True)
    for problem in summary.invalid:
        typer.secho(f"invalid: {sinks.terminal(problem)}", fg="yellow", err=True)
    if as_json:
        changes = {name: getattr(summary, name) for name in ("added", "updated", "unchanged", "removed")}
        invalid = [{"path": str(path), "why": why} for path, why in summary.invalid]
        typer.echo(json.dumps(changes | {"invalid": invalid, "pending": summary.pending}, indent=1))
    else:
        typer.echo(str(summary))
        if summary.pending:
            said = f"tiers and intervals over images of {summary.pending} rows are not computed yet"
            typer.echo(f"{said}: run harness collect again, or with --patience 3600", err=True)
    if summary.invalid:
        raise typer.Exit(1)
