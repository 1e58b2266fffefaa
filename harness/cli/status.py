"""`harness status`: the state of every stage. Read-only."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Plugins, Workspace, load_given
from harness.errors import Exit

if TYPE_CHECKING:
    from rich.table import Table

    from harness.workspace.status import StageStatus


def status(
    workspace: Workspace = DEFAULT_WORKSPACE,
    sweep: Annotated[str, typer.Option(help="Only this sweep (id, or its beginning).")] = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh until no stage can change its state any more.")
    ] = False,
    every: Annotated[float, typer.Option(help="Seconds between refreshes, with --watch.")] = 2.0,
    all_stages: Annotated[bool, typer.Option("--all", help="Also list stages that are done or waiting.")] = False,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Show which stages are done, running, waiting, failed or blocked, and why; and whether results are collected.

    Read-only. Exit code 1 if a stage failed.

    Examples:

        harness status --watch

        harness status --json | jq '.[] | select(.state == "failed")'
    """
    from harness.workspace.status import FINAL, State

    load_given(plugin)
    statuses = _look(workspace, sweep)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(s) for s in statuses], indent=1))
    elif watch:
        from rich.live import Live

        with Live(_table(statuses, all_stages), refresh_per_second=4) as live:
            while any(s.state not in FINAL for s in statuses):
                time.sleep(every)
                statuses = _look(workspace, sweep)
                live.update(_table(statuses, all_stages))
    else:
        from rich.console import Console

        Console().print(_table(statuses, all_stages))
    if any(s.state in (State.FAILED, State.BLOCKED) for s in statuses):
        raise typer.Exit(Exit.FAILED)


def _look(workspace: Workspace, sweep: str) -> list[StageStatus]:
    from harness.launch.launchers import collecting, observer
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.status import read_sweeps, stage_states

    folder = Folder(workspace)
    stages = stage_states(folder, read_sweeps(folder, sweep or None), observer(folder))
    return [*stages, *(status for _, status in collecting(folder))]


def _table(statuses: list[StageStatus], all_stages: bool) -> Table:
    from rich.table import Table

    from harness.workspace.status import State, count_states
    from results import sinks

    counts = ", ".join(f"{count} {state}" for state, count in sorted(count_states(statuses).items()))
    table = Table(title=f"{len(statuses)} stages: {counts}", title_justify="left", box=None, pad_edge=False)
    for column in ("state", "stage", "progress", "attempts", "key"):
        table.add_column(column, overflow="fold")
    dull = () if all_stages else (State.DONE, State.WAITING, State.QUEUED)
    for item in statuses:
        if item.state in dull:
            continue
        progress = item.progress or {}
        text = item.reason
        if progress:
            left = item.reason or f"{progress['eta_s']:.0f} s left"
            text = f"{progress['iteration']}/{progress['iterations']}, {left}"
        table.add_row(str(item.state), *map(sinks.markup, (item.name, text, item.attempts or "", item.key)))
    return table
