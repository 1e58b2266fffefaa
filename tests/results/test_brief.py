"""Very many rows: all in brief and a page of them in full say what the whole leaderboard says."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from results import advice, formats
from results.brief import brief, complete
from results.ingest import collect
from results.leaderboard import leaderboard
from results.store import Store
from tests.results.factory import Fake, sweep, write_all

FAKES = [
    *sweep(("none", "kd", "ka"), (8, 16), (0, 1, 2), images=6),
    Fake("ka", 32, images=6),
    Fake("ka", 16, 3, images=6, version=2),  # a row of the same words
    Fake("none", dataset="camvid", images=4),
    Fake("ka", dataset="camvid", images=3),
]


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """A database with two data sets, a lone row, namesakes, and rows of fewer images."""
    collect(write_all(tmp_path / "runs", FAKES), store)
    return store


@pytest.mark.parametrize("filters", [{}, {"dataset": ["shapes"]}, {"dataset": ["camvid"], "method": ["ka"]}])
@pytest.mark.parametrize("metric", ["miou", "pixel_accuracy"])
def test_a_page_in_full_is_a_part_of_the_leaderboard(filled: Store, filters: dict[str, list[str]], metric: str) -> None:
    whole = leaderboard(filled, filters, metric=metric)
    everything = brief(filled, filters, metric, also=("training_s", "shared_training_s", "own_training_s"))
    pd.testing.assert_frame_equal(everything, whole[list(everything)])
    assert formats.caption(everything) == formats.caption(whole)
    assert formats.notes(everything) == formats.notes(whole)
    assert advice.cheapest_near_best(everything) == advice.cheapest_near_best(whole)
    page = complete(filled, everything.iloc[-2:], everything)
    pd.testing.assert_frame_equal(page, whole.iloc[-2:].reset_index(drop=True))
    for column in formats.shown_columns(whole):
        assert formats.cells(column, page) == formats.cells(column, whole)[-2:]


def test_rows_of_some_seeds(filled: Store) -> None:
    found = brief(filled, {"seed": [0, 1], "dataset": ["shapes"]})
    whole = leaderboard(filled, {"seed": [0, 1], "dataset": ["shapes"]})
    pd.testing.assert_frame_equal(found, whole)


def test_an_unknown_column_is_refused(filled: Store) -> None:
    with pytest.raises(ValueError, match="no column 'speed'"):
        brief(filled, also=("speed",))


def test_training_is_told_in_two_parts(store: Store, tmp_path: Path) -> None:
    """A student's own, and its part of its teacher's, which four students share."""
    teacher, *students = sweep(("none", "kd", "ka"), (16,), (0, 1), images=4)
    collect(write_all(tmp_path / "runs", [teacher, *students]), store)
    board = leaderboard(store).set_index("method")
    own, whole = teacher.record().training.seconds, students[0].record().training.seconds
    assert board.loc["ka", "own_training_s"] == pytest.approx(whole)
    assert board.loc["ka", "shared_training_s"] == pytest.approx(own / 4)
    assert board.loc["none", "shared_training_s"] == 0
    assert (board["training_s"] == board["own_training_s"] + board["shared_training_s"]).all()
