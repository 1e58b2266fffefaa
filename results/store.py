"""The database: an index of records, which can be deleted and collected again at any time.

SQLite by default, PostgreSQL by URL. Jobs never open it: `results.ingest.collect` is its only writer. On SQLite a
writer takes the lock at once (`BEGIN IMMEDIATE`) and waits up to 30 s for it; the journal is the rollback journal,
because write-ahead logs do not work on network file systems. Readers may open it read-only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    inspect,
    select,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from results import columns
from results.metrics import HEADLINE

SCHEMA = 8
"""Version of the tables below. There are no migrations: a database is collected again from its records."""
BUSY_TIMEOUT_S = 30
BINARY = "binary"
"""Execution option: PostgreSQL hands values over as they are, and neither side writes or reads numbers as text."""
_WRITER_LOCK = 7_316_548_021
"""PostgreSQL's advisory lock of the one writer."""

_RANKED = {HEADLINE: columns.METRICS[HEADLINE]}

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

_TYPES = {"text": Text, "number": Float, "count": BigInteger, "flag": Boolean}


def _stored(column: columns.Column) -> Column[Any]:
    type_ = String(64) if column.name == "key" else _TYPES[column.type]
    return Column(
        column.name,
        type_,
        primary_key=column.name == "key",
        nullable=not column.required and column.name != "key",
        index=column.index or None,
    )


runs = Table(
    "runs",
    metadata,
    # What the record says, in base units; the cell is NULL for translators.
    *(_stored(column) for column in columns.STORED),
    # Where it was collected from, and what the files looked like: `mtime_ns:size`.
    Column("workspace", Text, nullable=False),
    Column("stamp", Text, nullable=False),
    Column("confusion_stamp", Text, nullable=False),
    Column("problem", Text, nullable=False),
    # Of the leaderboard: the row that it belongs to, and the rows that change with it (`results.board`).
    Column("row", String(12), index=True),
    Column("family", String(12), index=True),
    Index("runs_by_time", "finished", "key"),
)
NOT_SHOWN = ("stamp", "confusion_stamp", "row", "family")
"""Columns of `runs` that only the collector and the leaderboard read."""


def _key() -> Column[str]:
    return Column("key", String(64), ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True)


# The record itself, as it was read: zlib. Apart from `runs`, so that those can be looked through quickly.
records = Table("records", metadata, _key(), Column("record", LargeBinary, nullable=False))
# Whom a student learned from: what these cost is divided among all who did.
parents = Table("parents", metadata, _key(), Column("parent", String(64), primary_key=True, index=True))
metrics = Table(
    "metrics",
    metadata,
    _key(),
    Column("name", String(64), primary_key=True),
    # A fraction where the unit is "%"; NULL where it is not defined.
    Column("value", Float),
    Column("declaration", String(12), nullable=False, index=True),
)
# What metrics declared about themselves when runs were scored, by the digest of it.
declarations = Table(
    "declarations",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("heading", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("digits", Integer, nullable=False),
    Column("summary", Text, nullable=False),
)
metric_states = Table(
    "metric_states",
    metadata,
    _key(),
    Column("name", String(64), primary_key=True),
    Column("parts", Integer, nullable=False),
    # (N, parts, G) float64, little-endian, zlib: what adds up over images, as `results.metrics` takes it.
    Column("states", LargeBinary, nullable=False),
)
class_iou = Table(
    "class_iou",
    metadata,
    _key(),
    Column("position", Integer, primary_key=True),
    Column("class", Text, nullable=False),
    Column("iou", Float),
)
terms = Table(
    "terms",
    metadata,
    _key(),
    Column("term", Text, primary_key=True),
    Column("weight", Float),
    Column("first", Float),
    Column("last", Float),
)
attempts = Table(
    "attempts",
    metadata,
    _key(),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("started", Text, nullable=False),
    Column("ended", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("resumed_at", BigInteger, nullable=False),
    Column("code", Text, nullable=False),
)
class_counts = Table(
    "class_counts",
    metadata,
    _key(),
    Column("names", Text, nullable=False),
    Column("classes", Integer, nullable=False),
    # (N, 3, K) uint32, little-endian, zlib: per image and class the pixels hit, labelled, predicted.
    Column("counts", LargeBinary, nullable=False),
)
LATE = ("row", "training_s", "shared_training_s", "p_holm", "frontier")
"""Columns of a leaderboard that `board` has no column of the like for: its key, and what depends on other rows."""


def _of_board(column: columns.Column) -> Column[Any]:
    whole = column.type == "count" and (column.name == "stride" or column.seeds != "same")
    type_ = BigInteger if whole else Float if column.type == "count" else _TYPES[column.type]
    return Column(columns.stored_name(column.name, HEADLINE), type_)


# Rows of the leaderboard, one for each metric that it can be ranked by: computed from `runs` by `results.refresh`.
board = Table(
    "board",
    metadata,
    Column("metric", String(64), primary_key=True),
    Column("row", String(12), primary_key=True),
    Column("family", String(12), nullable=False, index=True),
    # The columns of the metric have one name for all metrics: `value`, `value_low`.
    *(_of_board(column) for column in columns.board_columns(_RANKED) if column.name not in LATE),
    # JSON: the means of all metrics by name; of each run whom it learned from.
    Column("others", Text, nullable=False),
    Column("lessons", Text, nullable=False),
    Column("manifest", Text, nullable=False),
    # Tiers and intervals over images are not computed yet.
    Column("pending", Boolean, nullable=False, index=True),
    Index("board_by_data", "metric", "dataset", "evaluation"),
)
# Families of rows whose runs have changed since their rows were computed.
stale = Table("stale", metadata, Column("family", String(12), primary_key=True))
CHILDREN = (records, parents, metrics, metric_states, class_iou, terms, attempts, class_counts)


class OtherVersion(ValueError):
    """A database of ours that another version of this program made.

    Attributes:
        newer: that version is newer than this one.
        store: the database, opened; its tables are not those below.
    """

    def __init__(self, message: str, newer: bool, store: Store) -> None:
        super().__init__(message)
        self.newer, self.store = newer, store


class Damaged(ValueError):
    """An SQLite file that is damaged."""


class Store:
    """An open database.

    Attributes:
        name: how messages call it; passwords hidden.
        readonly: writing is refused.
    """

    def __init__(self, engine: Engine, name: str, readonly: bool) -> None:
        self.engine, self.name, self.readonly = engine, name, readonly

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection whose statements all see one state of the database.

        Raises:
            ValueError: the file is damaged.
        """
        postgres = self.engine.dialect.name == "postgresql"
        with self._told(), self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="REPEATABLE READ") if postgres else connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that no other writer runs beside; committed at the end, rolled back on an exception.

        Raises:
            ValueError: the store was opened read-only, or the file is damaged.
        """
        if self.readonly:
            raise ValueError(f"{self.name} is open for reading only")
        with self._told(), self.engine.connect().execution_options(writer=True) as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
            yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite says of a damaged file, with the remedy."""
        try:
            yield
        except DBAPIError as error:
            if damage := _damage(error):
                raise damaged(self.name, damage) from error
            raise

    def check(self) -> None:
        """Look an SQLite file through; other databases look after themselves.

        Raises:
            Damaged: it is damaged.
        """
        if self.engine.dialect.name != "sqlite":
            return
        with self.read() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise damaged(self.name, str(found).splitlines()[-1])

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def damaged(name: str, why: str) -> Damaged:
    """The error for a damaged file, with the remedy."""
    remedy = "run harness collect --rebuild, which makes a new one from the records: nothing is lost"
    return Damaged(f"{name} is damaged ({why}): {remedy}")


def _damage(error: DBAPIError) -> str:
    """What SQLite says of a damaged file; "" for any other error."""
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    return str(error.orig).splitlines()[0] if code == sqlite3.SQLITE_CORRUPT else ""


def open_store(url_or_path: str | Path, readonly: bool = False) -> Store:
    """Open a database, and make its tables when it is new.

    Args:
        url_or_path: an SQLite file, or a URL: `postgresql://user@host/name`, `sqlite:///file.db`.
        readonly: open for reading only; nothing is made.

    Raises:
        ValueError: it cannot be opened, is missing (read-only), is none of ours, or of another schema version.
    """
    url = parse_url(url_or_path)
    name = url.database or "" if url.get_backend_name() == "sqlite" else _shown(url)
    sqlite = url.get_backend_name() == "sqlite"
    engine = _sqlite(Path(name), readonly) if sqlite else _postgresql(url, readonly)
    store = Store(engine, name, readonly)
    try:
        _prepare(store)
    except DBAPIError as error:
        store.close()
        why = str(error.orig).strip().splitlines()[0]
        raise ValueError(f"{name} cannot be opened: {why}{_file_remedy(why) if sqlite else _remedy(why)}") from error
    except BaseException:
        store.close()
        raise
    return store


def insert_all(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert many rows of equal columns the quickest way that the database has.

    Raises:
        the driver's own errors, not SQLAlchemy's; OverflowError, UnicodeError: a value cannot be stored.
    """
    if not rows:
        return
    names = list(rows[0])
    quoted = ", ".join(f'"{name}"' for name in names)
    values = [tuple(map(row.__getitem__, names)) for row in rows]
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "postgresql":
        with driver.cursor().copy(f'COPY "{table.name}" ({quoted}) FROM STDIN') as copy:
            for row in values:
                copy.write_row(row)
    else:
        marks = ", ".join("?" * len(names))
        driver.executemany(f'INSERT INTO "{table.name}" ({quoted}) VALUES ({marks})', values)


def _remedy(why: str) -> str:
    """What can be done about a server's refusal, as the end of a sentence."""
    if "password" in why or "authentication" in why:
        return "; the user or the password is wrong: PGPASSWORD or ~/.pgpass hold the password"
    if "database" in why and "does not exist" in why:
        return "; make it on the server (createdb), or name another"
    return "; see that the server runs and can be reached, and look at user and password (PGPASSWORD or ~/.pgpass)"


def _file_remedy(why: str) -> str:
    """What can be done about an SQLite file that cannot be opened, as the end of a sentence."""
    if "locked" in why:
        return f" for {BUSY_TIMEOUT_S} s: another program holds it; close that program, or wait for it"
    if "not a database" in why:
        return "; name another file, or move this one away"
    if "unable to open" in why:
        return "; name a file, in a folder that can be written to"
    return ""


def in_schema(url: str | Path, name: str) -> str:
    """The URL of the same PostgreSQL database, with the tables in a schema of that name."""
    found = parse_url(url).update_query_dict({"options": f"-csearch_path={name}"})
    return found.render_as_string(hide_password=False)


def _shown(url: URL) -> str:
    """The URL for messages: without password, also where it stands among the parameters."""
    public = {name: value for name, value in url.query.items() if "pass" not in name.lower()}
    return url.set(query=public).render_as_string(hide_password=True)


def parse_url(url_or_path: str | Path) -> URL:
    """The URL that is meant; PostgreSQL always by psycopg 3."""
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        if not str(url_or_path) or str(url_or_path) == ":memory:":
            raise ValueError("a database is a file or a URL")
        return URL.create("sqlite", database=str(url_or_path))
    try:
        url = make_url(url_or_path.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError) as error:
        raise ValueError("the database's URL cannot be read: write postgresql://user@host/name") from error
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and url.database:
        return url
    raise ValueError(f"databases are SQLite files or PostgreSQL URLs, not {backend}")


def _sqlite(path: Path, readonly: bool) -> Engine:
    """An engine without a pool: between two questions nobody holds the file open."""
    if readonly and not path.is_file():
        raise ValueError(f"there is no database at {path}: run harness collect")
    if not readonly:
        path.parent.mkdir(parents=True, exist_ok=True)
    uri = f"file:{quote(str(path.absolute()))}?mode={'ro' if readonly else 'rwc'}"

    def connect() -> sqlite3.Connection:
        # isolation_level=None: Python starts no transactions of its own; "begin" below does.
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writer = connection.get_execution_options().get("writer", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


def _postgresql(url: URL, readonly: bool) -> Engine:
    try:
        engine = create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    except ImportError as error:
        raise ValueError("PostgreSQL needs psycopg: pip install 'psycopg[binary]'") from error
    if readonly:

        @event.listens_for(engine, "connect")
        def _configure(connection, _: object) -> None:  # type: ignore[no-untyped-def]
            connection.execute("SET default_transaction_read_only = on")
            connection.commit()

    @event.listens_for(engine, "before_cursor_execute")
    def _ask_for_binary(_: object, cursor: Any, __: object, ___: object, context: Any, ____: object) -> None:
        if context and context.execution_options.get(BINARY):
            cursor.format = 1  # psycopg.pq.Format.BINARY

    return engine


def _prepare(store: Store) -> None:
    """Make the tables when there are none, and check that they are of this version."""
    if not store.readonly and not _version_matches(store):
        with store.write() as connection:
            if not inspect(connection).has_table("schema_version"):
                metadata.create_all(connection)
                connection.execute(schema_version.insert().values(version=SCHEMA))
    if not _version_matches(store):
        raise ValueError(f"{store.name} holds no leaderboard yet: run harness collect")


def _version_matches(store: Store) -> bool:
    """Whether our tables are there.

    Raises:
        ValueError: they are of another version, or the database belongs to something else.
    """
    with store.read() as connection:
        tables = inspect(connection).get_table_names()
        if "schema_version" not in tables:
            if "runs" in tables:
                raise ValueError(f"{store.name} is a database of something else: name another one")
            return False
        found = connection.execute(select(schema_version.c.version)).scalar()
    if found != SCHEMA:
        newer = isinstance(found, int) and found > SCHEMA
        if newer:
            remedy = "it was made by a newer version of this program: update this one, or name another database"
        else:
            remedy = "run harness collect, which makes a new one from the records: nothing is lost"
        message = f"{store.name} is of schema version {found}, this program reads {SCHEMA}: {remedy}"
        raise OtherVersion(message, newer, store)
    return True
