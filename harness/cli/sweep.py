"""`harness sweep`: run a sweep and print the leaderboard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.option_groups import Cells, Output, Running, sweep_keywords, with_groups
from harness.cli.report_sweep import launch_and_report, show_plan

if TYPE_CHECKING:
    from harness.launch.run_sweep import FinishedSweep


@with_groups
def sweep(
    methods: Annotated[
        str | None, typer.Option("--methods", "-m", help="Methods: none,kd,ka-affinity,kd[tau=2|4] or all.")
    ] = None,
    *,
    cells: Cells,
    running: Running,
    output: Output,
) -> None:
    """Train every method x student x output stride x seed, and print the leaderboard.

    Teachers and translators are trained once and shared. Existing results are not trained again: run the same command
    again to resume after an interruption, or with more seeds to add them.

    Examples:

        harness sweep --methods ka,kd --strides 8,16,32

        harness sweep -m none,kd,ka -s 16 --students smp:resnet18/deeplabv3plus --teacher timm:resnet50/aspp@8 --dry-run

        harness sweep -m 'ka[beta=1|10|50]' -s 16 --seeds 0,1,2 --dataset camvid --data-root DATA --weights-dir WEIGHTS

        harness sweep -f sweep.yaml --launcher slurm --partition gpu --time 4:00:00 -o teacher.mem=64G
    """
    from harness.launch.run_sweep import plan_sweep

    words = sweep_keywords(cells, running, output)
    planned = plan_sweep(methods=methods, run=not output.dry_run, place="--", **words)
    show_plan(planned, output)
    if not output.dry_run:
        launch_and_report(planned, output.as_json, _print_board)


def _print_board(result: FinishedSweep, as_json: bool) -> None:
    from results.formats import render
    from results.leads import warnings

    table = result.leaderboard()
    if as_json:
        typer.echo(json.dumps({"sweep": result.plan.id, "rows": json.loads(render(table, "json"))}))
    else:
        typer.echo(render(table, "table") if len(table) else "no student of this sweep is done yet")
        for sentence in warnings(table):
            typer.secho(sentence, fg="yellow", err=True)
        typer.echo("See it in a browser: harness dashboard --workspace " + str(result.workspace.root))
