"""What a sweep ends with: everything collected, and the leaderboard of its cells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from harness.launch.base import Options
    from harness.planning.plan import Plan


def collect_and_print(plan: Plan, options: Options, as_json: bool) -> None:
    """Bring the database up to date and print the rows of the sweep."""
    from results.formats import render
    from results.ingest import collect
    from results.leaderboard import leaderboard
    from results.store import open_store

    with open_store(options.database) as store:
        summary = collect(options.workspace.root, store)
        for path, why in summary.invalid:
            typer.secho(f"not collected: {path}: {why}", fg="yellow", err=True)
        table = leaderboard(store, keys=list(plan.nodes))
    if as_json:
        typer.echo(json.dumps({"sweep": plan.id, "rows": json.loads(render(table, "json"))}))
    else:
        typer.echo(render(table, "table"))
        typer.echo("See it in a browser: harness dashboard --workspace " + str(options.workspace.root))
