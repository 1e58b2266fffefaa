"""What is tagged is found in the database, however much it is, on each backend."""

from __future__ import annotations

from pathlib import Path

from results.board import rows_of_runs
from results.brief import brief
from results.ingest import collect
from results.leaderboard import leaderboard
from results.queries import count_runs, runs
from results.store import Store
from results.tags import Tagged, tagged, with_tags
from tests.results.factory import Fake, sweep, write_all

FAKES = [*sweep(("none", "ka"), (8, 16), (0, 1), images=3), Fake("none", dataset="camvid", images=3)]
NOBODY = [f"{n:020x}" for n in range(70_000)]
"""More keys than a database takes as values of one question."""


def test_of_rows_and_data_sets(store: Store, tmp_path: Path) -> None:
    collect(write_all(tmp_path / "runs", FAKES), store)
    ka, other = [f.key for f in FAKES if (f.method, f.stride) == ("ka", 16)], FAKES[-1].key
    found = tagged(store, {ka[0]: ["a"], ka[1]: ["a", "b"], other: ["c"], **{key: ["x"] for key in NOBODY}})
    assert found.datasets == {"shapes": ["a", "b"], "camvid": ["c"]}
    board = with_tags(leaderboard(store), found.rows).set_index(["dataset", "method", "stride"])
    assert board.loc[("shapes", "ka", 16), "tags"] == "a, b" and board.loc[("camvid", "none", 16), "tags"] == "c"
    assert board["tags"].ne("").sum() == 2
    assert tagged(store, {}) == Tagged()
    frame = with_tags(runs(store), {ka[1]: ["a", "b"]}, by="key").set_index("key")
    assert frame.loc[ka[1], "tags"] == "a, b" and frame["tags"].ne("").sum() == 1


def test_rows_and_runs_of_very_many_keys(store: Store, tmp_path: Path) -> None:
    collect(write_all(tmp_path / "runs", FAKES), store)
    whole = brief(store, {"dataset": ["shapes"]}).set_index("row")
    key = next(f.key for f in FAKES if (f.method, f.stride) == ("ka", 8))
    for keys in ([key], [*NOBODY, key]):
        some = brief(store, {"dataset": ["shapes"]}, keys=keys).set_index("row")
        assert some.index.tolist() == rows_of_runs(store, keys) and some["method"].tolist() == ["ka"]
        same = [name for name in some if name != "frontier"]  # which is of the rows shown
        assert some[same].equals(whole.loc[some.index, same])
        assert runs(store, keys=keys, limit=10)["key"].tolist() == [key] and count_runs(store, keys=keys) == 1
        assert leaderboard(store, keys=keys)["row"].tolist() == some.index.tolist()
        seeded = leaderboard(store, {"seed": [0]}, keys=keys)
        assert seeded[["method", "stride", "seeds"]].values.tolist() == [["ka", 8, 1]]
    assert not len(brief(store, keys=[])) and count_runs(store, keys=[]) == 0
