"""Stores of both backends. PostgreSQL: the server of HARNESS_TEST_POSTGRES, else one of our own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

from results.store import Store, open_store
from tests.results.server import own_server, programs

NUMBERS = count()
# Times belong into benchmarks: a busy machine must not fail a law.
settings.register_profile("results", deadline=None, max_examples=60)
settings.load_profile("results")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a server on which databases may be made."""
    if url := os.environ.get("HARNESS_TEST_POSTGRES"):
        yield url
        return
    pytest.importorskip("psycopg", reason="PostgreSQL tests need psycopg")
    if programs() is None:
        pytest.skip("no PostgreSQL: set HARNESS_TEST_POSTGRES or install the server")
    with own_server() as url:
        yield url


@pytest.fixture
def locked_url(postgres_server: str) -> Iterator[str]:
    """URL, with the right password, of a database whose owner must give one; on a server of our own only."""
    import psycopg
    from sqlalchemy.engine import make_url

    with psycopg.connect(postgres_server, autocommit=True) as server:
        rules = Path(str(server.execute("SHOW hba_file").fetchone()[0]))  # type: ignore[index]
        if os.environ.get("HARNESS_TEST_POSTGRES"):
            pytest.skip("the rules of a server of others are not ours to change")
        name = f"locked_{os.getpid()}_{next(NUMBERS)}"
        rules.write_text(f"local all {name} scram-sha-256\n{rules.read_text()}")
        server.execute("SELECT pg_reload_conf()")
        server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'right'")
        server.execute(f"CREATE DATABASE {name} OWNER {name}")
    url = make_url(postgres_server).set(database=name, username=name, password="right")
    yield url.render_as_string(hide_password=False)
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        server.execute(f"DROP ROLE {name}")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty database of its own."""
    import psycopg
    from sqlalchemy.engine import make_url

    name = f"harness_test_{os.getpid()}_{next(NUMBERS)}"
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where to put a new database, on each backend."""
    if request.param == "sqlite":
        return str(tmp_path / "database" / "results.db")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An empty store."""
    with open_store(url) as opened:
        yield opened


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[Store]:
    """An empty store on SQLite, for what does not depend on the backend."""
    with open_store(tmp_path / "results.db") as opened:
        yield opened
