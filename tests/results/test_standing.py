"""Tiers, the gap closed, the doubt of a frontier and flags, from collected records to the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from results import compare, flags, formats, frontier, standing
from results.columns import METRICS
from results.ingest import collect
from results.leaderboard import leaderboard
from results.metrics import MIOU
from results.queries import image_class_counts
from results.store import Store, open_store
from tests.results.factory import Fake, sweep, write_all

SEEDS = (0, 1, 2)
WEAK = "timm:weak/aspp"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Methods far apart (ka) and near one another (kd, none), at two strides; a row of one seed; a teacher behind."""
    root = tmp_path_factory.mktemp("standing")
    fakes = sweep(("none", "kd", "ka"), (8, 16), SEEDS, images=16)
    teacher = fakes[0].key
    fakes.append(Fake("cwd", 8, 0, images=16, teacher_key=teacher))
    weak = Fake("teacher", 8, student=WEAK, gain=-0.3, images=16)
    fakes += [weak, *(Fake("at", 8, s, images=16, teacher="timm:weak/aspp@8", teacher_key=weak.key) for s in SEEDS)]
    fakes += [Fake("dist", 8, s, images=4, teacher_key=teacher) for s in SEEDS]
    with open_store(root / "results.db") as opened:
        collect(write_all(root, fakes), opened)
    return open_store(root / "results.db", readonly=True)


@pytest.fixture(scope="module")
def board(store: Store) -> pd.DataFrame:
    return leaderboard(store)


def row(board: pd.DataFrame, method: str, stride: int = 8) -> pd.Series:
    (found,) = board[(board["method"] == method) & (board["stride"] == stride) & ~board["student"].eq(WEAK)].index
    return board.loc[found]


def sampled(store: Store, board: pd.DataFrame, method: str) -> compare.Resampled:
    keys = row(board, method)["keys"].split(",")
    states = image_class_counts(store, keys)
    return compare.resample({n: states[key][1] for n, key in enumerate(keys)}, MIOU, standing.RESAMPLES)


def test_tiers_and_the_gap_are_those_of_compare(store: Store, board: pd.DataFrame) -> None:
    names = ("none", "kd", "ka", "at")
    rows = {name: sampled(store, board, name) for name in names}
    assert [row(board, name)["tier"] for name in names] == compare.tiers([rows[name] for name in names])
    assert row(board, "ka")["tier"] == 1 < row(board, "none")["tier"]
    gap = compare.gap_closed(rows["ka"], rows["none"], sampled(store, board, "teacher"))
    found = row(board, "ka")
    assert (found["gap_closed"], found["gap_closed_low"]) == pytest.approx((gap.value, gap.low))
    assert 0 < found["gap_closed_low"] < found["gap_closed"] < found["gap_closed_high"] < 0.5


def test_what_cannot_be_said_is_empty(board: pd.DataFrame) -> None:
    assert pd.isna(row(board, "cwd")["tier"]) and row(board, "cwd")["gap_closed_basis"].endswith("not training noise")
    teacher = board[(board["method"] == "teacher") & (board["student"] == WEAK)].iloc[0]
    assert pd.isna(teacher["tier"]) and pd.isna(teacher["gap_closed"])
    assert pd.isna(row(board, "at")["gap_closed"]) and row(board, "at")["tier"] >= 2
    # Other images than the rest: nothing can be paired.
    assert pd.isna(row(board, "dist")["tier"]) and pd.isna(row(board, "dist")["gap_closed"])


def test_a_filter_changes_no_tier(store: Store, board: pd.DataFrame) -> None:
    for filters in ({"method": ["kd"]}, {"stride": [8], "method": ["none", "kd"]}):
        some = leaderboard(store, filters).set_index("row")
        whole = board.set_index("row").loc[some.index]
        pd.testing.assert_frame_equal(some[["tier", "gap_closed", "flags"]], whole[["tier", "gap_closed", "flags"]])


def test_less_is_better_turns_values_round(store: Store, board: pd.DataFrame) -> None:
    shown = board[(board["stride"] == 8) & board["method"].isin(["none", "ka"])]
    members, info = frontier.members_of(shown), METRICS["miou"]
    states = image_class_counts(store, standing.keys_of(members))
    up = standing.resampled(members, states, info)
    down = standing.resampled(members, states, replace(info, direction="lower"))
    assert all(np.allclose(up[name].points, -down[name].points) for name in up)


def test_flags(board: pd.DataFrame) -> None:
    assert row(board, "cwd")["flags"] == "one seed"
    assert row(board, "at")["flags"] == "teacher not ahead"
    assert row(board, "dist")["flags"] == "fewer images"
    assert row(board, "ka")["flags"] == "" and row(board, "none")["flags"] == ""
    said = formats.as_markdown(board)
    assert "| teacher not ahead |" in said and "teacher not ahead: the teacher is not clearly ahead" in said


def test_more_flags(tmp_path: Path) -> None:
    made = [Fake("ka", seed=seed, numerics="bf16 is wrong", images=2).record() for seed in (0, 1)]
    made[0].spec["recipe"] = {"iterations": 240, "batch_size": 32}
    made[0].environment.dirty, made[1].environment.revision = True, "f" * 40
    assert made[1].cost is not None
    made[1].cost.uncounted = {"aten::grid_sampler": 2, "aten::hardtanh_": 35}
    for record in made:
        folder = tmp_path / "stages" / record.key
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(record.model_dump_json())
    with open_store(tmp_path / "results.db") as store:
        collect(tmp_path, store)
        shown = leaderboard(store).iloc[0]
    assert shown["flags"].split("; ") == [
        "fewer samples",
        "fell back",
        "uncounted",
        "changed code",
        "several revisions",
    ]
    assert shown["uncounted"] == "grid_sampler × 2"
    assert set(shown["flags"].split("; ")) <= flags.MEANING.keys()


def test_a_flag_of_all_rows_is_said_once(tmp_path: Path) -> None:
    with open_store(tmp_path / "results.db") as store:
        collect(write_all(tmp_path, [Fake(m, images=2, numerics="wrong") for m in ("none", "ka")]), store)
        shown = leaderboard(store)
    assert "flags" not in [column.name for column in formats.shown_columns(shown)]
    assert "All rows: fell back: precision" in formats.as_text(shown, 160)


def test_doubt_of_the_frontier(store: Store, board: pd.DataFrame) -> None:
    shown = board[board["method"].isin(["none", "kd", "ka", "teacher"]) & (board["student"] != WEAK)]
    doubt = frontier.frontier_doubt(store, shown)
    assert doubt.keys() == set(shown["row"])
    assert doubt[row(board, "ka")["row"]] == "on" and doubt[row(board, "none")["row"]] == "off"
    assert frontier.frontier_doubt(store, pd.concat([shown] * 200)) == {}
