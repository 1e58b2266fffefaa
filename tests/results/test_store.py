"""The store's promises, on both backends."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from results import store as schema
from results.store import Store, open_store


def test_opens_again_and_again(url: str) -> None:
    for _ in range(2):
        with open_store(url) as store, store.read() as connection:
            assert connection.execute(select(schema.schema_version.c.version)).scalars().all() == [schema.SCHEMA]


def test_read_only_cannot_write(store: Store, url: str) -> None:
    with open_store(url, readonly=True) as reader:
        with pytest.raises(ValueError, match="reading only"), reader.write():
            pass
        with pytest.raises(DBAPIError), reader.read() as connection:
            connection.execute(schema.schema_version.insert().values(version=99))


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.write() as connection:
        connection.execute(schema.schema_version.insert().values(version=99))
        raise RuntimeError
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.schema_version)).scalar() == 1


def test_another_version_is_told(store: Store, url: str) -> None:
    with store.write() as connection:
        connection.execute(schema.schema_version.update().values(version=99))
    for readonly in (True, False):
        with pytest.raises(ValueError, match=r"schema version 99.*newer version"):
            open_store(url, readonly=readonly)
    with store.write() as connection:
        connection.execute(schema.schema_version.update().values(version=1))
    for readonly in (True, False):
        with pytest.raises(ValueError, match=r"schema version 1,.*run harness collect.*nothing is lost"):
            open_store(url, readonly=readonly)


def test_read_only_needs_a_database(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no database at .*run harness collect"):
        open_store(tmp_path / "none.db", readonly=True)
    assert not (tmp_path / "none.db").exists()


def test_an_empty_database_holds_no_leaderboard(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with pytest.raises(ValueError, match="no leaderboard yet"):
        open_store(tmp_path / "empty.db", readonly=True)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("this is no database" * 100)
    with pytest.raises(ValueError, match=r"notes\.db cannot be opened: .*move this one away"):
        open_store(tmp_path / "notes.db")
    with pytest.raises(ValueError, match="name a file, in a folder that can be written to"):
        open_store(tmp_path)


def test_a_file_that_another_program_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.store.BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "results.db"
    open_store(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ValueError, match=r"locked for .* s: another program holds it"):
            open_store(path)


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="something else"):
        open_store(path)
    assert path.read_bytes() == before


def test_names_that_are_no_databases() -> None:
    with pytest.raises(ValueError, match="not mysql"):
        open_store("mysql://host/name")
    with pytest.raises(ValueError, match="file or a URL"):
        open_store(":memory:")
    with pytest.raises(ValueError, match="postgresql://user"):
        open_store("postgresql://host:port/name")


def test_passwords_are_not_shown() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(ValueError, match="cannot be opened") as caught:
        open_store("postgresql://user:secret@127.0.0.1:1/name")
    assert "secret" not in str(caught.value)


def test_rollback_journal_and_odd_paths(tmp_path: Path) -> None:
    path = tmp_path / "a folder? with #odd% name" / "results.db"
    with open_store(path) as store, store.read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "delete"
    assert path.is_file()
    with open_store(path, readonly=True) as store:
        assert store.name == str(path)
    with open_store(f"sqlite:///{tmp_path}/plain.db") as store:
        assert store.name == f"{tmp_path}/plain.db"


def test_a_writer_waits_for_another(tmp_path: Path) -> None:
    """BEGIN IMMEDIATE: the lock is taken at once, not at the first change."""
    with open_store(tmp_path / "results.db") as store, store.write():
        other = sqlite3.connect(tmp_path / "results.db", timeout=0.1, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
