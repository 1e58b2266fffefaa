"""The leaderboard's rows as the database keeps them: computed once, and always what their runs say now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import pandas as pd
import pytest
from sqlalchemy import select

from results import formats, ingest, refresh
from results import store as schema
from results.ingest import collect
from results.leaderboard import leaderboard
from results.queries import metrics, runs
from results.refresh import _pending
from results.rows import Known, Runs, drawn_rows, undrawn_rows
from results.store import Store, open_store
from tests.results.factory import RESNET, Fake, sweep, write_all

FAKES = [
    *sweep(("none", "kd", "ka"), (8, 16), (0, 1, 2), images=6),
    Fake("none", 32, images=6),
    Fake("ka", 32, images=6),
    Fake("ka", 16, 0, images=6, gain=0.05),  # a second run of an equal cell
    Fake("none", dataset="camvid", images=4),
    Fake("ka", dataset="camvid", images=3),
]


def board_of(folder: Path, fakes: list[Fake]) -> pd.DataFrame:
    """The leaderboard of runs that were collected at once into a new database."""
    with open_store(folder / "fresh.db") as store:
        collect(write_all(folder / "fresh", fakes), store)
        return leaderboard(store)


def test_rows_follow_their_runs_however_they_were_collected(store: Store, tmp_path: Path) -> None:
    """Run by run, a teacher after its students, one changed, one taken away: as if collected at once."""
    root = tmp_path / "runs"
    teacher, *students = FAKES
    for fakes in ([FAKES[3]], students[:9], students[9:], [teacher]):
        collect(write_all(root, fakes), store)
    gone, changed = students[4], students[7]
    rmtree(root / "stages" / gone.key)
    record = changed.record()
    record.training.step_ms = 500.0
    (root / "stages" / changed.key / "record.json").write_text(record.model_dump_json())
    collect(root, store)
    found = leaderboard(store)
    (root / "stages" / changed.key / "record.json").write_text(changed.record().model_dump_json())
    collect(root, store)
    expected = board_of(tmp_path, [fake for fake in FAKES if fake is not gone])
    pd.testing.assert_frame_equal(leaderboard(store), expected)
    unlike = found.compare(expected)
    assert set(unlike.columns.get_level_values(0)) == {"step_ms", "step_ratio"}


def test_collecting_twice_computes_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect(write_all(tmp_path, FAKES), store)
    monkeypatch.setattr(refresh, "undrawn_rows", lambda *_: pytest.fail("rows were computed again"))
    monkeypatch.setattr(refresh, "drawn_rows", lambda *_: pytest.fail("rows were drawn again"))
    collect(tmp_path, store)


def test_a_new_run_computes_its_family_alone(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect(write_all(tmp_path, FAKES), store)
    computed: list[set[str]] = []

    def watched(runs: Runs, known: Known) -> dict[str, Runs]:
        computed.append({str(run["stride"]) for run in runs})
        return undrawn_rows(runs, known)

    monkeypatch.setattr(refresh, "undrawn_rows", watched)
    collect(write_all(tmp_path, [Fake("kd", 8, 7, images=6)]), store)
    assert computed == [{"8"}]


def test_what_was_not_drawn_is_drawn_on_reading(store: Store, tmp_path: Path) -> None:
    expected = board_of(tmp_path, FAKES)
    assert collect(write_all(tmp_path / "runs", FAKES), store, patience_s=-1).pending == 4 * len(expected)
    assert len(_pending(store)) == 4 * len(metrics(store)) + len(metrics(store))
    hurried = leaderboard(store, most_drawn=0)
    assert hurried.attrs["pending"] == len(expected) and hurried["tier"].isna().all()
    for name in ("miou", "delta", "p", "p_holm", "frontier", "training_s", "macs"):
        pd.testing.assert_series_equal(hurried.set_index("row")[name], expected.set_index("row")[name])
    assert any("not computed yet" in note for note in formats.notes(hurried))
    some = leaderboard(store, most_drawn=2)
    assert 0 < some.attrs["pending"] < len(expected)
    whole = leaderboard(store)
    assert whole.attrs["pending"] == 0 and not any("not computed yet" in note for note in formats.notes(whole))
    pd.testing.assert_frame_equal(whole, expected)
    assert collect(tmp_path / "runs", store).pending == 0
    pd.testing.assert_frame_equal(leaderboard(store, most_drawn=0), expected)


def test_collecting_that_was_ended_before_the_rows_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which rows are stale is in the database: the next collecting computes them, though no record is new to it."""
    with monkeypatch.context() as ended:
        ended.setattr(ingest, "refresh", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            collect(write_all(tmp_path / "runs", FAKES), store)
    assert len(leaderboard(store)) == 0
    assert collect(tmp_path / "runs", store).added == []
    pd.testing.assert_frame_equal(leaderboard(store), board_of(tmp_path, FAKES))


def test_a_family_that_changes_while_it_is_drawn_is_not_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another collector may have brought a run meanwhile: its rows stand, and are drawn the next time."""
    collect(write_all(tmp_path, FAKES[:4]), store)
    with store.write() as connection:
        connection.execute(schema.board.update().values(pending=True))

    def slow(*words: object) -> list[dict[str, object]]:
        rows = drawn_rows(*words)  # type: ignore[arg-type]
        with store.write() as connection:
            connection.execute(schema.runs.update().values(stamp="another"))
        return rows

    monkeypatch.setattr(refresh, "drawn_rows", slow)
    metric, family = _pending(store)[0]
    refresh._draw(store, metric, family)
    assert (metric, family) in _pending(store)


def test_a_teacher_that_changes_moves_its_students(store: Store, tmp_path: Path) -> None:
    teacher = Fake("teacher", 8, student=RESNET, images=6)
    students = [Fake(name, 16, seed, images=6, teacher_key=teacher.key) for name in ("none", "ka") for seed in (0, 1)]
    collect(write_all(tmp_path, [teacher, *students]), store)
    before = leaderboard(store).set_index("method").loc["ka"]
    folder = tmp_path / "stages" / teacher.key
    weak = replace(teacher, gain=-0.3)
    weak.write(tmp_path)
    record = weak.record().model_copy(update={"key": teacher.key})
    (folder / "confusion.npz").write_bytes((tmp_path / "stages" / weak.key / "confusion.npz").read_bytes())
    (folder / "record.json").write_text(record.model_dump_json())
    rmtree(tmp_path / "stages" / weak.key)
    collect(tmp_path, store)
    after = leaderboard(store).set_index("method").loc["ka"]
    assert before["gap_closed"] > 0 and pd.isna(after["gap_closed"]) and "teacher not ahead" in after["flags"]


def test_declarations_that_no_run_makes_any_more_are_gone(store: Store, tmp_path: Path) -> None:
    collect(write_all(tmp_path, FAKES[:2]), store)
    rmtree(tmp_path / "stages")
    (tmp_path / "stages").mkdir()
    collect(tmp_path, store)
    with store.read() as connection:
        for table in schema.metadata.sorted_tables:
            if table is not schema.schema_version:
                assert connection.execute(select(table)).all() == [], table.name


def test_very_many_runs_may_be_named(store: Store, tmp_path: Path) -> None:
    """As a sweep does that asks for its own rows: more than a database takes parameters."""
    collect(write_all(tmp_path, FAKES), store)
    keys = [f"{number:020x}" for number in range(70_000)]
    assert len(leaderboard(store, keys=keys[:1])) == 0
    pd.testing.assert_frame_equal(leaderboard(store, keys=[*keys, *runs(store)["key"]]), leaderboard(store))


def test_runs_in_pages(store: Store, tmp_path: Path) -> None:
    collect(write_all(tmp_path, FAKES), store)
    whole = runs(store)
    pages = [runs(store, limit=7, offset=offset) for offset in range(0, len(whole), 7)]
    pd.testing.assert_frame_equal(pd.concat(pages, ignore_index=True), whole, check_dtype=False)
    assert (
        set(runs(store, search="CAMVID")["dataset"])
        <= {"camvid"}
        == set(runs(store, {"dataset": ["camvid"]})["dataset"])
    )
    assert list(runs(store, keys=list(whole["key"][:3]))["key"]) == list(whole["key"][:3])
    assert len(runs(store, search="100%_")) == 0
