"""`harness ablate`: what each term of a method contributes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.parse_sweep import parse_pairs, sweep_spec
from harness.cli.sweep import execute, sweep

if TYPE_CHECKING:
    import pandas as pd

    from harness.launch.base import Options
    from harness.planning.plan import Plan

_WORDS = (
    "strides", "students", "head", "teachers", "teacher_strides", "dataset", "recipe", "seeds", "teacher_seed",
    "weights", "teacher_weights",
)  # fmt: skip
_OPTIONS = ("workspace", "db", "data_root", "device", "workers", "threads", "loader_workers", "checkpoint_every")


def ablate(method: str, **words: Any) -> None:
    """Train a method in full, without each of its terms, with each term only, and `none`; print what each contributes.

    All options are those of `harness sweep`. Differences are paired over seeds: give three or more. What exists
    already is not trained again, so the command can be repeated with more seeds.

    Examples:

        harness ablate ka --strides 16 --seeds 0,1,2

        harness ablate 'kd+ka[beta=10]' --strides 8,16 --seeds 0,1,2,3,4 --dry-run
    """
    if words["launcher"] == "local" and not words["dry_run"]:
        from harness.launch.local import warm_up

        warm_up()
    from harness.launch.launchers import make_options
    from harness.plugins.load import load_plugins

    plugins: list[Path] = words["plugin"] or []
    load_plugins(plugins)
    from harness.planning.ablation import ablation_expressions

    rows = ablation_expressions(method)
    flags = {name: words[name] for name in _WORDS} | {"set": words["changes"]}
    spec = sweep_spec(flags | {"methods": [expression for _, expression in rows]}, words["file"], plugins)
    options = make_options(
        **{name: words[name] for name in _OPTIONS}, plugins=plugins, quiet=words["as_json"],
        launcher=words["launcher"],
        settings=parse_pairs(words["option"] or [], "--option"),
    )  # fmt: skip
    if not words["as_json"]:
        _print_rows(rows)

    def show(plan: Plan, options: Options, as_json: bool) -> None:
        _collect_and_print(method, plan, options, as_json)

    execute(
        spec, options, words["launcher"], words["weights_dir"], dry_run=words["dry_run"], as_json=words["as_json"],
        show=show,
    )  # fmt: skip


def _print_rows(rows: list[tuple[str, str]]) -> None:
    width = max(len(expression) for _, expression in rows)
    for label, expression in rows:
        typer.echo(f"{expression:{width}}  {label}")


def _collect_and_print(method: str, plan: Plan, options: Options, as_json: bool) -> None:
    from harness.planning.ablation import ablation_expressions
    from results.ablation import contributions
    from results.ingest import collect
    from results.store import open_store

    with open_store(options.database) as store:
        for path, why in collect(options.workspace.root, store).invalid:
            typer.secho(f"not collected: {path}: {why}", fg="yellow", err=True)
        table = contributions(store, ablation_expressions(method), plan.nodes)
    if as_json:
        typer.echo(json.dumps({"sweep": plan.id, "rows": json.loads(table.to_json(orient="records"))}))
    else:
        _print_table(table)


def _print_table(table: pd.DataFrame) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from results.ablation import percent

    if table.empty:
        typer.echo("no row has a finished run yet")
        return
    console = Console()
    for place, part in table.groupby(["dataset", "student", "stride", "recipe", "teacher"], sort=False):
        dataset, student, stride, recipe, teacher = place
        title = f"{student}@{stride} on {dataset}, recipe {recipe}, taught by {teacher}"
        shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("row", "method", "seeds", "mIoU %", "gain over none", "lost from full"):
            shown.add_column(column, overflow="fold")
        for row in part.to_dict("records"):
            gain, cost = (_difference(row, name) for name in ("gain", "cost"))
            accuracy = percent(row["miou"], row["miou_low"], row["miou_high"])
            labels = str(row["row"]).replace(", ", "\n")
            shown.add_row(
                labels, *(escape(str(cell)) for cell in (row["expression"], row["seeds"], accuracy, gain, cost))
            )
        console.print(shown)
    bases = sorted({text for text in [*table["gain_basis"], *table["cost_basis"]] if text})
    typer.echo(f"mIoU in per cent, differences in points with 95 % intervals ({'; '.join(bases) or 'none'}).")
    typer.echo("lost from full: the full method minus this row. One seed gives no verdict on a method.")


def _difference(row: dict[Hashable, Any], name: str) -> str:
    from results.ablation import percent

    text = percent(row[name], row[f"{name}_low"], row[f"{name}_high"], sign=True)
    return "\n".join(part for part in (text, row[f"{name}_verdict"]) if part)


def _options_of_sweep() -> inspect.Signature:
    """The sweep's options, with one method in the place of its list."""
    shared = inspect.signature(sweep, eval_str=True).parameters.values()
    words = typer.Argument(help="The method to take apart: ka, kd+ka[beta=10].")
    first = inspect.Parameter("method", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Annotated[str, words])
    return inspect.Signature(
        [first, *(option for option in shared if option.name != "methods")], return_annotation=None
    )


ablate.__signature__ = _options_of_sweep()  # type: ignore[attr-defined]
ablate.__annotations__ = {name: p.annotation for name, p in _options_of_sweep().parameters.items()} | {"return": None}
