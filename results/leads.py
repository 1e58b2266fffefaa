"""How far teachers are ahead of students without distillation: a student can hardly gain from one that is not."""

from __future__ import annotations

from typing import Any

import pandas as pd

ENOUGH = 0.05
"""A lead, as a fraction: gains of distillation are some share of it, and below this the share drowns in noise."""


def teacher_leads(board: pd.DataFrame) -> pd.DataFrame:
    """The teachers of a leaderboard, with their leads in words.

    Args:
        board: as `results.leaderboard.leaderboard` gives it.

    Returns:
        Columns teacher, dataset, recipe, weights, miou, macs, leads (sentences, one a student that has a `none` row).
    """
    rows: list[dict[str, Any]] = []
    for _, teacher in board[board["method"] == "teacher"].iterrows():
        word = f"{teacher['student']}@{teacher['stride']}"
        like = (board["dataset"] == teacher["dataset"]) & (board["evaluation"] == teacher["evaluation"])
        mine = (board["teacher"] == word) & like
        students = set(zip(board.loc[mine, "student"], board.loc[mine, "stride"], strict=True))
        alone = board[(board["method"] == "none") & like]
        rows.append(
            {
                "teacher": word,
                "dataset": teacher["dataset"],
                "recipe": teacher["recipe"],
                "weights": teacher["weights"],
                "miou": teacher["miou"],
                "macs": teacher["macs"],
                "leads": [
                    lead_in_words(float(teacher["miou"]), float(row["miou"]), f"{row['student']}@{row['stride']}")
                    for _, row in alone.iterrows()
                    if (row["student"], row["stride"]) in students
                ],
            }
        )
    return pd.DataFrame(rows, columns=["teacher", "dataset", "recipe", "weights", "miou", "macs", "leads"])


def lead_in_words(teacher: float, student: float, name: str) -> str:
    """A sentence on a lead; a small one is a warning."""
    points = 100 * (teacher - student)
    if points >= 100 * ENOUGH:
        return f"{points:.1f} points ahead of {name} without distillation"
    shown = round(points, 1)
    where = (
        f"only {shown:.1f} points ahead of" if shown > 0 else f"{-shown:.1f} points behind" if shown else "level with"
    )
    return f"{where} {name} without distillation: a student can hardly gain from it"


def warnings(board: pd.DataFrame) -> list[str]:
    """Sentences on the teachers that are hardly ahead of a student that they teach."""
    return [
        f"teacher {row['teacher']} is {said}"
        for row in teacher_leads(board).to_dict("records")
        for said in row["leads"]
        if "hardly" in said
    ]
