"""Stores of both backends. PostgreSQL: the server of HARNESS_TEST_POSTGRES, else one of our own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

from results.store import Store, open_store

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
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), "")
    if not found:
        pytest.skip("no PostgreSQL: set HARNESS_TEST_POSTGRES or install the server")
    programs = Path(found).resolve().parent
    home = Path(tempfile.mkdtemp(prefix="pg"))
    who: dict[str, object] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        user = pwd.getpwnam("nobody")
        os.chown(home, user.pw_uid, user.pw_gid)
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data = home / "data"
    make = [programs / "initdb", "-D", data, "-A", "trust", "-U", "harness", "--no-sync", "-E", "UTF8"]
    subprocess.run(make, check=True, capture_output=True, cwd=home, **who)
    options = f"-c listen_addresses= -c unix_socket_directories={home} -c fsync=off"
    control = [programs / "pg_ctl", "-D", data, "-w"]
    with (home / "log").open("wb") as log:
        subprocess.run([*control, "-o", options, "start"], check=True, stdout=log, stderr=log, cwd=home, **who)
    try:
        yield f"postgresql://harness@/postgres?host={home}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], capture_output=True, cwd=home, **who)
        shutil.rmtree(home, ignore_errors=True)


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
