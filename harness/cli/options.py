"""Options that many commands share: one spelling, one environment variable, one default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import HarnessError

DEFAULT_WORKSPACE = Path("runs")

Workspace = Annotated[
    Path,
    typer.Option("--workspace", "-w", envvar="HARNESS_WORKSPACE", help="Folder in which everything happens."),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="HARNESS_DB",
        help="Database: a file, or a URL such as postgresql://user@host/name.",
        show_default="WORKSPACE/results.db",
    ),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", help="Python file that registers methods, backbones, data sets, metrics or launchers; repeatable."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def database(workspace: Path, db: str | None) -> str:
    """The database that is meant: the one named, or the workspace's own file."""
    return db or str(workspace / "results.db")


def load_given(plugins: list[Path] | None) -> None:
    """Load the plugins that a command was given; without any, import nothing (methods need torch)."""
    if plugins:
        from harness.plugins.load import load_plugins

        load_plugins(plugins)


def parse_strides(text: str) -> list[int]:
    """Output strides from "8,16,32".

    Raises:
        HarnessError: it is not a list of numbers.
    """
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise HarnessError(f"'{text}' is not a list of output strides", "write them as 8,16,32")
    return found
