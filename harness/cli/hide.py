"""`harness hide`: runs that the board does not show among the others."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Database, Workspace, database, named_runs


def hide(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs or rows: keys, or words such as 'ka @16'.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why: the board says it.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Show them again.")] = False,
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Hide runs on the board, with a reason; without a name, list what is hidden.

    Nothing is deleted: a row all of whose runs are hidden stands apart under the table, with the reason, and
    hidden runs still count in intervals, tiers and corrections. Quote the words of a row; seed=0 makes it one run.

    Examples:

        harness hide 3f2a91 --reason 'trained on the wrong split'

        harness hide 'ka @16' --undo

        harness hide --json
    """
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.hidden import hidden_runs, unhide
    from harness.workspace.hidden import hide as hide_runs
    from results import sinks

    folder = Folder(workspace)
    if names:
        named = named_runs(database(workspace, db), names)
        keys = [key for some in named.values() for key in some]
        if undo:
            shown = unhide(folder, keys)
            typer.echo(f"{len(shown)} run{'' if len(shown) == 1 else 's'} shown again")
            return
        hide_runs(folder, keys, reason)
    found = hidden_runs(folder)
    if as_json:
        typer.echo(sinks.json(json.dumps({key: vars(entry) for key, entry in found.items()}, indent=1)))
        return
    for key, entry in found.items():
        typer.echo(
            f"hidden {sinks.terminal(key)} since {sinks.terminal(entry.since[:16])}: {sinks.terminal(entry.reason)}"
        )
    if not found:
        typer.echo("nothing is hidden")
