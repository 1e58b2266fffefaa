"""A database of another schema, or a damaged one, is made anew from the records; nothing is deleted silently."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import func, select

from results import store as schema
from results.ingest import collect
from results.leaderboard import leaderboard
from results.rebuild import collect_into
from results.store import open_store
from tests.results.factory import Fake, sweep, write_all

FAKES = sweep(("none", "ka"), (16,), (0, 1), images=2)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return write_all(tmp_path / "runs", FAKES)


def count(url: str | Path) -> int:
    with open_store(url, readonly=True) as store, store.read() as connection:
        return int(connection.execute(select(func.count()).select_from(schema.runs)).scalar_one())


def made_old(url: str | Path) -> None:
    """As if an older version had made it: another number, other tables."""
    with open_store(url) as store, store.write() as connection:
        connection.execute(schema.schema_version.update().values(version=1))
        connection.exec_driver_sql("ALTER TABLE declarations DROP COLUMN summary")


def damage(path: Path) -> None:
    """Spoil the middle of a file, not its head."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(3 * 4096))


def test_collecting_makes_an_old_database_anew(url: str, workspace: Path, tmp_path: Path) -> None:
    other = write_all(tmp_path / "others", [Fake("kd", 32, 9, images=2)])
    with open_store(url) as store:
        for folder in (workspace, other):
            collect(folder, store)
    made_old(url)
    done = collect_into(workspace, url)
    assert "made anew" in done.note and len(done.summary.added) == len(FAKES)
    assert count(url) == len(FAKES) + 1  # those of the other workspace too
    again = collect_into(workspace, url)
    assert again.note == "" and len(again.summary.unchanged) == len(FAKES)
    assert not list(tmp_path.glob("**/*.old")) and not list(tmp_path.glob("**/*.new*"))
    with open_store(url, readonly=True) as store:
        assert len(leaderboard(store)) == 4


def test_rebuild_is_for_any_database(url: str, workspace: Path) -> None:
    for _ in range(2):  # there is none; there is a good one
        assert len(collect_into(workspace, url, rebuild=True).summary.added) == len(FAKES)
    assert count(url) == len(FAKES)


def test_rows_of_a_workspace_that_is_gone_are_kept_beside(workspace: Path, tmp_path: Path) -> None:
    path, other = tmp_path / "results.db", write_all(tmp_path / "others", [Fake("kd", 32, 9, images=2)])
    with open_store(path) as store:
        for folder in (workspace, other):
            collect(folder, store)
    other.rename(tmp_path / "moved")
    done = collect_into(workspace, path, rebuild=True)
    assert str(other) in done.note and "results.db.old" in done.note
    assert count(path) == len(FAKES) and count(tmp_path / "results.db.old") == len(FAKES) + 1
    collect_into(workspace, path, rebuild=True)  # the first one kept is not written over
    assert count(tmp_path / "results.db.old") == len(FAKES) + 1


@pytest.mark.postgres
def test_a_server_keeps_its_rows_when_a_workspace_is_gone(postgres_url: str, workspace: Path, tmp_path: Path) -> None:
    other = write_all(tmp_path / "others", [Fake("kd", 32, 9, images=2)])
    with open_store(postgres_url) as store:
        for folder in (workspace, other):
            collect(folder, store)
    other.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="is gone"):
        collect_into(workspace, postgres_url, rebuild=True)
    assert count(postgres_url) == len(FAKES) + 1


def test_a_damaged_file_is_told_and_made_anew_when_asked(workspace: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    collect_into(workspace, path)
    damage(path)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"damaged .*harness collect --rebuild.*nothing is lost"):
            collect_into(workspace, path)
    done = collect_into(workspace, path, rebuild=True)
    assert "results.db.old" in done.note and count(path) == len(FAKES)


def test_a_damaged_file_is_told_to_readers(workspace: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    collect_into(workspace, path)
    with path.open("r+b") as file:  # all but the head and the list of tables
        file.seek(3 * 4096)
        file.write(os.urandom(path.stat().st_size - 3 * 4096))
    with pytest.raises(ValueError, match="harness collect --rebuild"), open_store(path, readonly=True) as store:
        leaderboard(store)


@pytest.mark.parametrize("rest", [200, 4096, 3 * 4096])
def test_a_file_cut_short_is_made_anew(workspace: Path, tmp_path: Path, rest: int) -> None:
    path = tmp_path / "results.db"
    collect_into(workspace, path)
    path.write_bytes(path.read_bytes()[:rest])
    with pytest.raises(ValueError, match=r"results\.db"):
        collect_into(workspace, path)
    collect_into(workspace, path, rebuild=True)
    assert count(path) == len(FAKES) and (tmp_path / "results.db.old").is_file()


def test_what_is_not_ours_is_never_replaced(workspace: Path, tmp_path: Path) -> None:
    notes, other, newer = tmp_path / "notes.txt", tmp_path / "other.db", tmp_path / "newer.db"
    notes.write_text("not a database")
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE runs (name TEXT)")
    with open_store(newer) as store, store.write() as connection:
        connection.execute(schema.schema_version.update().values(version=99))
    for path in (notes, other, newer):
        before = path.read_bytes()
        for rebuild in (True, False):
            with pytest.raises(ValueError):
                collect_into(workspace, path, rebuild)
        assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["newer.db", "notes.txt", "other.db", "runs"]
