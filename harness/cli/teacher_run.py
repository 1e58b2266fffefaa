"""`harness teacher run`: train or import teachers, and evaluate them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from harness.cli.option_groups import Cells, Output, Running, sweep_keywords, with_groups
from harness.cli.report_sweep import launch_and_report, show_plan

if TYPE_CHECKING:
    from harness.launch.run_sweep import FinishedSweep


@with_groups
def teacher_run(*, cells: Cells, running: Running, output: Output) -> None:
    """Train the teachers of a sweep, or import trained ones, and evaluate them; no students are trained.

    A sweep with the same options reuses them. Options for students have no effect.

    Examples:

        harness teacher run --teachers timm:resnet50/aspp@8 --dataset camvid --data-root DATA

        harness teacher run --teachers smp-hub:FOLDER --dataset DATA/dataset.yaml

        harness teacher run --teachers torchvision:fcn_resnet50 --teacher-weights FILE --teacher-classes classes.yaml
    """
    from harness.launch.run_sweep import plan_sweep, teachers_only

    words = sweep_keywords(cells, running, output)
    planned = teachers_only(plan_sweep(methods="kd", run=not output.dry_run, place="--", **words))
    show_plan(planned, output)
    if not output.dry_run:
        launch_and_report(planned, output.as_json, _print_teachers)


def _print_teachers(result: FinishedSweep, as_json: bool) -> None:
    from results.formats import render

    table = result.leaderboard(method="teacher") if len(result.runs()) else result.leaderboard()
    typer.echo(render(table, "json" if as_json else "table"))
