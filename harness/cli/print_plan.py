"""A plan, shown before anything runs: stages, shared ones, what exists already, what is skipped, what it will cost."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from harness.launch.base import Launcher, Options
    from harness.planning.plan import Node, Plan
    from harness.workspace.folders import Workspace


def print_plan(plan: Plan, missing: list[str], options: Options, launcher: Launcher, as_json: bool) -> None:
    """Print the plan, as JSON or for people; a long list of stages is cut for people."""
    absent = set(missing)
    if as_json:
        typer.echo(json.dumps(_as_data(plan, absent), indent=1))
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    counts = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(plan.count().items()))
    done = len(plan.nodes) - len(absent)
    cells = f"{plan.cells} cell{' needs' if plan.cells == 1 else 's need'}"
    console.print(
        f"{cells} {counts}; {done} of {len(plan.nodes)} stages exist already",
        highlight=False,
    )
    for skip in plan.skips:
        console.print(f"[yellow]skip[/] {escape(f'{skip.cell}: {skip.reason}')}", highlight=False)
    if absent:
        console.print(_table(plan, absent, options.workspace))
    console.print(_estimate(plan, missing, options), highlight=False)
    if description := launcher.describe(plan, missing, options):
        console.print(description, highlight=False, markup=False)


def _table(plan: Plan, absent: set[str], workspace: Workspace, most: int = 40) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("stage", overflow="fold", min_width=24)
    for column in ("iterations", "for cells", "key", "state"):
        table.add_column(column, no_wrap=True, justify="right" if column in ("iterations", "for cells") else "left")
    for node in list(plan.nodes.values())[:most]:
        state = "to do" if node.key in absent else "done"
        table.add_row(escape(node.name), str(node.spec.recipe.iterations), str(node.cells), node.key[:8], state)
    if len(plan.nodes) > most:
        table.add_row(f"... and {len(plan.nodes) - most} more: --dry-run --json lists all", "", "", "", "")
    return table


def _estimate(plan: Plan, missing: list[str], options: Options) -> str:
    """Multiply-adds of the training that is left; time, if stages done here tell how fast this machine is."""
    macs = {key: training_macs(plan, plan.nodes[key]) for key in missing}
    total = sum(macs.values())
    text = f"training left: {total / 1e15:.3g} PMAC (forward and backward, teachers' forward included)"
    rates = _rates(plan, options.workspace)
    if not rates or not missing:
        return text
    workers = options.workers or 1
    seconds = total / statistics.median(rates) / workers
    return f"{text}, about {seconds / 60:.0f} min with {workers} worker(s), judging by {len(rates)} stages done here"


def training_macs(plan: Plan, node: Node) -> float:
    """Multiply-adds of a stage's training: three forward passes' worth an image, plus its teacher's forward pass."""
    spec = node.spec
    images = spec.recipe.iterations * spec.recipe.batch_size
    own = 0.0 if spec.kind == "translator" else 3 * _forward_macs(spec.model.word, spec.recipe.crop)
    teacher = spec.parents.get("teacher")
    teacher_macs = _forward_macs(plan.nodes[teacher].spec.model.word, spec.recipe.crop) if teacher else 0.0
    return images * (own + teacher_macs)


def _forward_macs(word: str, crop: tuple[int, int]) -> float:
    from harness.cost.forward import forward_macs

    return forward_macs(word, crop)


def _rates(plan: Plan, workspace: Workspace) -> list[float]:
    """Multiply-adds a second of stages of this plan that are done."""
    rates = []
    for node in plan.nodes.values():
        folder = workspace.stage(node.key)
        if folder.done():
            seconds = folder.record().training.seconds
            if seconds > 0 and (macs := training_macs(plan, node)):
                rates.append(macs / seconds)
    return rates


def _as_data(plan: Plan, absent: set[str]) -> dict[str, object]:
    return {
        "sweep": plan.id,
        "cells": plan.cells,
        "stages": [
            {
                "key": node.key,
                "kind": node.spec.kind,
                "name": node.name,
                "parents": list(node.parents),
                "cells": node.cells,
                "done": node.key not in absent,
                "training_macs": training_macs(plan, node),
            }
            for node in plan.nodes.values()
        ],
        "skips": [{"cell": skip.cell, "reason": skip.reason} for skip in plan.skips],
    }
