"""`harness data check`: what is wrong with the files of a data set, before any training."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import AsJson, Plugins

if TYPE_CHECKING:
    from harness.data.base import Dataset, Problem

DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="HARNESS_DATA", help="Folder that holds the data set, or the one above it."),
]

SHOWN = 50
"""Problems that are printed one by one; --json has them all."""


def data_check(
    dataset: Annotated[str, typer.Argument(help="A data set: camvid, shapes[size=96], DIR/dataset.yaml.")],
    data_root: DataRoot = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only presence and pairing; decode nothing.")] = False,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Decode every file of a data set and name those that are wrong.

    Found are missing folders and files, images without labels and the other way round, files that cannot be decoded,
    label values out of range, wrong modes, labels of another size than their image, and empty splits. Exit code 1 when
    there is anything.

    Examples:

        harness data check camvid --data-root ~/data

        harness data check 'shapes[size=96]' --json
    """
    from harness.builders.datasets import open_dataset
    from harness.plugins.load import load_plugins

    load_plugins(plugin or [])
    opened = open_dataset(dataset, data_root)
    problems = _check(opened, not quick, show=not as_json)
    sizes = {name: len(opened.split(name)) for name in opened.splits}
    if as_json:
        found = [{"file": problem.file, "what": problem.what} for problem in problems]
        typer.echo(json.dumps({"dataset": opened.name, "samples": sizes, "problems": found}, indent=1))
    else:
        _tell(opened, sizes, problems)
    if problems:
        raise typer.Exit(1)


def _check(dataset: Dataset, full: bool, show: bool) -> list[Problem]:
    """The problems, under a progress bar where the data set can say how far it is."""
    import inspect

    if not full or "progress" not in inspect.signature(dataset.check).parameters:
        return dataset.check(full)
    check: Any = dataset.check
    with _bar() if show else nullcontext() as bar:
        task = bar.add_task("decoding", total=None) if bar else None
        return check(full, progress=lambda done, total: bar and bar.update(task, completed=done, total=total))


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _tell(dataset: Dataset, sizes: dict[str, int], problems: list[Problem]) -> None:
    for problem in problems[:SHOWN]:
        typer.secho(str(problem), fg="red")
    if len(problems) > SHOWN:
        typer.echo(f"... and {len(problems) - SHOWN} more: --json prints all")
    counts = ", ".join(f"{name} {count}" for name, count in sizes.items())
    verdict = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}" if problems else "nothing wrong"
    typer.echo(f"{dataset.name}: {counts}; {verdict}")
