"""`harness ablate`: the contribution of each term of a method."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.option_groups import Cells, Output, Running, sweep_keywords, with_groups
from harness.cli.report_sweep import launch_and_report, show_plan

if TYPE_CHECKING:
    import pandas as pd

    from harness.launch.run_sweep import FinishedSweep


@with_groups
def ablate(
    method: Annotated[str, typer.Argument(help="The method to ablate: ka, kd+ka[beta=10].")],
    *,
    cells: Cells,
    running: Running,
    output: Output,
) -> None:
    """Train a method in full, without each term, with each term only, and `none`; print the contribution of each term.

    Takes the options of `harness sweep`. Differences are paired over seeds: give three or more. Existing results are
    not trained again, so the command can be repeated with more seeds.

    Examples:

        harness ablate ka --strides 16 --seeds 0,1,2

        harness ablate 'kd+ka[beta=10]' --strides 8,16 --seeds 0,1,2,3,4 --dry-run
    """
    from harness.launch.run_sweep import plan_sweep
    from harness.plugins.load import load_plugins

    load_plugins(running.plugin or [])
    from harness.planning.ablation import ablation_expressions

    rows = ablation_expressions(method)
    words = sweep_keywords(cells, running, output)
    methods = [expression for _, expression in rows]
    planned = plan_sweep(methods=methods, run=not output.dry_run, place="--", **words)
    if not output.as_json:
        _print_rows(rows)
    show_plan(planned, output)

    def show(result: FinishedSweep, as_json: bool) -> None:
        _print_contributions(rows, result, as_json)

    if not output.dry_run:
        launch_and_report(planned, output.as_json, show)


def _print_rows(rows: list[tuple[str, str]]) -> None:
    from results import sinks

    width = max(len(expression) for _, expression in rows)
    for label, expression in rows:
        typer.echo(sinks.terminal(f"{expression:{width}}  {label}"))


def _print_contributions(rows: list[tuple[str, str]], result: FinishedSweep, as_json: bool) -> None:
    from results.ablation import contributions
    from results.store import open_store

    with open_store(result.database, readonly=True) as store:
        table = contributions(store, rows, result.plan.nodes)
    if as_json:
        typer.echo(json.dumps({"sweep": result.plan.id, "rows": json.loads(table.to_json(orient="records"))}))
    else:
        _print_table(table)


def _print_table(table: pd.DataFrame) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from results import sinks
    from results.ablation import bracketed

    if table.empty:
        typer.echo("no row has a finished run yet")
        return
    console = Console()
    words = ["dataset", "evaluation", "student", "stride", "recipe", "teacher"]
    for (dataset, evaluation, student, stride, recipe, teacher), part in table.groupby(words, sort=False):
        title = f"{student}@{stride} on {dataset} ({evaluation}), recipe {recipe}, taught by {teacher}"
        shown = Table(title=sinks.markup(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("row", "method", "seeds", "mIoU %", "gain over none", "lost from full"):
            shown.add_column(column, overflow="fold")
        for row in part.to_dict("records"):
            gain, cost = (_difference(row, name) for name in ("gain", "cost"))
            accuracy = bracketed(row["miou"], row["miou_low"], row["miou_high"])
            labels = sinks.markup(row["row"]).replace(", ", "\n")
            shown.add_row(labels, *map(sinks.markup, (row["expression"], row["seeds"], accuracy)), gain, cost)
        console.print(shown)
    bases = sorted({text for text in [*table["gain_basis"], *table["cost_basis"]] if text})
    typer.echo(f"mIoU in bracketed, differences in points with 95 % intervals ({'; '.join(bases) or 'none'}).")
    typer.echo("lost from full: the full method minus this row. One seed does not allow a verdict on a method.")


def _difference(row: dict[Hashable, Any], name: str) -> str:
    from results.ablation import bracketed

    text = bracketed(row[name], row[f"{name}_low"], row[f"{name}_high"], sign=True)
    return "\n".join(part for part in (text, row[f"{name}_verdict"]) if part)
