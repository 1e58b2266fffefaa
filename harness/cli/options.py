"""Options shared by many commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import HarnessError

DEFAULT_WORKSPACE = Path("runs")

Workspace = Annotated[
    Path,
    typer.Option("--workspace", "-w", envvar="HARNESS_WORKSPACE", help="Workspace folder: records, weights, logs."),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="HARNESS_DB",
        help="Database: a file, or a URL such as postgresql://user@host/name (password: PGPASSWORD or ~/.pgpass).",
        show_default="WORKSPACE/results.db",
    ),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", help="Python file that registers methods, backbones, data sets, metrics or launchers; repeatable."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

RunWords = Annotated[list[str], typer.Argument(metavar="RUN", help="Beginning of its key, or words of its cell.")]
RecordedDevice = Annotated[
    str, typer.Option("--device", help="auto: the kind of device in the record; or cpu, cuda, ...")
]
OriginalData = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="HARNESS_DATA", help="Folder of the data set; by default the original one."),
]


def database(workspace: Path, db: str | None) -> str:
    """The named database, or the workspace's file."""
    return db or str(workspace / "results.db")


def named_runs(target: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Label -> keys of its runs, of every run or row that is named; one name that means nothing refuses all.

    Args:
        target: the database.
        names: beginnings of keys, or words of a row such as 'ka @16'.
    """
    from results.naming import named_sides
    from results.store import open_store

    try:
        with open_store(target, readonly=True) as store:
            return named_sides(store, names)
    except ValueError as error:
        raise HarnessError(str(error)) from error


def load_given(plugins: list[Path] | None) -> None:
    """Load the given plugins; without any, import nothing (methods need torch)."""
    if plugins:
        from harness.plugins.load import load_plugins

        load_plugins(plugins)


def parse_strides(text: str) -> list[int]:
    """Parse output strides such as "8,16,32".

    Raises:
        HarnessError: the text is not a list of numbers.
    """
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise HarnessError(f"'{text}' is not a list of output strides", "write them as 8,16,32")
    return found
