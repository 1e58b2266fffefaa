"""`harness teacher list`: the teachers of a workspace, and their lead over the students."""

from __future__ import annotations

import json

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Database, Workspace


def teacher_list(workspace: Workspace = DEFAULT_WORKSPACE, db: Database = None, as_json: AsJson = False) -> None:
    """List the teachers of a workspace: accuracy, cost, and the lead over students without distillation.

    Examples:

        harness teacher list --workspace runs
    """
    from harness.launch.opened import open_workspace
    from results.leads import teacher_leads

    found = teacher_leads(open_workspace(workspace, db).leaderboard())
    if as_json:
        typer.echo(json.dumps(json.loads(found.to_json(orient="records")), indent=1))
        return
    if found.empty:
        typer.echo("no finished teacher in this workspace")
    for row in found.to_dict("records"):
        typer.echo(
            f"{row['teacher']}  {_origin(row['weights'])}  on {row['dataset']}: "
            f"mIoU {100 * row['miou']:.1f} %, {row['macs'] / 1e9:.2f} GMACs"
            + "".join(f"\n    {said}" for said in row["leads"])
        )


def _origin(weights: str) -> str:
    """Where a teacher's weights come from: a file of a whole network, or training."""
    source, _, digest = weights.partition(":")
    return f"imported {digest}" if source == "network" else "trained"
