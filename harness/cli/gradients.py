"""`harness gradients`: norm and direction of each loss term's gradient during a student's training."""

from __future__ import annotations

import json
import shutil
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Workspace
from harness.errors import HarnessError

if TYPE_CHECKING:
    from rich.table import Table

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

    from results.sinks import terminal

    console = Console(highlight=False, width=max(100, shutil.get_terminal_size((160, 24)).columns))
    console.print(terminal(name), markup=False)
    terms = [term for term in rows[0]["norms"] if term != "ce"]
    for table in (_medians(rows, terms), _by_iteration(rows, terms)):
        console.print()
        console.print(table)


def _medians(rows: list[dict[str, Any]], terms: list[str]) -> Table:
    """One row per term: its gradient beside that of the cross-entropy, over the whole training."""
    from results.sinks import terminal

    table = _table("term", "|term| / |ce|", "cosine")
    for term in terms:
        ratios = [row["norms"][term] / row["norms"]["ce"] for row in rows if row["norms"]["ce"]]
        cosines = [row["cosines"][term] for row in rows if row["cosines"][term] is not None]
        table.add_row(terminal(term), _median(ratios, ".3g"), _median(cosines, "+.2f"))
    return table


def _median(values: list[float], form: str) -> str:
    """Median, and least and largest value."""
    if not values:
        return ""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _by_iteration(rows: list[dict[str, Any]], terms: list[str]) -> Table:
    from results.sinks import terminal

    short = {term: term.rpartition(".")[2] for term in terms}
    if len(set(short.values())) < len(terms):
        short = {term: term for term in terms}
    headings = [heading for term in terms for heading in (f"|{terminal(short[term])}|", "cosine")]
    table = _table("iteration", "|ce|", *headings)
    for row in rows:
        cells = [str(row["iteration"]), f"{row['norms']['ce']:.3g}"]
        for term in terms:
            cosine = row["cosines"][term]
            cells += [f"{row['norms'][term]:.3g}", "" if cosine is None else f"{cosine:+.2f}"]
        table.add_row(*cells)
    return table


def _table(*headings: str) -> Table:
    """Numbers to the right; long names of terms are wrapped, not cut."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        words = index == 0 and heading != "iteration"
        table.add_column(
            heading, justify="left" if words else "right", overflow="fold", min_width=min(len(heading), 13)
        )
    return table
