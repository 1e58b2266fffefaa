"""Tables of the board: pure functions from data frames of `results.queries` to what a page shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from results import formats, sinks
from results.columns import METRICS, Column, run_columns
from results.leaderboard import columns_of, metric_of
from results.metrics import MetricInfo

METRIC = "<metric>"
PIXELS_A_CHARACTER = 6.6
WRAPPING = ("method", "student", "tags", "hidden")
"""Columns whose texts may take several lines."""
WIDEST, WRAPPED = 330, 214
"""Of such a column on one line, and on several [pixels]."""
ROW, HIGH_ROW = 35, 68
"""Heights of rows [pixels]; above 64 Streamlit breaks lines."""
COLOURS = {
    "better": "background-color: #d8f0df; color: #14532d",
    "worse": "background-color: #fbdcdc; color: #7f1d1d",
    "one seed: images only": "color: #92610a; font-style: italic",
    "no clear difference": "color: #6b7280",
}
BOARD = (
    "method", "student", "stride", METRIC, "tier", "delta", "verdict", "tags", "gap_closed", "frontier", "seeds",
    "macs", "parameters", "latency_ms", "training_s", "step_ratio", "flags", "teacher", "recipe", "weights",
    "evaluation", "numerics", f"{METRIC}_low", f"{METRIC}_high", "delta_low", "delta_high", "row",
)  # fmt: skip
"""Columns of the leaderboard page; `METRIC` is the one that the board is ranked by."""
RUNS = (
    "key", "tags", "kind", "method", "student", "stride", "dataset", "seed", METRIC, "best_miou", "loss_last",
    "iterations", "seconds", "step_ms", "attempts", "precision", "numerics", "host", "device", "launcher", "revision",
    "teacher", "recipe", "evaluation", "finished",
)  # fmt: skip
"""Columns of the runs page; `METRIC` stands for all metrics."""
SEEDS = (
    "seed",
    METRIC,
    "best_miou",
    "loss_last",
    "seconds",
    "attempts",
    "precision",
    "host",
    "revision",
    "tags",
    "key",
)
"""Columns of the runs behind a row."""


def board_columns(board: pd.DataFrame) -> list[Column]:
    """The columns of the leaderboard page.

    Those that are the same in all rows are left to the caption, and empty ones are left out; those by which rows of one
    method, student and stride differ stand beside these.
    """
    columns, metric = columns_of(board), metric_of(board)
    shared = {
        name
        for name in ("teacher", "recipe", "weights", "evaluation", "numerics")
        if board[name].replace("", pd.NA).nunique() <= (0 if name == "numerics" else 1)
    }
    shared |= {name for name in ("tier", "gap_closed") if board[name].isna().all()}
    shared |= set() if "tags" in board and board["tags"].any() else {"tags"}
    if only_student(board):
        shared.add("student")
    named = board.groupby(["method", "student", "stride"], dropna=False)
    telling = [name for name in ("recipe", "weights", "teacher", "evaluation") if (named[name].nunique() > 1).any()]
    first = BOARD.index(METRIC)
    order = dict.fromkeys([*BOARD[:first], *telling, *BOARD[first:]])
    return [columns[name.replace(METRIC, metric)] for name in order if name not in shared]


def only_student(board: pd.DataFrame) -> str:
    """The student of all rows but the teacher's, of which there is one at most; "" where there are several."""
    teachers = board["method"] == "teacher"
    students = board.loc[~teachers, "student"].unique()
    return str(students[0]) if len(students) == 1 and int(teachers.sum()) < 2 else ""


def caption(board: pd.DataFrame) -> str:
    """What all rows share; the only student included, though the teacher's row has another."""
    said, student = formats.caption(board), only_student(board)
    return said if board["student"].nunique() < 2 or not student else f"student {student} · {said}"


Texts = dict[Column, list[str]]


def board_texts(board: pd.DataFrame, columns: Sequence[Column] | None = None) -> Texts:
    """What the leaderboard shows, column by column.

    Args:
        columns: those to show; of a page of a longer table those of the whole.
    """
    return {column: shown_texts(column, board) for column in columns or board_columns(board)}


@dataclass(frozen=True)
class Fit:
    """How large a table is drawn.

    Attributes:
        widths: of its columns by their titles [pixels]: a number that is clipped says another one.
        row: height of its rows [pixels]; high ones show the names that are wider than `WIDEST` on several lines.
    """

    widths: dict[str, int]
    row: int

    def of(self, texts: Mapping[str, Iterable[str]]) -> Fit:
        """The size of a table of some of the rows, as wide as that of all."""
        wraps = any(_needed(title, cells) > self.widths[title] for title, cells in texts.items())
        return Fit(self.widths, HIGH_ROW if wraps else ROW)

    def height(self, rows: int, most: int) -> int:
        """Of a table of so many rows, at most so high [pixels]."""
        return min(38 + self.row * max(1, rows), most)


def fit(texts: Mapping[str, Iterable[str]]) -> Fit:
    """The size that texts need, by the titles of their columns."""
    needed = {title: _needed(title, cells) for title, cells in texts.items()}
    wraps = any(needed.get(title, 0) > WIDEST for title in WRAPPING)
    if not wraps:
        return Fit(needed, ROW)
    return Fit(
        {title: min(width, WRAPPED) if title in WRAPPING else width for title, width in needed.items()}, HIGH_ROW
    )


def _needed(title: str, cells: Iterable[str]) -> int:
    """Pixels of a column on one line."""
    return 26 + round(PIXELS_A_CHARACTER * max(map(len, [title, *cells])))


def board_fit(texts: Texts, whole: Fit | None = None) -> Fit:
    """The size that the leaderboard needs.

    Args:
        whole: of the table that these are some rows of.
    """
    named = {column.title: cells for column, cells in texts.items()}
    return whole.of(named) if whole else fit(named)


def board_table(board: pd.DataFrame, texts: Texts) -> Styler:
    """The leaderboard as a page shows it: numbers in the units of the headings, so that a click on a heading sorts them
    and the table's own download says what it is headed; intervals beside them as text, and at the end as numbers.

    Args:
        texts: as `board_texts` gives them.
    """
    shown = pd.DataFrame({column.title: _values(column, board[column.name]) for column in texts}, index=board.index)
    # The browser sorts what is empty as zero, between the better and the worse.
    gaps = [column.title for column in texts if column.name.startswith("delta")]
    shown[gaps] = shown[gaps].fillna(-math.inf)
    style = shown.style
    for column, cells in texts.items():
        style = style.format(_by_position(cells), subset=[column.title])
    style = style.map(lambda value: COLOURS.get(value, ""), subset=["verdict"])
    return style.map(lambda value: "color: #6b7280" if value == "none" else "", subset=["method"])


def _values(column: Column, values: pd.Series) -> pd.Series:
    """What a table holds, and sorts and downloads: numbers in the unit of the heading."""
    if column.type == "flag":
        return values.map({True: "●", False: ""})
    return values.astype(float) * column.factor if column.type == "number" or column.factor != 1 else values


def shown_texts(column: Column, board: pd.DataFrame) -> list[str]:
    """What a table shows."""
    if column.type == "flag":
        return ["●" if there else "" for there in board[column.name]]
    if column.name == "numerics":
        return [str(text) for text in board["numerics"]]
    return [sinks.visible(text) for text in formats.cells(column, board)]


def _by_position(cells: list[str]) -> Any:
    """A formatter that gives the prepared text of each cell in turn, and begins again at every rendering."""
    again = cycle(cells)
    return lambda _: next(again)


def runs_table(runs: pd.DataFrame, names: Sequence[str] = RUNS) -> pd.DataFrame:
    """One row a run, in the units of the headings."""
    columns = run_columns({name: MetricInfo(**info) for name, info in runs.attrs.get("metrics", {}).items()} or METRICS)
    metrics = list(runs.attrs.get("metrics", METRICS))
    wanted = [columns[n] for name in names for n in (metrics if name == METRIC else [name]) if n in runs]
    wanted = [column for column in wanted if column.name != "tags" or runs["tags"].any()]
    shown = pd.DataFrame({column.title: _rounded(column, runs[column.name]) for column in wanted}, index=runs.index)
    shown["key"] = runs["key"].str[:10]
    shown["revision"] = runs["revision"].str[:10] + runs["dirty"].map({True: " + changes", False: ""})
    if "finished" in shown:
        shown["finished"] = runs["finished"].str[:16].str.replace("T", " ")
    return shown


def _rounded(column: Column, values: pd.Series) -> pd.Series:
    """Numbers in the unit of the heading, with one decimal more than the leaderboard has; texts made visible."""
    if column.type == "text":
        return values.map(lambda value: sinks.visible(value) if isinstance(value, str) else value)
    found = _values(column, values)
    return found if column.digits is None else found.round(column.digits + 1)


def seeds_table(runs: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The runs behind one row of the leaderboard, one row a seed."""
    return runs_table(runs[runs["key"].isin(keys)].sort_values("seed"), SEEDS)


def hidden_table(board: pd.DataFrame, hidden: Mapping[str, Any]) -> pd.DataFrame:
    """Rows that are hidden, with the reasons of their runs.

    Args:
        hidden: key of a run -> an object with `reason` and `since`.
    """
    columns, metric = columns_of(board), metric_of(board)
    rows = []
    for row, score in zip(board.to_dict("records"), formats.cells(columns[metric], board)):
        entries = [hidden[key] for key in row["keys"].split(",")]
        rows.append(
            {
                "method": sinks.visible(row["method"]),
                "student": f"{sinks.visible(row['student'])}@{row['stride']}",
                columns[metric].title: score,
                "hidden because": sinks.visible("; ".join(dict.fromkeys(entry.reason for entry in entries))),
                "since": sinks.visible(min(entry.since for entry in entries)[:10]),
                "row": row["row"],
            }
        )
    return pd.DataFrame(rows)


def reported_matrix(rows: pd.DataFrame) -> pd.DataFrame:
    """Published mIoU [%], a row a method, a column a student; the student alone comes first."""
    wide = rows.assign(miou=100 * rows["miou"]).pivot_table(
        index="method", columns="student", values="miou", aggfunc="first"
    )
    order = list(dict.fromkeys(rows["method"]))
    order.sort(key=lambda name: name != "none")
    return wide.reindex(order).rename(index={"none": "student alone"}).rename_axis(columns=None)


def teachers(rows: pd.DataFrame) -> str:
    """`; teacher DeepLabV3-ResNet101 78.07 %`, or nothing when the source names none."""
    known = rows[rows["teacher_miou"].notna()].drop_duplicates(["teacher", "teacher_miou"])
    pairs = zip(known["teacher"], known["teacher_miou"], strict=True)
    return "".join(f"; teacher {name or 'unnamed'} {100 * value:.2f} %" for name, value in pairs)


def reading(board: pd.DataFrame) -> list[str]:
    """How to read the table, in plain words, for the seeds that these rows have."""
    students = board[board["method"] != "teacher"]
    if not len(students):
        return formats.notes(board)
    low, high = int(students["seeds"].min()), int(students["seeds"].max())
    seeds = f"{low} seed{'s' if low > 1 else ''}" if low == high else f"{low} to {high} seeds"
    said = [f"Each row rests on {seeds}: the same training, started from other random numbers."]
    if high > 1:
        ranked = sinks.markdown(columns_of(board)[metric_of(board)].heading)
        said.append(
            f"**{ranked} ± interval**: were the whole row trained anew with as many other seeds, and an interval drawn "
            "each "
            "time, 95 of 100 such intervals would hold the true mean. "
            "**Δ none ± interval** compares a method with `none` seed by seed, so what a lucky seed gives to both does "
            'not count. *better* or *worse* is said only where that interval leaves out zero; "no clear difference" is '
            "not a proof that there is none."
        )
    return [*said, *formats.notes(board)[1:]]


def summary(board: pd.DataFrame) -> dict[str, str]:
    """The few numbers at the top of the page."""
    students = board[board["method"] != "teacher"]
    verdicts = students["verdict"]
    compared = int((verdicts != "").sum())
    metric = columns_of(board)[metric_of(board)]
    order = students.sort_values(metric.name, ascending=metric.direction == "lower")
    best = order.iloc[0] if len(students) else None
    return {
        "rows": str(len(board)),
        "runs": str(int(board["seeds"].sum())),
        "best student": "" if best is None else f"{formats.cell(metric, best[metric.name])} {metric.unit}".strip(),
        "best student is": "" if best is None else f"{best['method']} @{best['stride']}",
        "clearly better than none": f"{int((verdicts == 'better').sum())} of {compared}",
    }
