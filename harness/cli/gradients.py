"""`harness gradients`: norm and direction of each loss term's gradient during a student's training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Workspace
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.workspace.folders import StageFolder


def gradients(
    run: Annotated[str, typer.Argument(help="A student: the beginning of its key, or a part of its name.")],
    workspace: Workspace = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Show the gradient of each weighted term with respect to the student's parameters, over its training.

    The norm, and the cosine with the cross-entropy's gradient: near 0 the term is independent of the labels, below 0 it
    opposes them. Recorded by `harness sweep --gradients-every N`.

    Examples:

        harness sweep -m none,ka -s 16 --gradients-every 50

        harness gradients 'ka timm:mobilenetv2_100/linear@16 seed 0'
    """
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.select import find_stage

    folder = Folder(workspace)
    stage = find_stage(folder, run)
    rows = _recorded(folder.stage(stage.key))
    if not rows:
        raise HarnessError(
            f"{stage.name} has no recorded gradients",
            "they are recorded during training: run harness sweep ... --gradients-every 50 in a new workspace",
        )
    if as_json:
        typer.echo(json.dumps({"key": stage.key, "name": stage.name, "gradients": rows}, indent=1))
    else:
        _print(stage.name, rows)


def _recorded(folder: StageFolder) -> list[dict[str, Any]]:
    """One row per iteration; if a resumed attempt repeated it, the later one."""
    from harness.workspace.events import read_events

    found = {
        event["iteration"]: {name: event[name] for name in ("iteration", "norms", "cosines")}
        for attempt in folder.attempts()
        for event in read_events(attempt.events, "gradients")
    }
    return [found[iteration] for iteration in sorted(found)]


def _print(name: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from results.sinks import terminal

    terms = list(rows[0]["norms"])
    table = Table(title=terminal(name), title_justify="left", box=None, pad_edge=False)
    table.add_column("iteration", justify="right")
    for term in terms:
        table.add_column(f"|{terminal(term)}|", justify="right")
        if term != "ce":
            table.add_column("cosine", justify="right")
    for row in rows:
        cells = [str(row["iteration"])]
        for term in terms:
            cells.append(f"{row['norms'][term]:.3g}")
            if term != "ce":
                cosine = row["cosines"][term]
                cells.append("" if cosine is None else f"{cosine:+.2f}")
        table.add_row(*cells)
    Console(highlight=False).print(table)
