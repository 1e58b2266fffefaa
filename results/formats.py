"""The leaderboard for people (terminal, Markdown) and for programs (CSV, JSON).

mIoU in per cent, differences in percentage points, units in the headers. A MAC is one multiply-add, two FLOPs; no
number here is in FLOPs.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from results.statistics import LEVEL

if TYPE_CHECKING:
    from rich.table import Table

ALPHA = 1 - LEVEL
HOLDS = "better", "worse"
SHARED = ("dataset", "student", "teacher", "recipe", "weights", "split", "input_size")
"""Said once above the table where all rows agree."""

WORDS = ("method", "dataset", "student", "teacher", "recipe", "weights", "verdict", "numerics")
"""Columns of words, set to the left; numbers stand on the right."""
FOLDING = ("method", "dataset", "student", "teacher", "recipe", "weights")
"""Columns that may take two lines in a narrow terminal."""
OPTIONAL = ("step [× none]", "latency [ms]", "parameters [M]", "numerics")
"""Columns left out of terminals that are too narrow, in this order."""

UNITS = {
    **{name: (f"{name}_percent", 100.0) for name in ("miou", "miou_low", "miou_high", "pixel_accuracy", "best_miou")},
    **{name: (f"{name}_points", 100.0) for name in ("delta", "delta_low", "delta_high")},
    "macs": ("gmacs", 1e-9),
    "parameters": ("parameters_m", 1e-6),
}
"""Column -> its name with the unit in CSV and JSON, and the factor."""


def export_frame(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard for programs: every column, numbers unrounded, units in the names."""
    out = board.copy()
    for name, (_, factor) in UNITS.items():
        out[name] = out[name].astype(float) * factor
    return out.rename(columns={name: named for name, (named, _) in UNITS.items()})


def display_frame(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard for people: few columns, all of them text, what all rows share left to `caption`."""
    varying = [n for n in ("dataset", "student", "teacher", "recipe", "weights") if len(_values(board, n)) > 1]
    out = pd.DataFrame(index=board.index)
    out["method"] = [_method(row, board) for row in board.to_dict("records")]
    for name in varying:
        out[name] = board[name].fillna("")
    out["stride"] = board["stride"].astype(str)
    out["mIoU [%]"] = [accuracy(row) for row in board.to_dict("records")]
    out["Δ none [points]"] = [difference(row) for row in board.to_dict("records")]
    out["verdict"] = [verdict(row) for row in board.to_dict("records")]
    out["seeds"] = board["seeds"].astype(str)
    out["GMACs"] = [number(value, 1e-9) for value in board["macs"]]
    out["parameters [M]"] = [number(value, 1e-6) for value in board["parameters"]]
    out["latency [ms]"] = [number(value) for value in board["latency_ms"]]
    out["step [× none]"] = [number(value) for value in board["step_ratio"]]
    if (board["numerics"] != "").any():
        out["numerics"] = ["fell back" if text else "" for text in board["numerics"]]
    return out


def accuracy(row: Mapping[Any, Any]) -> str:
    """`52.3 ± 0.8`; where the interval covers images only, `52.3 (50.1 to 54.0) ¹`."""
    return _with_interval(row["miou"], row["miou_low"], row["miou_high"], "images" in row["miou_basis"], "")


def difference(row: Mapping[Any, Any]) -> str:
    """`+2.5 ± 0.9`, or with the interval over images in brackets; empty where there is nothing to compare with."""
    if pd.isna(row["delta"]):
        return ""
    return _with_interval(row["delta"], row["delta_low"], row["delta_high"], "images" in row["delta_basis"], "+")


def _with_interval(value: float, low: float, high: float, images: bool, sign: str) -> str:
    text = f"{100 * value:{sign}.1f}"
    if pd.isna(low) or pd.isna(high):
        return text
    if images:
        return f"{text} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f}) ¹"
    return f"{text} ± {50 * (high - low):.1f}"


def verdict(row: Mapping[Any, Any]) -> str:
    """What may be said of the difference; `²` where it also holds after Holm's correction."""
    return f"{row['verdict']} ²" if row["verdict"] in HOLDS and row["p_holm"] <= ALPHA else str(row["verdict"])


def number(value: float, factor: float = 1.0) -> str:
    """Three significant digits, at most four decimals, no exponent; empty for NaN."""
    if pd.isna(value):
        return ""
    scaled = value * factor
    digits = next((n for n, limit in enumerate((100, 10, 1, 0.1)) if abs(scaled) >= limit), 4) if scaled else 0
    return f"{scaled:.{digits}f}"


def _method(row: Mapping[Any, Any], board: pd.DataFrame) -> str:
    """The method; with its variant where two rows would otherwise look the same."""
    alike = board["method"].eq(row["method"])
    for name in ("student", "stride", "teacher", "dataset", "recipe", "weights"):
        alike &= board[name].eq(row[name])
    return f"{row['method']} ({row['variant'][:6]})" if alike.sum() > 1 else str(row["method"])


def _values(board: pd.DataFrame, name: str) -> list[str]:
    """The values of a column; rows that have no teacher do not make one differ, nor do teachers' own models."""
    students = board[board["method"] != "teacher"]
    rows = students if name == "teacher" and len(students) else board
    return [value for value in rows[name].dropna().astype(str).unique() if value]


def caption(board: pd.DataFrame) -> str:
    """What all rows share: `dataset shapes · recipe quick-1a2b3c · ...`."""
    names = {"input_size": "input", "weights": "first weights"}
    shared = ((name, _values(board, name)) for name in SHARED)
    return " · ".join(f"{names.get(name, name)} {values[0]}" for name, values in shared if len(values) == 1)


def notes(board: pd.DataFrame) -> list[str]:
    """What a reader must know to read the table right, as far as it concerns these rows."""
    if not len(board):
        return []
    said = [
        f"± is a {LEVEL:.0%} interval over seeds (Student's t). Δ is to `none` of the same data, student, stride, "
        "recipe and first weights, seed by seed. MACs are multiply-adds of one image (1 MAC = 2 FLOPs), "
        "convolutions and matrix products only."
    ]
    if board["miou_basis"].str.contains("images").any() or board["delta_basis"].str.contains("images").any():
        said.append(
            "¹ one seed: the interval is over images, not training noise; another seed may turn the difference round."
        )
    compared = int(board["p"].notna().sum())
    claimed = board["verdict"].isin(HOLDS)
    if compared > 1 and claimed.any():
        kept = int((claimed & (board["p_holm"] <= ALPHA)).sum())
        said.append(
            f"{compared} comparisons: even without any effect about one in twenty would look clear. "
            f"² also holds after Holm's correction for all of them ({kept} of {int(claimed.sum())})."
        )
    if (few := board.loc[board["seeds"].between(2, 4), "seeds"]).size:
        said.append(f"With {_span(few)} seeds an interval is itself rough; five or more make it dependable.")
    if (board["numerics"] != "").any():
        said.append(
            "fell back: precision or memory layout is not the recipe's, whose gradients were wrong on that machine."
        )
    if (board["superseded"] > 0).any():
        said.append(f"{int(board['superseded'].sum())} older runs of equal cells are not shown.")
    return said


def _span(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def as_text(board: pd.DataFrame, width: int | None = None, colour: bool | None = None) -> str:
    """The leaderboard for a terminal.

    Args:
        width: in characters; the terminal's own, or 160 where there is none. What does not fit is left out, the cost's
            details first.
        colour: by default only when standard output is a terminal.
    """
    from rich.console import Console
    from rich.text import Text

    width = width or shutil.get_terminal_size((160, 24)).columns
    colour = sys.stdout.isatty() if colour is None else colour
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False)
    shown, optional = display_frame(board), list(OPTIONAL)
    table = _rich_table(shown, board)
    while (least := _least(table)) > width and optional:
        shown = shown.drop(columns=optional.pop(0), errors="ignore")
        table = _rich_table(shown, board)
    console.width = max(width, least)
    console.print(Text(caption(board)), style="bold")
    console.print(table)
    console.width = width
    for note in notes(board):
        console.print(Text(note), style="dim")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _least(table: Table) -> int:
    """Characters that a table needs: its columns' least widths, and three between neighbours."""
    return sum((column.min_width or 1) + 3 for column in table.columns)


def _rich_table(shown: pd.DataFrame, board: pd.DataFrame) -> Table:
    """The table with its colours; units on a second line of the heading."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in shown.columns:
        folds = name in FOLDING
        heading = name.replace(" [", "\n[")
        widest = max(len(line) for line in [*heading.splitlines(), *shown[name]])
        table.add_column(
            Text(heading),
            justify="left" if name in WORDS else "right",
            no_wrap=not folds,
            overflow="fold",
            min_width=min(14, widest) if folds else widest,
        )
    styles = {"better": "green", "worse": "red"}
    for cells, said in zip(shown.itertuples(index=False), board["verdict"], strict=True):
        row = [Text(str(cell)) for cell in cells]
        row[list(shown.columns).index("verdict")].stylize(styles.get(said, "dim"))
        table.add_row(*row)
    return table


def as_markdown(board: pd.DataFrame) -> str:
    """The leaderboard as a Markdown table with its caption and notes."""
    shown = display_frame(board)
    lines = [f"**{caption(board)}**", ""] if caption(board) else []
    lines.append(markdown_line(shown.columns))
    lines.append(markdown_line("---" if name in WORDS else "---:" for name in shown.columns))
    lines += [markdown_line(row) for row in shown.itertuples(index=False)]
    lines += [text for note in notes(board) for text in ("", note)]
    return "\n".join(lines)


def markdown_line(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def as_csv(board: pd.DataFrame) -> str:
    """Every column, unrounded, units in the header."""
    return str(export_frame(board).to_csv(index=False, lineterminator="\n")).rstrip("\n")


def as_json(board: pd.DataFrame) -> str:
    """A list of objects, one a row, with the columns of the CSV; null where a number is unknown."""
    return json_objects(export_frame(board))


def json_objects(frame: pd.DataFrame) -> str:
    rows = frame.astype(object)
    rows = rows.where(rows.notna(), None)
    return json.dumps(rows.to_dict("records"), indent=1, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    return value.item()


FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {
    "table": as_text,
    "csv": as_csv,
    "md": as_markdown,
    "json": as_json,
}


def render(board: pd.DataFrame, form: str = "table") -> str:
    """The leaderboard in one of the `FORMATS`.

    Raises:
        ValueError: there is no such format.
    """
    if form not in FORMATS:
        raise ValueError(f"there is no format '{form}': {', '.join(FORMATS)}")
    if form == "table" and not len(board):
        return "no row fits"
    return FORMATS[form](board)
