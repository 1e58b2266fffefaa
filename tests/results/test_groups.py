"""Rows of the leaderboard in groups: which, in what order, their best, and how they are printed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from harness.cli.app import run
from results.groups import BY, first_of, groups_of, said_of, several, values_of
from results.ingest import collect
from results.leaderboard import leaderboard
from results.store import open_store
from tests.results.factory import Fake, sweep, write_all


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two students under a teacher, at two strides."""
    root = tmp_path_factory.mktemp("grouped")
    fakes = [*sweep(("none", "ka"), (8, 16), (0, 1), images=3), Fake("none", 16, 0, "timm:resnet18/fpn", images=3)]
    with open_store(root / "results.db") as store:
        collect(write_all(root, fakes), store)
    return root


@pytest.fixture(scope="module")
def board(workspace: Path) -> pd.DataFrame:
    with open_store(workspace / "results.db", readonly=True) as store:
        return leaderboard(store)


@pytest.mark.parametrize("by", BY)
def test_every_row_is_in_one_group(board: pd.DataFrame, by: str) -> None:
    found = groups_of(board, by)
    assert sorted(place for group in found for place in group.rows) == list(range(len(board)))
    assert [group.rows[0] for group in found] == sorted(group.rows[0] for group in found)
    for group in found:
        assert set(values_of(board, by).iloc[list(group.rows)]) == {group.value}
    assert (by in several(board)) is (len(found) > 1)


def test_the_best_is_a_student(board: pd.DataFrame) -> None:
    by_stride = {group.value: group for group in groups_of(board, "stride")}
    assert board["method"].iloc[by_stride["8"].rows[0]] == "teacher"
    assert said_of(board, by_stride["8"]).startswith("3 rows · best: ka ")
    (teacher,) = (group for group in groups_of(board, "method") if group.value == "teacher")
    assert said_of(board, teacher).startswith("1 row · best: teacher ")
    assert said_of(board.assign(miou=float("nan")), groups_of(board.assign(miou=float("nan")), "stride")[0]) == "3 rows"
    worst_first = board.iloc[::-1].reset_index(drop=True)
    assert {g.value: said_of(worst_first, g) for g in groups_of(worst_first, "head")} == {
        g.value: said_of(board, g) for g in groups_of(board, "head")
    }


def test_what_groups_are_called(board: pd.DataFrame) -> None:
    assert {group.title("teacher") for group in groups_of(board, "teacher")} == {"no teacher", "timm:resnet18/aspp@8"}
    assert [group.title("stride") for group in groups_of(board, "stride")] == ["stride 8", "stride 16"]
    with pytest.raises(ValueError, match="cannot be grouped by 'colour'"):
        groups_of(board, "colour")
    assert groups_of(board.iloc[:0], "stride") == []


def test_a_long_group_shows_its_first_rows(board: pd.DataFrame) -> None:
    found = groups_of(pd.concat([board] * 30, ignore_index=True), "stride")
    assert [len(first_of(found, rows)[found[0].value]) for rows in (0, 100)] == [10, 50]


def test_the_command(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["leaderboard", "-w", str(workspace), "--group-by"]
    assert run([*words, "stride"]) == 0
    said = capsys.readouterr().out
    assert said.index("stride 8 · 3 rows · best: ka") < said.index("stride 16 · 3 rows") and said.count("verdict") == 2
    headings = [line for line in said.splitlines() if line.lstrip().startswith("method")]
    assert len(headings) == 2 and headings[0] == headings[1]
    assert run([*words, "stride", "--top", "1"]) == 0 and "4 more rows" in capsys.readouterr().out
    assert run([*words, "head", "-f", "md"]) == 0 and "### fpn · 1 row" in capsys.readouterr().out
    assert run([*words, "method", "-f", "json"]) == 0
    methods = [row["method"] for row in json.loads(capsys.readouterr().out)]
    assert methods == ["teacher", "ka", "ka", "none", "none", "none"]
    assert run([*words, "strides"]) == 2 and "did you mean stride" in capsys.readouterr().err
