"""The database: an index of records, which can be deleted and collected again at any time.

SQLite by default, PostgreSQL by URL. Jobs never open it: `results.ingest.collect` is its only writer. On SQLite a
writer takes the lock at once (`BEGIN IMMEDIATE`) and waits up to 30 s for it; the journal is the rollback journal,
because write-ahead logs do not work on network file systems. Readers may open it read-only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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

SCHEMA = 1
"""Version of the tables below. There are no migrations: a database is collected again from its records."""
BUSY_TIMEOUT_S = 30
_WRITER_LOCK = 7_316_548_021
"""PostgreSQL's advisory lock of the one writer."""

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

runs = Table(
    "runs",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", Text, nullable=False),
    # The cell; NULL for translators.
    Column("dataset", Text, index=True),
    Column("student", Text, index=True),
    Column("stride", Integer, index=True),
    Column("method", Text, index=True),
    Column("teacher", Text, index=True),
    Column("recipe", Text, index=True),
    Column("weights", Text),
    Column("seed", BigInteger),
    # What tells cells of equal words apart: the data's content; that and the method's version, source and teacher.
    Column("manifest", Text, nullable=False),
    Column("variant", Text, nullable=False),
    # Accuracy: fractions.
    Column("split", Text),
    Column("images", Integer),
    Column("miou", Float),
    Column("pixel_accuracy", Float),
    Column("best_miou", Float),
    Column("best_iteration", BigInteger),
    Column("best_split", Text),
    # Cost of one image.
    Column("input_height", Integer),
    Column("input_width", Integer),
    Column("macs", Float),
    Column("parameters", BigInteger),
    Column("latency_ms", Float),
    Column("latency_p95_ms", Float),
    Column("latency_device", Text),
    Column("latency_precision", Text),
    Column("peak_memory_bytes", BigInteger),
    Column("dilation", Text),
    # Training.
    Column("iterations", BigInteger, nullable=False),
    Column("samples_seen", BigInteger, nullable=False),
    Column("step_ms", Float),
    Column("seconds", Float),
    Column("loss_first", Float),
    Column("loss_last", Float),
    Column("precision_asked", Text, nullable=False),
    Column("precision", Text, nullable=False),
    Column("channels_last", Boolean, nullable=False),
    Column("numerics", Text, nullable=False),
    Column("workers_beside", Integer, nullable=False),
    # Where and when.
    Column("revision", Text, nullable=False),
    Column("dirty", Boolean, nullable=False),
    Column("host", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("launcher", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("started", Text, nullable=False),
    Column("finished", Text, nullable=False),
    Column("reproduce", Text, nullable=False),
    # Where it was collected from, and what the files looked like: `mtime_ns:size`.
    Column("workspace", Text, nullable=False),
    Column("stamp", Text, nullable=False),
    Column("confusion_stamp", Text, nullable=False),
    Column("problem", Text, nullable=False),
    Column("record", Text, nullable=False),
    Index("cell", "dataset", "student", "stride", "recipe", "method", "seed"),
)


def _key() -> Column[str]:
    return Column("key", String(64), ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True)


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
    Column("number", Integer, primary_key=True),
    Column("started", Text, nullable=False),
    Column("ended", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("resumed_at", BigInteger, nullable=False),
)
class_counts = Table(
    "tallies",
    metadata,
    _key(),
    Column("names", Text, nullable=False),
    Column("classes", Integer, nullable=False),
    # (N, 3, K) uint32, little-endian, zlib: per image and class the pixels hit, labelled, predicted.
    Column("counts", LargeBinary, nullable=False),
)
CHILDREN = (class_iou, terms, attempts, class_counts)


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
        """A connection whose statements all see one state of the database."""
        postgres = self.engine.dialect.name == "postgresql"
        with self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="REPEATABLE READ") if postgres else connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that no other writer runs beside; committed at the end, rolled back on an exception.

        Raises:
            ValueError: the store was opened read-only.
        """
        if self.readonly:
            raise ValueError(f"{self.name} is open for reading only")
        with self.engine.connect().execution_options(writer=True) as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
            yield connection

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(url_or_path: str | Path, readonly: bool = False) -> Store:
    """Open a database, and make its tables when it is new.

    Args:
        url_or_path: an SQLite file, or a URL: `postgresql://user@host/name`, `sqlite:///file.db`.
        readonly: open for reading only; nothing is made.

    Raises:
        ValueError: it cannot be opened, is missing (read-only), is none of ours, or of another schema version.
    """
    url = _parse(url_or_path)
    name = url.database or "" if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
    sqlite = url.get_backend_name() == "sqlite"
    engine = _sqlite(Path(name), readonly) if sqlite else _postgresql(url, readonly)
    store = Store(engine, name, readonly)
    try:
        _prepare(store)
    except DBAPIError as error:
        store.close()
        raise ValueError(f"{name} cannot be opened: {str(error.orig).strip().splitlines()[0]}") from error
    except BaseException:
        store.close()
        raise
    return store


def _parse(url_or_path: str | Path) -> URL:
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
        raise ValueError(
            f"{store.name} is of schema version {found}, this program writes {SCHEMA}: "
            "delete it (nothing is lost, it is an index of records) and run harness collect again"
        )
    return True
