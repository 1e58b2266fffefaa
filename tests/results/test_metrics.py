"""Metrics in the database: any of them ranks a board, with interval and Δ, and old records have what they can."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results import columns, formats, metrics, queries
from results.ingest import collect
from results.leaderboard import BOARD, columns_of, leaderboard
from results.statistics import class_counts, over_images, paired_over_images
from results.store import Store
from tests.results.factory import Fake, add_metrics, sweep, write_all

INFO = {"heading": "hit rate", "unit": "%", "direction": "higher", "digits": 2, "summary": "hits over tries"}


def states_of(fake: Fake, groups: int = 2) -> np.ndarray:
    """(N, 2, G) of a made-up metric: better for methods that are."""
    counts = class_counts(fake.matrices())
    return np.stack([counts[:, 0, :groups], counts[:, 1, :groups] + 3], axis=1).astype(float)


def add_metric(folder: Path, states: np.ndarray, value: float | None = None, **info: Any) -> None:
    """Give a run the metric `hit_rate`, as a worker would have written it."""
    value = float(metrics.mean_of_ratios(states.sum(0))) if value is None else value
    add_metrics(folder, {"hit_rate": states}, {"hit_rate": {**INFO, **info, "value": value}})


def filled(
    store: Store, root: Path, fakes: list[Fake], change: Callable[[np.ndarray], np.ndarray] = lambda s: s, **info: Any
) -> None:
    for fake in fakes:
        add_metric(fake.write(root), change(states_of(fake)), **info)
    assert not collect(root, store).invalid


def test_old_records_have_what_their_matrices_give(file_store: Store, tmp_path: Path) -> None:
    fakes = sweep(("none", "ka"), (16,), (0, 1), images=4)
    collect(write_all(tmp_path, fakes), file_store)
    board = leaderboard(file_store)
    assert tuple(board.columns) == BOARD and list(queries.metrics(file_store)) == list(metrics.COUNT_METRICS)
    ka = [fake for fake in fakes if fake.method == "ka"]
    for name, metric in metrics.COUNT_METRICS.items():
        values = [float(metric(class_counts(fake.matrices()).sum(0))) for fake in ka]
        row = board[board["method"] == "ka"].iloc[0]
        assert row[name] == pytest.approx(np.mean(values)), name
        assert leaderboard(file_store, metric=name)["delta"].notna().sum() == 1


def test_records_without_matrices_have_what_they_say(file_store: Store, tmp_path: Path) -> None:
    (Fake("none").write(tmp_path) / "confusion.npz").unlink()
    collect(tmp_path, file_store)
    row = leaderboard(file_store).iloc[0]
    assert row["miou"] > 0 and row["pixel_accuracy"] > 0 and math.isnan(row["fw_iou"])
    assert len(leaderboard(file_store, metric="fw_iou")) == 0


def test_any_metric_ranks_with_seeds(store: Store, tmp_path: Path) -> None:
    filled(store, tmp_path, sweep(("none", "kd", "ka"), (8, 16), (0, 1, 2), images=4))
    board = leaderboard(store, metric="hit_rate")
    assert board["hit_rate"].is_monotonic_decreasing
    row = board[(board["method"] == "ka") & (board["stride"] == 16)].iloc[0]
    assert row["hit_rate_basis"] == "t over 3 seeds" and row["delta_basis"] == "paired over 3 seeds"
    assert row["delta_low"] < row["delta"] < row["delta_high"] and row["p_holm"] >= row["p"]
    text = formats.render(board)
    assert "hit rate" in text and f"{100 * row['hit_rate']:.2f} ± " in text
    assert formats.export_frame(board)["hit_rate_percent"].tolist() == pytest.approx((100 * board["hit_rate"]).tolist())
    assert "| hit rate [%] |" in formats.render(board, "md")


def test_one_seed_has_an_interval_over_images(store: Store, tmp_path: Path) -> None:
    ours, theirs = Fake("ka", images=9), Fake("none", images=9)
    filled(store, tmp_path, [ours, theirs])
    row = leaderboard(store, {"method": ["ka"]}, metric="hit_rate").iloc[0]
    alone = over_images(states_of(ours), metrics.mean_of_ratios)
    gap = paired_over_images(states_of(ours), states_of(theirs), metrics.mean_of_ratios)
    assert (row["hit_rate_low"], row["hit_rate_high"]) == pytest.approx((alone.low, alone.high))
    assert (row["delta"], row["delta_low"], row["delta_high"]) == pytest.approx((gap.value, gap.low, gap.high))
    assert row["verdict"] == "one seed: images only"


def test_where_less_is_better(file_store: Store, tmp_path: Path) -> None:
    fakes = sweep(("none", "ka"), (16,), range(4), images=4)
    filled(file_store, tmp_path, fakes, lambda s: np.stack([s[:, 1] - s[:, 0], s[:, 1]], 1), direction="lower")
    board = leaderboard(file_store, metric="hit_rate")
    assert board["hit_rate"].is_monotonic_increasing and board["method"].tolist() == ["teacher", "ka", "none"]
    row = board[board["method"] == "ka"].iloc[0]
    assert row["delta"] < 0 and row["verdict"] == "better"
    front = board[board["frontier"]]
    assert front["method"].tolist() == ["teacher", "ka"]
    assert leaderboard(file_store, metric="hit_rate", sort="delta")["method"].iloc[0] == "ka"


def test_a_metric_of_some_runs_only(file_store: Store, tmp_path: Path) -> None:
    write_all(tmp_path, sweep(("none", "ka"), (16,), (0, 1), images=4))
    filled(file_store, tmp_path, [Fake("none", 8, images=4)], unit="px")
    assert len(leaderboard(file_store)) == 4
    board = leaderboard(file_store, metric="hit_rate")
    assert board["stride"].tolist() == [8] and columns_of(board)["hit_rate"].title == "hit rate [px]"
    with pytest.raises(ValueError, match="no run has the metric 'speed': there are miou"):
        leaderboard(file_store, metric="speed")


def test_the_newest_run_says_what_a_metric_is(file_store: Store, tmp_path: Path) -> None:
    for seed, heading in ((3, "new"), (1, "old")):
        fake = Fake("none", seed=seed, images=4)
        add_metric(fake.write(tmp_path), states_of(fake), heading=heading)
    collect(tmp_path, file_store)
    assert queries.metrics(file_store)["hit_rate"].heading == "new"


@pytest.mark.parametrize("kind", ["another value", "other images", "no archive", "another shape"])
def test_wrong_states_are_told_and_the_value_stays(file_store: Store, tmp_path: Path, kind: str) -> None:
    fake = Fake("none", images=4)
    states = states_of(fake)
    folder = fake.write(tmp_path)
    add_metric(folder, {"other images": states[:3], "another shape": states[..., 0]}.get(kind, states), 0.25)
    if kind == "no archive":
        (folder / "metrics.npz").write_bytes(b"states")
    summary = collect(tmp_path, file_store)
    assert [path.name for path, _ in summary.invalid] == ["metrics.npz"]
    assert [path.name for path, _ in collect(tmp_path, file_store).invalid] == ["metrics.npz"]  # and told again
    assert leaderboard(file_store, metric="hit_rate")["hit_rate"].tolist() == [0.25]
    assert fake.key in queries.image_states(file_store, [fake.key])  # the matrices are as good as before
    assert not queries.image_states(file_store, [fake.key], "hit_rate")


def test_weights_and_absent_groups() -> None:
    states = np.array([[1.0, 2.0, 0.0], [2.0, 8.0, 0.0], [3.0, 1.0, 9.0]])
    assert metrics.mean_of_ratios(states[:2]) == pytest.approx((1 / 2 + 2 / 8) / 2)
    assert metrics.mean_of_ratios(states) == pytest.approx((3 * 1 / 2 + 1 * 2 / 8) / 4)
    assert np.isnan(metrics.mean_of_ratios(np.zeros((2, 3))))


# ------------------------------------------------------------------------------------------------ columns


def test_every_column_is_declared_once_and_says_its_unit() -> None:
    found = columns.board_columns(columns.METRICS)
    assert len({column.name for column in found}) == len(found) == len({column.exported for column in found})
    assert len({column.title for column in found}) == len(found)
    for column in (*found, *columns.FIXED.values()):
        assert column.heading or column.title
        assert column.type == "number" or column.factor == 1 or column.unit
        assert not (column.unit == "%" and not column.exported.endswith(("percent", "points")))


def test_the_database_holds_what_columns_declare(file_store: Store) -> None:
    frame = queries.runs(file_store)
    assert {column.name for column in columns.STORED} <= set(frame.columns)
    assert set(columns.run_columns(columns.METRICS)) >= set(frame.columns) - {"workspace", "problem"}


def test_any_column_sorts_with_its_best_first(file_store: Store, tmp_path: Path) -> None:
    collect(write_all(tmp_path, sweep(("none", "ka"), (8, 16), (0, 1), images=2)), file_store)
    there = {column.name: column for column in columns.board_columns(columns.METRICS)}
    for name in ("miou", "fw_iou", "delta", "macs", "latency_ms", "seeds", "stride", "method", "finished"):
        column = there[name]
        values = leaderboard(file_store, sort=column.name)[column.name].dropna()
        down = column.direction == "higher"
        assert values.is_monotonic_decreasing if down else values.is_monotonic_increasing, column.name
