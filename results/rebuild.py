"""Opening a database for collecting, and making a new one beside it where the old one is of another schema or damaged.

A database is an index of records, so it is never migrated or mended: all the workspaces that it was collected from are
collected into a new one, which then takes its place. What cannot be collected again (a workspace that is gone) is not
thrown away: the old file is then kept beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import MetaData, Table, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.schema import CreateSchema, DropSchema

from results import store as schema
from results.ingest import Summary, collect
from results.refresh import PATIENCE_S
from results.store import Damaged, OtherVersion, Store, open_store

_SQLITE = b"SQLite format 3\0"
_FORMER = ("tallies",)
"""Tables of older versions that this one has no more."""


@dataclass(frozen=True)
class Collected:
    """What bringing a database up to date did.

    Attributes:
        summary: of the workspace that was asked for.
        note: a sentence on a database that was made anew; "" where none was.
    """

    summary: Summary
    note: str = ""


def collect_into(
    workspace: Path, target: str | Path, rebuild: bool = False, patience_s: float = PATIENCE_S, processes: int = 1
) -> Collected:
    """Bring a database up to date with a workspace; make it anew where an older version of this program made it.

    Args:
        target: an SQLite file or a URL.
        rebuild: make it anew in any case, damaged or not.
        patience_s, processes: as for `collect`.

    Raises:
        ValueError: no workspace; the database cannot be opened, belongs to something else or to a newer version of
            this program, or is damaged and `rebuild` is not asked for.
    """
    if not (workspace / "stages").is_dir():
        raise ValueError(f"{workspace} is not a workspace: it holds no stages folder")
    if not rebuild:
        try:
            with open_store(target) as store:
                store.check()
                return Collected(collect(workspace, store, patience_s, processes))
        except OtherVersion as error:
            if error.newer:
                raise
    url = schema.parse_url(target)
    if url.get_backend_name() == "sqlite":
        return _rebuild_file(workspace, Path(url.database or ""), patience_s)
    return _rebuild_server(workspace, target, patience_s)


def _rebuild_file(workspace: Path, path: Path, patience_s: float) -> Collected:
    """Make a new file beside the old one, then put it in its place."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(len(_SQLITE)) != _SQLITE:
                raise ValueError(f"{path} is not an SQLite database: name another file, or remove it")
    else:
        with open_store(path) as store:
            return Collected(collect(workspace, store, patience_s))
    origins, whole = _origins(path)
    fresh = path.with_name(f"{path.name}.new-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        with open_store(fresh) as store:
            summary, missing = _collect_all(workspace, origins, store, patience_s)
        kept = _keep(path) if missing or not whole else None
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return Collected(summary, _note(str(path), missing, kept))


def _origins(path: Path) -> tuple[list[Path], bool]:
    """The workspaces that a file's rows were collected from, and whether that could be read.

    Raises:
        ValueError: the file belongs to something else.
    """
    try:
        with open_store(path, readonly=True) as store:
            store.check()
            found = _workspaces(store)
    except OtherVersion as error:
        if error.newer:
            raise
        found = _workspaces(error.store)
    except Damaged:
        return [], False
    except ValueError as error:
        if isinstance(error.__cause__, DBAPIError):  # what is left of it cannot even be opened
            return [], False
        raise
    return found or [], found is not None


def _workspaces(store: Store) -> list[Path] | None:
    """Where the rows of a database of any version were collected from; None where that cannot be read."""
    try:
        with store.read() as connection:
            table = Table("runs", MetaData(), autoload_with=connection)
            return [Path(found) for found in connection.execute(select(table.c.workspace).distinct()).scalars()]
    except (SQLAlchemyError, AttributeError, ValueError):
        return None


def _collect_all(
    workspace: Path, origins: Iterable[Path], store: Store, patience_s: float
) -> tuple[Summary, list[Path]]:
    """Collect a workspace and all others that are still there; its summary, and those that are gone."""
    missing = []
    for origin in origins:
        if origin.resolve() == workspace.resolve():
            continue
        if (origin / "stages").is_dir():
            collect(origin, store, 0.0)
        else:
            missing.append(origin)
    return collect(workspace, store, patience_s), missing


def _keep(path: Path) -> Path:
    """Set the old file aside under a name that is free."""
    names = (path.with_name(f"{path.name}.old{number or ''}") for number in range(10_000))
    kept = next(name for name in names if not name.exists())
    kept.hardlink_to(path)
    return kept


def _note(name: str, missing: Iterable[Path], kept: Path | None) -> str:
    said = f"{name} was made anew from the records"
    if gone := ", ".join(map(str, missing)):
        said += f"; rows of {gone} are not in it, for that folder is gone"
    return f"{said}; the old file is kept as {kept}" if kept else said


def _rebuild_server(workspace: Path, target: str | Path, patience_s: float) -> Collected:
    """Make new tables in a schema of their own, then let them take the place of the old ones in one transaction."""
    beside = f"harness_new_{os.getpid()}"
    old = _server(target)
    with old, old.engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        if "runs" in tables and "schema_version" not in tables:
            raise ValueError(f"{old.name} is a database of something else: name another one")
        home = connection.dialect.default_schema_name
    origins = _workspaces(old) or []
    with old.engine.begin() as connection:
        connection.execute(CreateSchema(beside))
    try:
        with open_store(schema.in_schema(target, beside)) as fresh:
            summary, missing = _collect_all(workspace, origins, fresh, patience_s)
        if missing:
            gone = ", ".join(map(str, missing))
            raise ValueError(f"{old.name} holds rows of {gone}, which is gone: collect into a new database instead")
        with old.write() as connection:
            theirs = MetaData()
            theirs.reflect(connection, only=[name for name in (*schema.metadata.tables, *_FORMER) if name in tables])
            theirs.drop_all(connection)
            for table in schema.metadata.sorted_tables:
                connection.exec_driver_sql(f'ALTER TABLE "{beside}"."{table.name}" SET SCHEMA "{home}"')
    finally:
        with old.engine.begin() as connection:
            connection.execute(DropSchema(beside, cascade=True, if_exists=True))
        old.close()
    return Collected(summary, _note(old.name, [], None))


def _server(target: str | Path) -> Store:
    """The database as it is, of whatever version."""
    try:
        return open_store(target)
    except OtherVersion as error:
        if error.newer:
            raise
        return error.store
