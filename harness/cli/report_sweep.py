"""Output of `sweep` and `ablate`: the plan before the run, failures and exit code after it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from harness.cli.option_groups import Output
from harness.errors import Exit

if TYPE_CHECKING:
    from harness.launch.run_sweep import FinishedSweep, PlannedSweep


def show_plan(planned: PlannedSweep, output: Output) -> None:
    """Print the plan: always as text; as JSON only if nothing else will be printed."""
    if output.dry_run or not output.as_json:
        from harness.cli.print_plan import print_plan

        print_plan(planned.plan, list(planned.missing), planned.options, planned.launcher, output.as_json)


def launch_and_report(planned: PlannedSweep, as_json: bool, show: Callable[[FinishedSweep, bool], None]) -> None:
    """Launch missing stages, show the results and report failures; raises typer.Exit with the exit code.

    A record in the workspace that is not valid, of whatever sweep, makes the code 1, as it does for `harness collect`.

    Args:
        show: prints the table of results.
    """
    from harness.launch.run_sweep import run_sweep
    from harness.system.secrets import stored_command
    from results import sinks

    result = run_sweep(planned, stored_command(["harness", *sys.argv[1:]]))
    if not result.finished:
        typer.echo(json.dumps({"sweep": result.plan.id, "message": result.message}) if as_json else result.message)
        return
    for path, why in result.not_collected:
        typer.secho(sinks.terminal(f"not collected: {path}: {why}"), fg="yellow", err=True)
    show(result, as_json)
    if not as_json:
        if not planned.missing:
            typer.echo("nothing to do: all stages are done already")
        for name, reason in result.failed.items():
            typer.secho(sinks.terminal(f"failed   {name}: {reason}"), fg="red", err=True)
        for name, reason in result.blocked.items():
            typer.secho(sinks.terminal(f"blocked  {name}: {reason}"), fg="yellow", err=True)
    if result.interrupted:
        typer.secho("interrupted: run the same command again to resume", err=True)
        raise typer.Exit(Exit.INTERRUPTED)
    if result.failed or result.blocked or result.not_collected:
        raise typer.Exit(Exit.FAILED)
