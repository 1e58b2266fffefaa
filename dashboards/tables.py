"""Tables of the board: pure functions from data frames of `results.queries` to what a page shows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from results import formats

COLOURS = {
    "better": "background-color: #d8f0df; color: #14532d",
    "worse": "background-color: #fbdcdc; color: #7f1d1d",
    "one seed: images only": "color: #92610a; font-style: italic",
    "no clear difference": "color: #6b7280",
}
BOARD = {
    "method": "method",
    "student": "student",
    "stride": "stride",
    "miou": "mIoU [%]",
    "delta": "Δ none [points]",
    "verdict": "verdict",
    "frontier": "front",
    "seeds": "seeds",
    "macs": "GMACs",
    "parameters": "parameters [M]",
    "latency_ms": "latency [ms]",
    "step_ratio": "step [× none]",
    "teacher": "teacher",
    "recipe": "recipe",
    "weights": "first weights",
    "numerics": "numerics",
}
"""Columns of the leaderboard page, and how they are headed."""
RUNS = {
    "key": "key",
    "kind": "kind",
    "method": "method",
    "student": "student",
    "stride": "stride",
    "dataset": "data set",
    "seed": "seed",
    "miou": "mIoU [%]",
    "best_miou": "best on validation [%]",
    "pixel_accuracy": "pixel accuracy [%]",
    "loss_last": "last loss",
    "iterations": "iterations",
    "seconds": "time [s]",
    "step_ms": "step [ms]",
    "attempts": "attempts",
    "precision": "precision",
    "numerics": "numerics",
    "host": "host",
    "device": "device",
    "launcher": "launcher",
    "revision": "revision",
    "teacher": "teacher",
    "recipe": "recipe",
    "finished": "finished",
}
"""Columns of the runs page."""


def board_table(board: pd.DataFrame) -> Styler:
    """The leaderboard as a page shows it: numbers stay numbers, so that a click on a heading sorts them.

    Columns that are the same in all rows (teacher, recipe, ...) are left to the caption.
    """
    shared = [
        name
        for name in ("student", "teacher", "recipe", "weights", "numerics")
        if board[name].replace("", pd.NA).nunique() <= (0 if name == "numerics" else 1)
    ]
    rows = board.to_dict("records")
    shown = board[[name for name in BOARD if name not in shared]].rename(columns=BOARD)
    shown["front"] = ["●" if there else "" for there in shown["front"]]
    shown = shown.astype(dict.fromkeys(("mIoU [%]", "Δ none [points]", "GMACs", "parameters [M]"), float))
    texts = {
        "mIoU [%]": [formats.accuracy(row) for row in rows],
        "Δ none [points]": [formats.difference(row) for row in rows],
        "verdict": [formats.verdict(row) for row in rows],
    }
    style = shown.style
    for name, cells in texts.items():
        style = style.format(_by_position(cells), subset=[name])
    for name, factor in {"GMACs": 1e-9, "parameters [M]": 1e-6, "latency [ms]": 1.0, "step [× none]": 1.0}.items():
        style = style.format(_in_units(factor), subset=[name])
    style = style.map(lambda value: COLOURS.get(value, ""), subset=["verdict"])
    return style.map(lambda value: "color: #6b7280" if value == "none" else "", subset=["method"])


def _by_position(cells: list[str]) -> Any:
    """A formatter that gives the prepared text of each cell in turn, and begins again at every rendering."""
    again = cycle(cells)
    return lambda _: next(again)


def _in_units(factor: float) -> Callable[[Any], str]:
    return lambda value: formats.number(value, factor)


def runs_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run, in the units of the headings."""
    shown = runs[list(RUNS)].copy()
    for name in ("miou", "best_miou", "pixel_accuracy"):
        shown[name] = (100 * shown[name]).round(2)
    for name in ("seconds", "step_ms"):
        shown[name] = shown[name].round(1)
    shown["key"] = shown["key"].str[:10]
    shown["revision"] = shown["revision"].str[:10] + runs["dirty"].map({True: " + changes", False: ""})
    shown["finished"] = shown["finished"].str[:16].str.replace("T", " ")
    return shown.rename(columns=RUNS)


def seeds_table(runs: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The runs behind one row of the leaderboard, one row a seed."""
    part = runs[runs["key"].isin(keys)].sort_values("seed")
    names = ("seed", "miou", "best_miou", "loss_last", "seconds", "attempts", "precision", "host", "revision", "key")
    return runs_table(part)[[RUNS[name] for name in names]]


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
    said = [f"Each row rests on {seeds}: the same training, begun from other random numbers."]
    if high > 1:
        said.append(
            "**mIoU ± interval**: were the whole row trained anew with as many other seeds, and an interval drawn each "
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
    best = students.sort_values("miou", ascending=False).iloc[0] if len(students) else None
    return {
        "rows": str(len(board)),
        "runs": str(int(board["seeds"].sum())),
        "best student": "" if best is None else f"{100 * best['miou']:.1f} %",
        "best student is": "" if best is None else f"{best['method']} @{best['stride']}",
        "clearly better than none": f"{int((verdicts == 'better').sum())} of {compared}",
    }
