"""`harness doctor`: check whether this machine has what the harness needs."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Database, Workspace, database
from harness.errors import Exit

if TYPE_CHECKING:
    from rich.console import Console

    from harness.numerics.check import Finding
    from harness.system.checks import Check

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red", "info": "dim"}


def doctor(
    numerics: Annotated[
        bool, typer.Option("--numerics", help="Compare convolutions in every precision and memory layout with float64.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="Device for --numerics: auto, cpu, cuda, mps.")] = "auto",
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", envvar="HARNESS_DATA", help="Folder of data sets."),
    ] = None,
    weights_dir: Annotated[
        Path | None,
        typer.Option("--weights-dir", envvar="HARNESS_WEIGHTS", help="Folder of ImageNet weights."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show versions, devices, scheduler, database, data sets and weights, with a remedy for each problem.

    Changes nothing. Exit code 1 if something that the harness needs is broken. With --numerics, also show which
    convolutions this machine computes wrongly, in which precision and memory layout: stages never train in those.

    Examples:

        harness doctor

        harness doctor --numerics --json
    """
    from rich.console import Console

    from harness.doctor import diagnose

    console = Console(stderr=as_json, highlight=False)
    with console.status("checking (importing torch takes a few seconds)"):
        checks = list(diagnose(workspace, database(workspace, db), data_root, weights_dir))
        findings = _compare(device) if numerics else []
    if as_json:
        typer.echo(json.dumps(_as_data(checks, findings), indent=1, allow_nan=False))
    else:
        _print_checks(console, checks)
        if findings:
            _print_findings(console, findings, device)
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(Exit.FAILED)


def _compare(device: str) -> list[Finding]:
    from harness.numerics.check import table
    from harness.system.devices import pick_device

    return table(pick_device(device))


def _as_data(checks: list[Check], findings: list[Finding]) -> dict[str, Any]:
    data: dict[str, Any] = {"checks": [dataclasses.asdict(check) for check in checks]}
    if findings:
        data["numerics"] = [
            {
                "convolution": found.what,
                "precision": found.precision,
                "channels_last": found.channels_last,
                # JSON has no NaN and no infinity.
                "relative_errors": {k: v if math.isfinite(v) else str(v) for k, v in found.errors.items()},
                "tolerance": found.tolerance,
                "right": found.right,
                "error": found.error,
            }
            for found in findings
        ]
    return data


def _print_checks(console: Console, checks: list[Check]) -> None:
    from rich.markup import escape
    from rich.table import Table

    grid = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(4):
        grid.add_column(overflow="fold")
    area = ""
    for check in checks:
        colour = _COLOURS[check.status]
        remedy = f"\n[dim]→ {escape(check.remedy)}[/]" if check.remedy else ""
        head = "" if check.area == area else f"[bold]{check.area}[/]"
        grid.add_row(head, f"[{colour}]{check.status}[/]", escape(check.name), escape(check.found) + remedy)
        area = check.area
    console.print(grid)
    broken = [check for check in checks if check.status == "fail"]
    if broken:
        console.print(f"[bold red]{len(broken)} broken[/]: the harness cannot work here until this is fixed")
    else:
        console.print("[green]everything that the harness needs is here[/]")


def _print_findings(console: Console, findings: list[Finding], device: str) -> None:
    """One row per kind of convolution, one column per combination: the largest of three relative errors."""
    from rich.markup import escape
    from rich.table import Table

    from harness.numerics.kernels import kernel_name
    from harness.system.devices import device_name, pick_device

    combinations = list(dict.fromkeys((found.precision, found.channels_last) for found in findings))
    name = device_name(pick_device(device))
    grid = Table(
        title=f"Relative error against float64, on {name}: the largest of output, input gradient and weight gradient; "
        "NCHW is contiguous, NHWC channels_last",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    grid.add_column("convolution", no_wrap=True)
    for precision, channels_last in combinations:
        grid.add_column(f"{precision}\n{'NHWC' if channels_last else 'NCHW'}", justify="right", no_wrap=True)
    for case, own in dict.fromkeys((found.case, found.own) for found in findings):
        cells = {(f.precision, f.channels_last): _verdict(f) for f in findings if (f.case, f.own) == (case, own)}
        kernel = f", {kernel_name(case)}" * own
        grid.add_row(case.kind + kernel, *(cells.get(pair, "") for pair in combinations))
    console.print()
    console.print(grid)
    wrong = [found for found in findings if not found.right]
    for found in wrong:
        console.print(f"[red]wrong[/] {escape(str(found))}")
    console.print(
        "Stages with such a convolution train with the harness's own kernel where those are right, otherwise in the "
        "next combination that is right; log, record and board say so."
        if wrong
        else "[green]all right[/]"
    )


def _verdict(found: Finding) -> str:
    if found.error:
        return "[yellow]cannot run[/]"
    errors = list(found.errors.values())
    worst = math.nan if any(math.isnan(error) for error in errors) else max(errors)
    return f"[green]{worst:.0e}[/]" if found.right else "[bold red]WRONG[/]"
