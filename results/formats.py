"""The leaderboard for people (terminal, Markdown) and for programs (CSV, JSON).

What a column is called, in which unit and with how many digits it is shown, `results.columns` declares; text from
records passes through `results.sinks`. A MAC is one multiply-add, two FLOPs; no number here is in FLOPs.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from results import sinks
from results.columns import Column
from results.flags import MEANING
from results.leaderboard import columns_of, metric_of
from results.statistics import IMAGES_ONLY, LEVEL

if TYPE_CHECKING:
    from rich.table import Table

ALPHA = 1 - LEVEL
HOLDS = "better", "worse"
VARYING = ("dataset", "evaluation", "student", "teacher", "recipe", "weights")
"""Columns where rows differ; else said above the table."""
SHARED = (*VARYING, "split", "input_size")
"""Said once above the table where all rows agree."""
FOLDING = ("method", *VARYING, "tags")
"""Columns that may take two lines in a narrow terminal."""
Sections = Sequence[tuple[str, Sequence[int]]]
"""Headings, and the positions of the rows below each."""
OPTIONAL = ("step_ratio", "latency_ms", "training_s", "parameters", "flags", "gap_closed", "tier", "tags")
"""Columns left out of terminals that are too narrow, in this order."""


def export_frame(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard for programs: every column, numbers unrounded, units in the names."""
    columns = columns_of(board)
    out = board.copy()
    for name in (name for name in out.columns if columns[name].factor != 1):
        out[name] = out[name].astype(float) * columns[name].factor
    return out.rename(columns={name: column.exported for name, column in columns.items()})


def shown_columns(board: pd.DataFrame) -> list[Column]:
    """The columns of the leaderboard for people: what all rows share is left to `caption`."""
    columns = columns_of(board)
    varying = [name for name in VARYING if len(_values(board, name)) > 1]
    tier, gap = ([name] if board[name].notna().any() else [] for name in ("tier", "gap_closed"))
    names = ["method", *varying, "stride", metric_of(board), *tier, "delta", "verdict", *gap, "seeds"]
    names += ["macs", "parameters", "latency_ms", "training_s", "step_ratio"]
    if any(_own_flags(board).values()):
        names.append("flags")
    if "tags" in board and board["tags"].any():
        names.append("tags")
    return [columns[name] for name in names]


def shared_flags(board: pd.DataFrame) -> list[str]:
    """The flags that all students' rows have: said once, below the table."""
    if (found := board.attrs.get("shared_flags")) is not None:  # a page of a longer table
        return list(found)
    students = board[board["method"] != "teacher"]
    if len(students) < 2:
        return []
    return [flag for flag in MEANING if all(flag in words.split("; ") for words in students["flags"].unique())]


def own_flags(board: pd.DataFrame) -> list[str]:
    """The flags of every row, less those that all share."""
    own = _own_flags(board)
    return [own[words] for words in board["flags"]]


def _own_flags(board: pd.DataFrame) -> dict[str, str]:
    """The flags that occur together -> those of them that not all rows share."""
    shared = shared_flags(board)
    return {
        words: "; ".join(flag for flag in words.split("; ") if flag not in shared) for words in board["flags"].unique()
    }


def cells(column: Column, board: pd.DataFrame) -> list[str]:
    """A column of a leaderboard as people are shown it, wherever that is; text from records as it stands there."""
    name = column.name
    if name == "flags":
        return own_flags(board)
    if name == "method":
        return _methods(board)
    if name == "verdict":
        return [verdict(row) for row in board[["verdict", "p_holm"]].to_dict("records")]
    if name in (metric_of(board), "delta", "gap_closed"):
        parts = board[[name, f"{name}_low", f"{name}_high", f"{name}_basis"]].to_dict("records")
        return [with_interval(column, row, "+" if name == "delta" else "") for row in parts]
    return [cell(column, value) for value in board[name]]


def cell(column: Column, value: Any) -> str:
    """A value in its column's unit and digits; empty where it is unknown."""
    if pd.isna(value):
        return ""
    if column.type == "number" or column.factor != 1:
        return number(value, column.factor, column.digits)
    return str(value)


def with_interval(column: Column, row: Mapping[Any, Any], sign: Literal["", "+"] = "") -> str:
    """`52.3 ± 0.8`; where the interval covers images only, `52.3 (50.1 to 54.0) ¹`; empty without a value."""
    value, low, high = (row[f"{column.name}{end}"] for end in ("", "_low", "_high"))
    if pd.isna(value):
        return ""
    digits, factor = 1 if column.digits is None else column.digits, column.factor
    text = f"{factor * value:{sign}.{digits}f}"
    if pd.isna(low) or pd.isna(high):
        return text
    if IMAGES_ONLY in row[f"{column.name}_basis"]:
        return f"{text} ({factor * low:{sign}.{digits}f} to {factor * high:{sign}.{digits}f}) ¹"
    return f"{text} ± {factor * (high - low) / 2:.{digits}f}"


def verdict(row: Mapping[Any, Any]) -> str:
    """What may be said of the difference; `²` where it also holds after Holm's correction."""
    return f"{row['verdict']} ²" if row["verdict"] in HOLDS and row["p_holm"] <= ALPHA else str(row["verdict"])


def number(value: float, factor: float = 1.0, decimals: int | None = None) -> str:
    """So many decimals, or three significant digits with at most four decimals; no exponent; empty for NaN."""
    if pd.isna(value):
        return ""
    scaled = value * factor
    digits = next((n for n, limit in enumerate((100, 10, 1, 0.1)) if abs(scaled) >= limit), 4) if scaled else 0
    return f"{scaled:.{digits if decimals is None else decimals}f}"


def _methods(board: pd.DataFrame) -> list[str]:
    """The methods; with their variants where two rows would otherwise look the same."""
    alike = board["row"].isin(namesakes(board))
    shown = zip(board["method"], board["variant"], alike, strict=True)
    return [f"{method} ({variant[:6]})" if several else str(method) for method, variant, several in shown]


def namesakes(board: pd.DataFrame) -> list[str]:
    """The rows that look the same as another one: they are told apart by their variants."""
    if (found := board.attrs.get("namesakes")) is not None:  # a page of a longer table
        return list(found)
    return list(board.loc[board.duplicated(["method", "stride", *VARYING], keep=False), "row"])


def _values(board: pd.DataFrame, name: str) -> list[str]:
    """The values of a column; rows that have no teacher do not make one differ, nor do teachers' own models."""
    rows = board
    if name == "teacher" and len(students := board[board["method"] != "teacher"]):
        rows = students
    return [text for text in map(str, rows[name].dropna().unique()) if text]


def caption(board: pd.DataFrame) -> str:
    """What all rows share: `dataset shapes · recipe quick-1a2b3c · ...`."""
    names = {"input_size": "input", "weights": "initial weights"}
    shared = ((name, _values(board, name)) for name in SHARED)
    return " · ".join(f"{names.get(name, name)} {values[0]}" for name, values in shared if len(values) == 1)


def notes(board: pd.DataFrame) -> list[str]:
    """What a reader must know to read the table right, as far as it concerns these rows."""
    if not len(board):
        return []
    said = [
        f"± is a {LEVEL:.0%} interval over seeds (Student's t). Δ is to `none` of the same data, student, stride, "
        "recipe and initial weights, seed by seed. MACs are multiply-adds of one image (1 MAC = 2 FLOPs), "
        "convolutions and matrix products only."
    ]
    intervals = board[f"{metric_of(board)}_basis"], board["delta_basis"]
    if any(basis.str.contains(IMAGES_ONLY).any() for basis in intervals):
        said.append(
            "¹ one seed: the interval is over images, not training noise; another seed may turn the difference round."
        )
    if "absent" in board and len(absent := sorted(name for name in board["absent"].dropna().unique() if name)):
        said.append(_of_absent(board, absent))
    compared = _comparisons(board)
    claimed = board["verdict"].isin(HOLDS)
    if compared > 1 and claimed.any():
        kept = int((claimed & (board["p_holm"] <= ALPHA)).sum())
        said.append(
            f"{compared} comparisons in the database, shown or not: even without any effect about one in twenty would "
            f"look clear. ² also holds after Holm's correction for all of them ({kept} of {int(claimed.sum())})."
        )
    if (few := board.loc[board["seeds"].between(2, 4), "seeds"]).size:
        said.append(f"With {_span(few)} seeds an interval is itself rough; five or more make it dependable.")
    said += _of_standing(board)
    if pending := board.attrs.get("pending"):
        said.append(f"Tiers and intervals over images of {pending} rows are not computed yet: run `harness collect`.")
    if hidden := board.attrs.get("hidden"):
        said.append(
            f"{hidden} row{'' if hidden == 1 else 's'} hidden by `harness hide` left out (--hidden shows them); hidden "
            "runs count in intervals, tiers and corrections."
        )
    if (board["superseded"] > 0).any():
        said.append(f"{int(board['superseded'].sum())} older runs of equal cells are not shown.")
    return said


def _of_standing(board: pd.DataFrame) -> list[str]:
    """What tiers, the gap closed and the flags mean, as far as they occur."""
    said = []
    if board["tier"].notna().any():
        said.append(
            "Tier: within the same data, student, stride and recipe, the rows that cannot be told from the tier's best "
            "(bootstrap over seeds and images; of all rows in the database, shown or not)."
        )
    if board["gap_closed"].notna().any():
        said.append("Gap closed: the share of the teacher's lead over `none`, where it is clearly ahead.")
    shared, own = shared_flags(board), "; ".join(_own_flags(board).values()).split("; ")
    meanings = {flag: meaning for flag, meaning in MEANING.items() if flag not in ("one seed",)}
    said += [f"All rows: {flag}: {meaning}." for flag, meaning in meanings.items() if flag in shared]
    return said + [f"{flag}: {meaning}." for flag, meaning in meanings.items() if flag in own]


def _of_absent(board: pd.DataFrame, absent: list[str]) -> str:
    """Over which classes the means are, and what was called something else."""
    shares = 100 * board["absent_share"].min(), 100 * board["absent_share"].max()
    low, high = (f"{share:.2g}" if share < 10 else f"{share:.0f}" for share in shares)
    span = low if low == high else f"{low} to {high}"
    counted = ", ".join(sorted({str(value) for value in board.loc[board["absent"].isin(absent), "classes"]}))
    return (
        f"Means over classes are over those that occur in the labels, the same in every row: {counted} "
        f"(not {'; '.join(absent)}). {span} % of the labelled pixels were called one of the others."
    )


def _comparisons(board: pd.DataFrame) -> int:
    """Over how many comparisons Holm's correction went, for the data sets shown."""
    counted = board.attrs.get("comparisons")
    return (
        int(board["p"].notna().sum()) if counted is None else sum(counted.get(d, 0) for d in board["dataset"].unique())
    )


def _span(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def as_text(
    board: pd.DataFrame,
    width: int | None = None,
    colour: bool | None = None,
    everything: pd.DataFrame | None = None,
    sections: Sections = (),
) -> str:
    """The leaderboard for a terminal.

    Args:
        width: in characters; the terminal's own, or 160 where there is none. What does not fit is left out, the cost's
            details first.
        colour: by default only when standard output is a terminal.
        everything: all rows in brief (`results.brief`), where the board is only some of them.
        sections: tables below one another instead of a single one.
    """
    from rich.console import Console
    from rich.text import Text

    width = width or shutil.get_terminal_size((160, 24)).columns
    colour = sys.stdout.isatty() if colour is None else colour
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False)
    everything = board if everything is None else everything
    columns, optional = shown_columns(everything), list(OPTIONAL)
    table = _rich_table(columns, board)
    while (least := _least(table)) > width and optional:
        left_out = optional.pop(0)
        columns = [column for column in columns if column.name != left_out]
        table = _rich_table(columns, board)
    console.width = max(width, least)
    console.print(Text(sinks.terminal(caption(everything))), style="bold")
    for title, places in sections:
        console.print(Text(f"\n{sinks.terminal(title)}"), style="bold")
        console.print(_rich_table(columns, board, places, console.width))
    if not sections:
        console.print(table)
    console.width = width
    cut = len(everything) - len(board)
    said = [f"{cut} more row{'' if cut == 1 else 's'}: --top 0 shows all."] if cut else []
    for note in [*said, *notes(everything), *_other_metrics(board)]:
        console.print(Text(note), style="dim")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _other_metrics(board: pd.DataFrame) -> list[str]:
    """What else was measured of these rows, and how to see it."""
    others = [n for n in board.attrs.get("metrics", {}) if n != metric_of(board) and board[n].notna().any()]
    return [f"Also measured: {', '.join(others)}; --metric NAME ranks by one of them."] if others else []


def _least(table: Table) -> int:
    """Characters that a table needs: its columns' least widths, and three between neighbours."""
    return sum((column.min_width or 1) + 3 for column in table.columns)


def _rich_table(
    columns: list[Column], board: pd.DataFrame, places: Sequence[int] | None = None, room: int = 0
) -> Table:
    """The table with its colours; units on a second line of the heading.

    Args:
        places: only the rows at these positions, as wide as all.
        room: in characters: where all columns have room for their longest texts, none is narrower.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    headings = [sinks.terminal(column.title).replace(" [", "\n[") for column in columns]
    texts = [[sinks.terminal(text) for text in cells(column, board)] for column in columns]
    widest = [max(map(len, [*heading.splitlines(), *many])) for heading, many in zip(headings, texts, strict=True)]
    fits = sum(widest) + 3 * len(columns) <= room
    for column, heading, wide in zip(columns, headings, widest, strict=True):
        folds = column.name in FOLDING
        table.add_column(
            Text(heading),
            justify="left" if column.type == "text" else "right",
            no_wrap=not folds,
            overflow="fold",
            min_width=min(14, wide) if folds and not fits else wide,
        )
    styles = {"better": "green", "worse": "red"}
    place = [column.name for column in columns].index("verdict")
    lines = list(zip(board["verdict"], *texts, strict=True))
    for said, *line in lines if places is None else [lines[n] for n in places]:
        row = [Text(text) for text in line]
        row[place].stylize(styles.get(said, "dim"))
        table.add_row(*row)
    return table


def as_markdown(board: pd.DataFrame, sections: Sections = ()) -> str:
    """The leaderboard as a Markdown table, or as one a section, with its caption and notes."""
    columns = shown_columns(board)
    lines = [f"**{sinks.markdown(caption(board))}**", ""] if caption(board) else []
    texts = [[sinks.markdown(text) for text in cells(column, board)] for column in columns]
    rows = [_markdown_line(row) for row in zip(*texts, strict=True)]
    head = [
        _markdown_line(column.title for column in columns),
        _markdown_line("---" if column.type == "text" else "---:" for column in columns),
    ]
    for title, places in sections:
        lines += [f"### {sinks.markdown(title)}", "", *head, *(rows[place] for place in places), ""]
    lines += [] if sections else [*head, *rows]
    lines += [text for note in notes(board) for text in ("", note)]
    return "\n".join(lines)


def _markdown_line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def markdown_line(texts: Iterable[Any]) -> str:
    """A row of a Markdown table."""
    return _markdown_line(sinks.markdown(text) for text in texts)


def as_csv(board: pd.DataFrame) -> str:
    """Every column, unrounded, units in the header."""
    return csv_text(export_frame(board))


def csv_text(frame: pd.DataFrame) -> str:
    """Any table as CSV; no cell is a spreadsheet's formula."""
    safe = frame.rename(columns=sinks.csv)
    for name in safe.columns[[not pd.api.types.is_numeric_dtype(dtype) for dtype in safe.dtypes]]:
        safe[name] = safe[name].map(sinks.csv)
    return str(safe.to_csv(index=False, lineterminator="\n")).rstrip("\n")


def as_json(board: pd.DataFrame) -> str:
    """A list of objects, one a row, with the columns of the CSV; null where a number is unknown."""
    return json_objects(export_frame(board))


def json_objects(frame: pd.DataFrame) -> str:
    """Any table as a JSON list of objects; null for NaN."""
    rows = frame.astype(object)
    rows = rows.where(rows.notna(), None)
    return sinks.json(json.dumps(rows.to_dict("records"), indent=1, ensure_ascii=False, default=_plain))


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
        return str(board.attrs.get("why_empty", "no row fits"))
    return FORMATS[form](board)
