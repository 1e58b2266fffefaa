"""`harness collect`: from records to the database."""

from __future__ import annotations

import json

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Database, Workspace, database
from harness.errors import HarnessError


def collect(workspace: Workspace = DEFAULT_WORKSPACE, db: Database = None, as_json: AsJson = False) -> None:
    """Bring the database up to date with the records in the workspace.

    A sweep does this itself when it ends. Safe to run at any time, as often as you like, and from several machines;
    a deleted database comes back whole. Records that are not valid are named and left out.

    Examples:

        harness collect

        harness collect --workspace runs --db postgresql://board@db.example.org/harness
    """
    from results.ingest import collect as ingest
    from results.store import open_store

    target = database(workspace, db)
    try:
        if not (workspace / "stages").is_dir():
            raise ValueError(f"{workspace} is no workspace: it holds no stages folder")
        with open_store(target) as store:
            summary = ingest(workspace, store)
    except ValueError as error:
        raise HarnessError(str(error), "name the workspace with --workspace, or run harness sweep first") from error
    for problem in summary.invalid:
        typer.secho(f"invalid: {problem}", fg="yellow", err=True)
    if as_json:
        changes = {name: getattr(summary, name) for name in ("added", "updated", "unchanged", "removed")}
        invalid = [{"path": str(path), "why": why} for path, why in summary.invalid]
        typer.echo(json.dumps(changes | {"invalid": invalid}, indent=1))
    else:
        typer.echo(str(summary))
