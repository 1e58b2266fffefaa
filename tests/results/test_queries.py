"""Questions, on SQLite (what differs between the backends is in test_store and test_ingest) and once on PostgreSQL."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from results import queries
from results.formats import as_text, caption
from results.ingest import collect
from results.leaderboard import BOARD, columns_of, leaderboard
from results.record import Record
from results.statistics import miou
from results.store import Store, open_store
from tests.results.factory import RESNET, Fake, sweep, write_all

FAKES = sweep(("none", "kd", "ka"), (8, 16), (0, 1, 2), images=8)


@pytest.fixture(scope="module")
def board_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A sweep of three seeds, collected; read-only."""
    root = tmp_path_factory.mktemp("queries")
    with open_store(root / "results.db") as store:
        collect(write_all(root, FAKES), store)
    return open_store(root / "results.db", readonly=True)


def collected(store: Store, tmp_path: Path, fakes: list[Fake]) -> pd.DataFrame:
    collect(write_all(tmp_path / "runs", fakes), store)
    return leaderboard(store)


def one(board: pd.DataFrame, method: str, stride: int = 16) -> pd.Series:
    found = board[(board["method"] == method) & (board["stride"] == stride)]
    assert len(found) == 1
    return found.iloc[0]


def scores(method: str, stride: int, seeds: range = range(3)) -> np.ndarray:
    return np.array([miou(f.matrices()) for f in FAKES if (f.method, f.stride) == (method, stride) and f.seed in seeds])


def test_a_row_is_a_cell_without_its_seed(board_store: Store) -> None:
    board = leaderboard(board_store)
    assert tuple(board.columns) == BOARD
    assert len(board) == 7 and board["seeds"].tolist().count(3) == 6
    row = one(board, "ka")
    assert row["miou"] == pytest.approx(scores("ka", 16).mean())
    low, high = stats.t.interval(0.95, 2, scores("ka", 16).mean(), stats.sem(scores("ka", 16)))
    assert (row["miou_low"], row["miou_high"]) == pytest.approx((low, high))
    assert row["macs"] == 2.51e9 and row["step_ratio"] == pytest.approx(160 / 120)
    assert "--seeds 0,1,2 " in row["reproduce"] and row["seed_list"] == "0,1,2"


def test_difference_is_to_the_none_of_the_same_setting(board_store: Store) -> None:
    board = leaderboard(board_store)
    for stride in (8, 16):
        row = one(board, "ka", stride)
        expected = stats.ttest_rel(scores("ka", stride), scores("none", stride))
        assert row["delta"] == pytest.approx((scores("ka", stride) - scores("none", stride)).mean())
        assert row["p"] == pytest.approx(expected.pvalue)
        assert (row["delta_low"], row["delta_high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))
        assert row["delta_basis"] == "paired over 3 seeds"
    assert board.loc[board["method"].isin(["none", "teacher"]), "delta"].isna().all()


def test_holm_is_over_all_comparisons_in_the_database_whatever_is_shown(board_store: Store) -> None:
    board = leaderboard(board_store)
    everything = one(board, "ka")
    alone = leaderboard(board_store, {"method": ["ka"], "stride": [16]})
    assert alone.iloc[0]["p"] == everything["p"] < everything["p_holm"] == alone.iloc[0]["p_holm"]
    assert alone.attrs["comparisons"] == board.attrs["comparisons"] == {"shapes": 4}
    key = next(f.key for f in FAKES if (f.method, f.stride, f.seed) == ("ka", 16, 0))
    assert leaderboard(board_store, keys=[key]).iloc[0]["p_holm"] == everything["p_holm"]


def test_a_row_has_a_key_of_its_own(board_store: Store) -> None:
    board = leaderboard(board_store)
    assert board["row"].is_unique
    sorted_and_filtered = leaderboard(board_store, {"method": ["ka"], "stride": [16]}, sort="macs")
    assert sorted_and_filtered["row"].tolist() == [one(board, "ka")["row"]]


def test_filters_hide_rows_and_not_what_they_are_compared_with(board_store: Store) -> None:
    shown = leaderboard(board_store, {"method": ["ka"], "stride": ["16"]})
    assert len(shown) == 1
    assert shown.iloc[0]["delta"] == one(leaderboard(board_store), "ka")["delta"]
    assert len(leaderboard(board_store, {"method": []})) == 7
    assert len(leaderboard(board_store, {"method": ["nobody"]})) == 0


def test_keys_show_the_rows_they_belong_to(board_store: Store) -> None:
    key = next(f.key for f in FAKES if (f.method, f.stride, f.seed) == ("kd", 8, 1))
    shown = leaderboard(board_store, keys=[key])
    assert shown[["method", "stride", "seeds"]].values.tolist() == [["kd", 8, 3]]
    assert not math.isnan(shown.iloc[0]["delta"])
    assert len(leaderboard(board_store, keys=[])) == 0


def test_sorting(board_store: Store) -> None:
    assert leaderboard(board_store)["miou"].is_monotonic_decreasing
    assert leaderboard(board_store, sort="macs")["macs"].is_monotonic_increasing
    assert leaderboard(board_store, sort="macs", descending=True)["macs"].is_monotonic_decreasing
    assert leaderboard(board_store, sort="delta")["delta"].iloc[:4].notna().all()
    with pytest.raises(ValueError, match="no column 'speed'"):
        leaderboard(board_store, sort="speed")
    with pytest.raises(ValueError, match="no filter 'colour'"):
        leaderboard(board_store, {"colour": ["red"]})
    with pytest.raises(ValueError, match="stride is a number"):
        leaderboard(board_store, {"stride": ["wide"]})


def test_data_sets_stand_together(file_store: Store, tmp_path: Path) -> None:
    fakes = [Fake("ka", stride, dataset=name, images=4) for name in ("shapes", "camvid") for stride in (8, 16)]
    board = collected(file_store, tmp_path, fakes)
    assert board["dataset"].tolist() == ["camvid", "camvid", "shapes", "shapes"]
    assert board["stride"].tolist() == [8, 16, 8, 16]


def test_frontier(board_store: Store) -> None:
    board = leaderboard(board_store)
    front = board[board["frontier"]]
    assert set(front["method"]) <= {"teacher", "ka"} and len(front) == 3


def test_an_empty_database(file_store: Store) -> None:
    board = leaderboard(file_store)
    assert len(board) == 0 and tuple(board.columns) == BOARD
    assert queries.cells(file_store)["method"] == []
    with pytest.raises(ValueError, match="holds no runs yet"):
        queries.run(file_store, "ka")


@pytest.mark.postgres
def test_postgresql_gives_the_same_leaderboard(postgres_url: str, tmp_path: Path, board_store: Store) -> None:
    with open_store(postgres_url) as store:
        collect(write_all(tmp_path, FAKES), store)
    with open_store(postgres_url, readonly=True) as store:
        pd.testing.assert_frame_equal(leaderboard(store), leaderboard(board_store))


def test_one_seed_says_so(file_store: Store, tmp_path: Path) -> None:
    board = collected(file_store, tmp_path, [Fake("none", images=20), Fake("ka", images=20)])
    row = one(board, "ka")
    assert row["verdict"] == "one seed: images only" and "not training noise" in row["delta_basis"]
    assert row["delta_low"] < row["delta"] < row["delta_high"] and math.isnan(row["p"])
    assert row["miou_low"] < row["miou"] < row["miou_high"]


def test_seeds_that_none_lacks_do_not_enter_the_difference(file_store: Store, tmp_path: Path) -> None:
    fakes = [Fake("none", seed=s) for s in (0, 1)] + [Fake("ka", seed=s) for s in (0, 1, 2, 3)]
    row = one(collected(file_store, tmp_path, fakes), "ka")
    assert row["seeds"] == 4 and row["delta_basis"] == "paired over 2 seeds"


@pytest.mark.parametrize(
    "change", [{"stride": 8}, {"recipe": "other-00"}, {"student": "smp:resnet18/pspnet"}, {"manifest": "other data"}]
)
def test_another_setting_is_no_baseline(file_store: Store, tmp_path: Path, change: dict[str, object]) -> None:
    fakes = [replace(Fake("none", seed=s), **change) for s in (0, 1)] + [Fake("ka", seed=s) for s in (0, 1)]
    row = one(collected(file_store, tmp_path, fakes), "ka")
    assert math.isnan(row["delta"]) and row["verdict"] == ""


@pytest.mark.parametrize("change", [{"version": 2}, {"teacher_key": "teacher-1"}])
def test_unlike_variants_are_never_averaged(file_store: Store, tmp_path: Path, change: dict[str, object]) -> None:
    fakes = [Fake("ka", seed=s) for s in (0, 1)] + [replace(Fake("ka", seed=s), **change) for s in (0, 1)]
    board = collected(file_store, tmp_path, fakes)
    assert board["seeds"].tolist() == [2, 2] and board["variant"].nunique() == 2


def test_the_newest_of_equal_cells_counts(file_store: Store, tmp_path: Path) -> None:
    # The gain is no part of the record: two records of one cell and variant.
    fakes = [Fake("ka", seed=0, gain=0.01), Fake("ka", seed=0, gain=0.02)]
    board = collected(file_store, tmp_path, fakes)
    assert len(board) == 1 and board["superseded"].tolist() == [1] and board["seeds"].tolist() == [1]


def test_fallbacks_are_told(file_store: Store, tmp_path: Path) -> None:
    fakes = [Fake("ka", seed=0, numerics="bf16 is wrong here"), Fake("ka", seed=1)]
    assert one(collected(file_store, tmp_path, fakes), "ka")["numerics"] == "bf16 is wrong here"


def test_classes(board_store: Store) -> None:
    keys = [f.key for f in FAKES if (f.method, f.stride) == ("ka", 16)]
    found = queries.per_class(board_store, keys)
    assert found["class"].tolist() == ["background", "road", "pole", "car", "sign", "person"]
    assert found["iou"].mean() == pytest.approx(scores("ka", 16).mean())
    assert set(keys) < set(found.columns)


def test_runs(board_store: Store) -> None:
    found = queries.runs(board_store)
    assert len(found) == len(FAKES) and found["finished"].is_monotonic_decreasing
    assert found["attempts"].tolist() == [1] * len(FAKES)
    assert set(queries.runs(board_store, {"seed": [1]})["seed"]) == {1}


def test_choices(board_store: Store) -> None:
    found = queries.cells(board_store)
    assert found["method"] == ["ka", "kd", "none", "teacher"] and found["stride"] == [8, 16]
    assert found["teacher"] == [RESNET + "@8"] and found["seed"] == [0, 1, 2]


def test_filters_from_words() -> None:
    known = {
        "student": ["timm:mobilenetv2_100/linear", "timm:resnet18/linear"],
        "recipe": ["quick-1a2b3c", "quick-ffffff", "slow-123456"],
        "method": ["ka", "ka-adapt"],
        "stride": [8, 16],
        "dataset": ["shapes", "shapes[size=96]"],
    }
    asked = {"student": ["mobilenetv2_100"], "recipe": ["quick"], "method": ["ka"], "stride": ["@16"]}
    assert queries.match_filters(known, asked) == {
        "student": ["timm:mobilenetv2_100/linear"],
        "recipe": ["quick-1a2b3c", "quick-ffffff"],
        "method": ["ka"],
        "stride": ["16"],
    }
    assert queries.match_filters(known, {"dataset": ["shapes"]}) == {"dataset": ["shapes"]}
    with pytest.raises(ValueError, match="no run has the method 'kaa': there are ka"):
        queries.match_filters(known, {"method": ["kaa"]})


def test_a_run_by_key_or_words(board_store: Store) -> None:
    fake = next(f for f in FAKES if (f.method, f.stride, f.seed) == ("ka", 16, 1))
    for words in ([fake.key], [fake.key[:8]], ["ka", "@16", "seed=1"], ["ka", "16", "mobilenetv2", "seed=1"]):
        assert queries.run(board_store, *words).record.key == fake.key
    found = queries.run(board_store, fake.key)
    teacher = FAKES[0]
    assert found.parents == {"teacher": (teacher.key, f"teacher {RESNET}@8 seed 0")}
    assert queries.run(board_store, "teacher").record.key == teacher.key


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ka"], "means 6 runs"),
        (["kaa"], "did you mean ka"),
        (["colour=red"], "no field 'colour'"),
        (["ffffffffffff"], "there is no run 'ffffffffffff'"),
        ([], "name a run"),
    ],
)
def test_words_that_mean_no_single_run(board_store: Store, words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        queries.run(board_store, *words)


def test_training_costs_its_own_time_and_a_part_of_its_teachers(store: Store, tmp_path: Path) -> None:
    """Whatever is shown: a teacher is shared by all students in the database, and one that is missing is not free."""
    teacher = Fake("teacher", stride=8, student=RESNET)
    taught = [Fake("kd", seed=seed, teacher_key=teacher.key) for seed in range(4)]
    board = collected(store, tmp_path, [teacher, *taught, Fake("none"), Fake("ka")])
    own, whole = 31.5 + 1.6, 31.5 + 0.8
    assert one(board, "teacher", 8)["training_s"] == pytest.approx(whole)
    assert one(board, "none")["training_s"] == pytest.approx(own)
    assert one(board, "kd")["training_s"] == pytest.approx(own + whole / 4)
    assert one(leaderboard(store, {"seed": [1]}), "kd")["training_s"] == pytest.approx(own + whole / 4)
    assert math.isnan(one(board, "ka")["training_s"])
    assert columns_of(board)["training_s"].exported == "training_h"


def test_what_was_shared_is_paid_in_parts(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Fake.record

    def shared(fake: Fake, artefacts: dict[str, str] | None = None) -> Record:
        record = real(fake, artefacts)
        record.training.paid_s, record.training.shared_by = 10.0, 5
        return record

    monkeypatch.setattr(Fake, "record", shared)
    row = one(collected(store, tmp_path, [Fake("none")]), "none")
    assert row["training_s"] == 10.0 and row["step_ms"] > 0


def test_rows_that_were_evaluated_otherwise_have_no_common_rank_baseline_or_frontier(tmp_path: Path) -> None:
    """Same words but for the recipe: a multi-scale `none` is nothing to compare a single-scale `ka` with."""
    many = {"evaluation": {"window": [32, 32], "overlap": 0.5, "scales": [0.5, 1.0], "flip": True}}
    alike = [Fake(m, seed=s, images=8) for m in ("none", "ka") for s in (0, 1)]
    apart = [Fake(m, seed=s, images=8, gain=0.05, recipe_fields=many) for m in ("none", "kd") for s in (0, 1)]
    with open_store(tmp_path / "results.db") as store:
        board = collected(store, tmp_path, [*alike, *apart])
        words = "windows of 32x32 (overlap 0.5), scales 0.5 1, mirrored too"
        assert board["evaluation"].tolist() == ["whole image"] * 2 + [words] * 2  # in blocks, whatever the score
        none = {row["evaluation"]: row["miou"] for _, row in board[board["method"] == "none"].iterrows()}
        for _, row in board[board["method"] != "none"].iterrows():
            assert row["delta"] == pytest.approx(row["miou"] - none[row["evaluation"]])
        assert board.groupby("evaluation")["frontier"].any().all()
        text = as_text(board)
        assert "evaluation" in text and "whole image" in text
        only = leaderboard(store, {"evaluation": ["whole image"]})
        assert len(only) == 2 and "evaluation whole image" in caption(only)
