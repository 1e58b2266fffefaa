"""Tables of text in a terminal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from results.columns import Column


def wide_console() -> Any:
    """A console as wide as the terminal, or of 160 columns without one."""
    from rich.console import Console

    return Console(highlight=False, width=shutil.get_terminal_size((160, 24)).columns)


def print_table(console: Any, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a titled table; nothing if it has no rows."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from results import sinks

    if not rows:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for place, heading in enumerate(headings):
        table.add_column(Text(sinks.terminal(heading)), overflow="fold", no_wrap=place == 0)
    for row in rows:
        table.add_row(*(Text(sinks.terminal(text)) for text in row))
    console.print(table)


def difference_unit(column: Column) -> str:
    """The unit of differences of a column."""
    return "points" if column.unit == "%" else column.unit or column.heading
