"""Rows of a leaderboard in groups: those of one stride, of one student, of one method, each with its best."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from results import formats
from results.leaderboard import columns_of, metric_of

BY = ("dataset", "student", "head", "stride", "method", "recipe", "teacher")
"""What rows can be grouped by; a head is the last part of a student's name."""
LEAST = 10
"""Rows of a group that are shown however many groups there are."""


@dataclass(frozen=True)
class Group:
    """Rows that have a value in common.

    Attributes:
        value: as text; "" where there is none: a row without a teacher.
        rows: their positions on the board, in its order.
        best: position of the best student's row, or else of the best teacher's; None where no score is known.
    """

    value: str
    rows: tuple[int, ...]
    best: int | None

    def title(self, by: str) -> str:
        """The group for people."""
        return f"stride {self.value}" if by == "stride" else self.value or f"no {by}"


def values_of(board: pd.DataFrame, by: str) -> pd.Series:
    """What each row is grouped by, as text.

    Raises:
        ValueError: rows cannot be grouped by that.
    """
    if by not in BY:
        raise ValueError(f"rows cannot be grouped by '{by}': {', '.join(BY)}")
    if by == "head":
        return board["student"].str.rpartition("/")[2]
    return board[by].fillna("").astype(str)


def several(board: pd.DataFrame) -> list[str]:
    """What the rows of a board can be grouped by so that there are several groups."""
    values = {name: set(board[name].unique()) for name in BY if name != "head"}
    values["head"] = {student.rpartition("/")[2] for student in values["student"]}
    return [name for name in BY if len(values[name]) > 1]


def groups_of(board: pd.DataFrame, by: str) -> list[Group]:
    """All rows in groups, in the order in which their first rows stand on the board.

    Raises:
        ValueError: rows cannot be grouped by that.
    """
    codes, values = pd.factorize(values_of(board, by))
    places = pd.Series(range(len(board)))
    best = _best(board, codes)
    rows = places.groupby(codes, sort=False).agg(tuple)
    return [Group(str(value), rows[code], best.get(code)) for code, value in enumerate(values)]


def _best(board: pd.DataFrame, codes: object) -> dict[int, int]:
    """Group -> position of its best row: a student's, where it has one."""
    metric = columns_of(board)[metric_of(board)]
    found = pd.DataFrame(
        {
            "group": codes,
            "teacher": (board["method"] == "teacher").to_numpy(),
            "score": board[metric.name].to_numpy(dtype=float) * (-1 if metric.direction == "lower" else 1),
        }
    ).dropna()
    found = found.sort_values(["teacher", "score"], ascending=[True, False], kind="stable").drop_duplicates("group")
    return dict(zip(found["group"].tolist(), found.index.tolist(), strict=True))


def said_of(board: pd.DataFrame, group: Group) -> str:
    """How many rows a group has, and its best: `34 rows · best: ka 58.8 ± 1.7 %`."""
    count = f"{len(group.rows)} row{'' if len(group.rows) == 1 else 's'}"
    if group.best is None:
        return count
    row = board.iloc[[group.best]]
    metric = columns_of(board)[metric_of(board)]
    return f"{count} · best: {row['method'].iloc[0]} {formats.cells(metric, row)[0]} {metric.unit}".rstrip()


def first_of(groups: list[Group], rows: int) -> dict[str, tuple[int, ...]]:
    """Value of a group -> positions of the first of its rows, of about so many rows in all."""
    each = max(LEAST, rows // max(1, len(groups)))
    return {group.value: group.rows[:each] for group in groups}
