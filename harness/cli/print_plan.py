"""Print a plan: stages, which are shared, done or skipped, and the estimated cost."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from harness.launch.base import Launcher, Options
    from harness.planning.plan import Plan
    from harness.workspace.folders import Workspace


def print_plan(plan: Plan, missing: list[str], options: Options, launcher: Launcher, as_json: bool) -> None:
    """Print the plan as JSON, or as text with a long list of stages truncated."""
    absent = set(missing)
    if as_json:
        typer.echo(json.dumps(_as_data(plan, absent, launcher.cohorts(plan, missing, options), options), indent=1))
        return
    from rich.console import Console

    from results import sinks

    console = Console()
    counts = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(plan.count().items()))
    done = len(plan.nodes) - len(absent)
    cells = f"{plan.cells} cell{' needs' if plan.cells == 1 else 's need'}"
    console.print(
        f"{cells} {counts}; {done} of {len(plan.nodes)} stages exist already",
        highlight=False,
    )
    for skip in plan.skips:
        console.print(f"[yellow]skip[/] {sinks.markup(f'{skip.cell}: {skip.reason}')}", highlight=False)
    if absent:
        console.print(_table(plan, absent, options.workspace))
    cohorts = launcher.cohorts(plan, missing, options)
    if told := _told_cohorts(plan, cohorts):
        console.print(sinks.markup(told), highlight=False)
    console.print(_estimate(plan, cohorts, options), highlight=False)
    if description := launcher.describe(plan, missing, options):
        console.print(description, highlight=False, markup=False)


def _table(plan: Plan, absent: set[str], workspace: Workspace, most: int = 40) -> Table:
    from rich.table import Table

    from results import sinks

    table = Table(box=None, pad_edge=False)
    table.add_column("stage", overflow="fold", min_width=24)
    for column in ("iterations", "for cells", "key", "state"):
        table.add_column(column, no_wrap=True, justify="right" if column in ("iterations", "for cells") else "left")
    for node in list(plan.nodes.values())[:most]:
        state = "to do" if node.key in absent else "done"
        table.add_row(sinks.markup(node.name), str(node.spec.recipe.iterations), str(node.cells), node.key[:8], state)
    if len(plan.nodes) > most:
        table.add_row(f"... and {len(plan.nodes) - most} more: --dry-run --json lists all", "", "", "", "")
    return table


def _told_cohorts(plan: Plan, cohorts: Sequence[tuple[str, ...]]) -> str:
    """A description of the cohorts and the teacher passes that they save; "" if there are none."""
    several = [cohort for cohort in cohorts if len(cohort) > 1]
    if not several:
        return ""
    learners = [sum("teacher" in plan.nodes[key].spec.parents for key in cohort) for cohort in several]
    saved = sum(count - 1 for count in learners if count)
    sizes = ", ".join(str(len(cohort)) for cohort in several)
    passes = sum(map(bool, learners))
    return (
        f"{sum(map(len, several))} students in {len(several)} cohort{'s' if len(several) > 1 else ''} ({sizes}), each "
        f"trained in lock-step on the same batches: {passes} teacher pass{'es' * (passes != 1)} per "
        f"batch instead of {sum(learners)}, {saved} saved"
    )


def _seconds(plan: Plan, cohorts: Sequence[tuple[str, ...]], options: Options) -> tuple[float, int] | None:
    """Estimated seconds of what remains, and the number of finished stages this is based on; None if none."""
    from harness.planning.estimate import cohort_work, stage_rates

    rates = stage_rates(plan, options.workspace)
    if not rates or not cohorts:
        return None
    total = sum(cohort_work(plan, cohort) for cohort in cohorts)
    return total / statistics.median(rates) / (options.workers or 1), len(rates)


def _estimate(plan: Plan, cohorts: Sequence[tuple[str, ...]], options: Options) -> str:
    """Multiply-adds of what remains; also the time, if finished stages show this machine's speed."""
    from harness.planning.estimate import cohort_macs, evaluation_macs

    training = sum(cohort_macs(plan, cohort) for cohort in cohorts) / 1e15
    evaluation = sum(evaluation_macs(plan, plan.nodes[key]) for cohort in cohorts for key in cohort) / 1e15
    text = (
        f"remaining: {training:.3g} PMAC of training (forward and backward, teachers' forward included), "
        f"{evaluation:.3g} of evaluation"
    )
    if not (found := _seconds(plan, cohorts, options)):
        return text
    workers = options.workers or 1
    return f"{text}, about {found[0] / 60:.0f} min with {workers} worker(s), based on {found[1]} finished stages"


def _as_data(plan: Plan, absent: set[str], cohorts: Sequence[tuple[str, ...]], options: Options) -> dict[str, object]:
    from harness.planning.estimate import cohort_macs, evaluation_macs, teacher_macs, training_macs

    found = _seconds(plan, cohorts, options)
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
                "evaluation_macs": evaluation_macs(plan, node),
            }
            for node in plan.nodes.values()
        ],
        "cohorts": [
            {
                "stages": list(cohort),
                "training_macs": cohort_macs(plan, cohort),
                "macs_saved": sum(training_macs(plan, plan.nodes[key]) for key in cohort) - cohort_macs(plan, cohort),
                "teacher_passes_saved": max(0, sum(bool(teacher_macs(plan, plan.nodes[key])) for key in cohort) - 1),
            }
            for cohort in cohorts
        ],
        "estimated_s": found[0] if found else None,
        "skips": [{"cell": skip.cell, "reason": skip.reason} for skip in plan.skips],
    }
