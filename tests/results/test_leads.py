"""Teachers that are ahead, and those that are not."""

from __future__ import annotations

import pandas as pd

from results.leads import lead_in_words, teacher_leads, warnings


def board(teacher: float, none: float) -> pd.DataFrame:
    common = {
        "dataset": "camvid",
        "evaluation": "whole image",
        "recipe": "r",
        "weights": "network:7fe49a6b",
        "macs": 1e9,
    }
    return pd.DataFrame(
        [
            {**common, "method": "teacher", "student": "a/aspp", "stride": 8, "teacher": "", "miou": teacher},
            {**common, "method": "none", "student": "b/linear", "stride": 16, "teacher": "", "miou": none},
            {**common, "method": "kd", "student": "b/linear", "stride": 16, "teacher": "a/aspp@8", "miou": none},
            {**common, "method": "none", "student": "c/linear", "stride": 16, "teacher": "", "miou": 0.9},
        ]
    )


def test_a_lead_in_words() -> None:
    (row,) = teacher_leads(board(0.6, 0.4)).to_dict("records")
    assert (row["teacher"], row["weights"]) == ("a/aspp@8", "network:7fe49a6b")
    assert row["leads"] == ["20.0 points ahead of b/linear@16 without distillation"]
    assert not warnings(board(0.6, 0.4))
    small = [lead_in_words(teacher, 0.4, "b").partition(" without")[0] for teacher in (0.407, 0.40001, 0.3999, 0.38)]
    assert small == ["only 0.7 points ahead of b", "level with b", "level with b", "2.0 points behind b"]


def test_a_teacher_that_is_not_ahead_is_told() -> None:
    (said,) = warnings(board(0.43, 0.4))
    assert said.startswith("teacher a/aspp@8 is only 3.0 points ahead of b/linear@16") and "hardly gain" in said
    (said,) = warnings(board(0.38, 0.4))
    assert "2.0 points behind b/linear@16" in said
    assert not warnings(board(0.45, 0.4)[:2])  # it teaches nobody yet
    assert teacher_leads(board(0.6, 0.4)[1:]).empty


def test_a_lead_over_a_student_that_was_evaluated_otherwise_says_nothing() -> None:
    rows = board(0.43, 0.4)
    rows.loc[rows["method"] == "teacher", "evaluation"] = "whole image, mirrored too"
    assert not warnings(rows)
