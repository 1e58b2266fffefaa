"""The leaderboard as the database keeps it: which rows there are, which are stale, and reading and writing them.

A row and its intervals depend on the runs of its *family* alone, the runs of one data set, student and stride; so they
are computed once, when runs are collected (`results.refresh`), and read by whoever asks. What depends on more than a
family (what a teacher's training cost each of its students, Holm's correction, the frontier) is worked out on reading.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, Text, and_, bindparam, cast, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from results import store as schema
from results.columns import Column, stored_name
from results.store import Store, insert_all

CELL = ("method", "student", "stride", "teacher", "dataset", "recipe", "weights")
"""What names a row of the leaderboard: a cell without its seed."""
ROW = (*CELL, "evaluation", "manifest", "variant")
"""What makes runs one row: equal words, and equal in what words leave out."""
FAMILY = ("dataset", "student", "stride")
"""What the runs have in common whose rows are computed together."""

_BINARY = {schema.BINARY: True}

Run = Mapping[str, Any]
"""A row of `runs`, by column."""


def digest(*words: Any) -> str:
    """Twelve hexadecimal digits."""
    return hashlib.sha256(json.dumps([str(word) for word in words]).encode()).hexdigest()[:12]


def row_of(run: Run) -> str | None:
    """The key of the row that a run belongs to, which no filter and no order changes; None for a run without a cell."""
    return None if run["method"] is None else digest(*(run[name] for name in ROW))


def family_of(run: Run) -> str | None:
    """The key of a run's family; None for a run without a cell."""
    return None if run["method"] is None else digest(*(run[name] for name in FAMILY))


# --------------------------------------------------------------------------------------------------- writing


def mark_stale(connection: Connection, keys: Sequence[str]) -> None:
    """Note that runs have come, changed or will go: their families' rows, and those of their students', are stale."""
    r, parents = schema.runs.c, schema.parents.c
    own = select(r.family).where(r.key.in_(keys), r.family.is_not(None))
    taught = select(r.family).join(schema.parents, parents.key == r.key).where(parents.parent.in_(keys))
    families = set(connection.execute(own.union(taught)).scalars())
    if families:
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        rows = [{"family": family} for family in sorted(families)]
        connection.execute(insert(schema.stale).on_conflict_do_nothing(), rows)


def stale_families(connection: Connection, limit: int) -> list[str]:
    """Some of the families whose rows are stale."""
    return list(connection.execute(select(schema.stale.c.family).order_by("family").limit(limit)).scalars())


def runs_of(connection: Connection, condition: ColumnElement[bool]) -> list[dict[str, Any]]:
    """Runs with all their metrics, newest first, as the leaderboard's rows are computed from them."""
    table, values = schema.runs, schema.metrics
    shown = [column for column in table.c if column.name not in ("stamp", "confusion_stamp", "problem")]
    query = select(*shown).where(condition).order_by(table.c.finished.desc(), table.c.key)
    runs = query.with_only_columns(table.c.key, *shown)
    found = {row[0]: dict(row._mapping) for row in connection.execute(runs, execution_options=_BINARY)}
    scores = select(values.c.key, values.c.name, values.c.value).join(table, table.c.key == values.c.key)
    for key, name, value in connection.execute(scores.where(condition), execution_options=_BINARY):
        found[key][name] = value
    return list(found.values())


def write_rows(connection: Connection, metric: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows of the leaderboard, as `results.leaderboard.rows_of` gives them."""
    insert_all(connection, schema.board, [{"metric": metric, **stored(row, metric)} for row in rows])


def stored(row: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """What the database holds for columns of a row of the leaderboard: NULL for NaN."""
    named = ((_place(name, metric), value) for name, value in row.items())
    return {name: None if value != value else value for name, value in named if name}


@lru_cache(maxsize=4096)
def _place(name: str, metric: str) -> str:
    """The column of the database that holds one of a leaderboard; "" where none does."""
    stored_as = stored_name(name, metric)
    return stored_as if stored_as in schema.board.c else ""


def drop_families(connection: Connection, families: Sequence[str]) -> None:
    """Delete the rows of some families, and their being stale."""
    for table in (schema.board, schema.stale):
        connection.execute(delete(table).where(table.c.family.in_(families)))


# --------------------------------------------------------------------------------------------------- reading


BESIDE = ("manifest", "family", "pending")
"""What `read_rows` reads beside the columns that are shown."""
FEW_VALUES = (
    "dataset", "evaluation", "teacher", "recipe", "weights", "value_basis", "delta_basis", "gap_closed_basis", "flags",
    "absent", "classes", "split", "input_size", "latency_device", "precision", "numerics", "uncounted", "manifest",
    "stride", "seeds", "images", "superseded", "pending",
)  # fmt: skip
"""Columns of `board` that have the same values in many rows: the database hands them over as one text a row, of which
each is taken apart once. That costs a third of reading them one by one."""


def read_rows(
    store: Store,
    metric: str,
    conditions: Iterable[ColumnElement[bool]],
    columns: Sequence[Column],
    beside: Sequence[str] = BESIDE,
) -> pd.DataFrame:
    """Rows of the leaderboard that is ranked by a metric, in no order.

    Args:
        columns: of the board; `p_holm` and `frontier` are left out.
        beside: columns of the table `board` that are read as well.

    Returns:
        A data frame of these columns and of those beside.
    """
    c, names = schema.board.c, {column.name for column in columns}
    wanted = {name: stored_name(name, metric) for name in (*(n for n in names if n not in schema.LATE), "row", *beside)}
    if names & _SHARES:
        wanted |= {"own_training_s": "own_training_s", "lessons": "lessons"}
    if not all(stored in c for stored in wanted.values()):  # means of other metrics
        wanted["others"] = "others"
    wanted = {name: stored for name, stored in wanted.items() if stored in c}
    packed = [name for name, stored in wanted.items() if stored in FEW_VALUES]
    single = [name for name in wanted if name not in packed]
    together = _as_one_text(store, [c[wanted[name]] for name in packed])
    query = select(together, *(c[wanted[name]] for name in single)).where(c.metric == metric, *conditions)
    with store.read() as connection:
        fields = _fields(connection, query)
        found: dict[str, Any] = dict(zip(single, fields[1:], strict=True))
        found |= _taken_apart({name: c[wanted[name]].type.python_type for name in packed}, fields[0])
        for name in ("method", "student", "verdict"):
            if name in found:
                codes, different = pd.factorize(np.array(found[name], dtype=object), use_na_sentinel=False)
                found[name] = _repeated(different, codes)
        if "lessons" in found:
            found |= _training(connection, found)
    for name in (*(column.name for column in columns if column.type == "flag"), "pending"):
        if name in found:
            found[name] = np.asarray(found[name], dtype=bool)
    if "others" in found:
        means = json.loads(f"[{','.join(found['others'])}]")
        found |= {name: [mean.get(name) for mean in means] for name in names - set(schema.LATE) - found.keys()}
    return frame_of(found, columns, beside)


AT_ONCE = 2000
"""Rows that are taken apart before the next are read: tens of thousands at once would keep Python's collector busy."""


def _fields(connection: Connection, query: Select[Any]) -> list[list[Any]]:
    """The values of a question, column by column, as the driver has them.

    SQLAlchemy's own rows cost as much again as reading them, and only flags need its types.
    """
    cursor = connection.execute(query, execution_options=_BINARY).cursor
    fields: list[list[Any]] = [[] for _ in query.selected_columns]
    while rows := cursor.fetchmany(AT_ONCE):
        for field, values in zip(fields, zip(*rows), strict=True):
            field.extend(values)
    return fields


def _as_one_text(store: Store, columns: Sequence[ColumnElement[Any]]) -> ColumnElement[str]:
    """Values of columns as a JSON array; PostgreSQL makes one of texts in three quarters of the time of any others."""
    if store.engine.dialect.name == "postgresql":
        return cast(func.array_to_json(postgresql.array([cast(column, Text) for column in columns])), Text)
    return cast(func.json_array(*columns), Text)


def _taken_apart(types: Mapping[str, type], texts: Sequence[str]) -> dict[str, Any]:
    """The columns of JSON arrays, one array a row.

    Args:
        types: of the columns, by name; a number or a truth that comes as a text is taken for what it is.
    """
    codes, different = pd.factorize(np.array(texts, dtype=object))
    fields = list(zip(*map(json.loads, different))) or [()] * len(types)
    values = ([_of_type(value, type_) for value in field] for field, type_ in zip(fields, types.values()))
    return {name: _repeated(field, codes) for name, field in zip(types, values)}


def _of_type(value: Any, type_: type) -> Any:
    if type_ is str or not isinstance(value, str):
        return value
    return value == "true" if type_ is bool else type_(value)


def _repeated(different: Any, codes: NDArray[np.intp]) -> Any:
    """Values in the places that codes say."""
    return pd.Series(different, dtype=None if len(different) else object).array.take(codes)


_SHARES = {"training_s", "shared_training_s"}


def _training(connection: Connection, found: Mapping[str, Any]) -> dict[str, Any]:
    """The cost of training of every row, and its parents' part in it."""
    codes, different = pd.factorize(np.array(found["lessons"], dtype=object))
    learned = [json.loads(text) for text in different]
    costs = lesson_costs(connection, {parent for runs in learned for parents in runs for parent in parents})
    shares = np.array([shared_cost(runs, costs) for runs in learned], dtype=float)[codes]
    return {"shared_training_s": shares, "training_s": shares + np.array(found["own_training_s"], dtype=float)}


def frame_of(found: Mapping[str, Any], columns: Sequence[Column], beside: Sequence[str] = BESIDE) -> pd.DataFrame:
    """Values of columns of the board as a data frame, with what stands beside them."""
    values = {c.name: _typed(c, found[c.name]) for c in columns if c.name in found}
    return pd.DataFrame(values | {name: pd.Series(found[name], dtype=object) for name in beside})


def _typed(column: Column, values: Any) -> pd.Series:
    if column.type == "number" or (column.type == "count" and column.seeds == "same" and column.name != "stride"):
        return pd.Series(np.asarray(values, dtype=float))
    return pd.Series(values) if len(values) else pd.Series(values, dtype=object)


def lesson_costs(connection: Connection, keys: Collection[str]) -> dict[str, float]:
    """Teacher or translator -> seconds of its training that each student pays which learned from it.

    It is shared by all students in the database that did, whatever is shown.

    Args:
        keys: of teachers and translators.
    """
    r, parents = schema.runs.c, schema.parents.c
    paid = func.coalesce(r.paid_s, r.seconds)
    found: dict[str, float] = {}
    for some in in_parts(keys):
        counts = select(parents.parent, func.count()).where(parents.parent.in_(some)).group_by(parents.parent)
        taught = {row[0]: row[1] for row in connection.execute(counts)}
        rows = connection.execute(select(r.key, paid).where(r.key.in_(taught)))
        found |= {key: seconds / taught[key] for key, seconds in rows if seconds is not None}
    return found


def in_parts(keys: Iterable[str], size: int = 500) -> Iterator[list[str]]:
    """Keys by the hundred: no database takes any number of them in one question."""
    wanted = list(keys)
    return (wanted[start : start + size] for start in range(0, len(wanted), size))


def own_cost(run: Run) -> float:
    """Seconds that a run's own training cost."""
    seconds = run["seconds"] if run["paid_s"] is None else run["paid_s"]
    return math.nan if seconds is None else float(seconds)


def lessons(run: Run) -> list[str]:
    """Whom a run learned from and pays for."""
    return [parent for parent in run["parents"].split(",") if parent] if run["kind"] == "student" else []


def shared_cost(learned: Sequence[Sequence[str]], costs: Mapping[str, float]) -> float:
    """Mean over a row's runs of their part of what their parents' training cost; NaN where that of none is known.

    Args:
        learned: of each run its parents.
        costs: as `lesson_costs` gives them.
    """
    shares = [sum([costs.get(parent, math.nan) for parent in parents]) for parents in learned]
    known = [share for share in shares if not math.isnan(share)]
    return sum(known) / len(known) if known else math.nan


def p_values(store: Store, metric: str, datasets: Iterable[str]) -> dict[str, pd.Series]:
    """Data set -> p-values by row, of all rows of some data sets that are compared with `none`."""
    c = schema.board.c
    found: dict[str, pd.Series] = {}
    with store.read() as connection:
        for dataset in datasets:
            query = select(c.row, c.p).where(c.metric == metric, c.dataset == dataset, c.p.is_not(None))
            rows, values = _fields(connection, query)
            found[dataset] = pd.Series(values, index=pd.Index(rows, dtype=object), dtype=float)
    return found


def most_images(store: Store, metric: str, datasets: Iterable[str]) -> dict[tuple[str, ...], float]:
    """(data set, manifest, split) -> the most images that a row was evaluated on there; {} where all have as many."""
    c = schema.board.c
    where = (c.dataset, c.manifest, c.split)
    shown = and_(c.metric == metric, c.dataset.in_(list(datasets)))
    query = select(*where, func.max(c.images)).where(shown).group_by(*where)
    with store.read() as connection:
        least, most = connection.execute(select(func.min(c.images), func.max(c.images)).where(shown)).one()
        if least == most:  # asked first, for this costs little more than half of grouping all rows
            return {}
        return {(row[0], row[1], row[2]): row[3] for row in connection.execute(query) if row[3] is not None}


def all_hidden(store: Store, metric: str, hidden: Collection[str]) -> set[str]:
    """The rows of the leaderboard all of whose runs are hidden.

    Args:
        hidden: keys of runs.
    """
    c, known = schema.board.c, set(hidden)
    query = select(c.row, c["keys"]).where(c.metric == metric, among(store, c.row, rows_of_runs(store, hidden)))
    with store.read() as connection:
        return {row for row, keys in connection.execute(query) if set(keys.split(",")) <= known}


def rows_of_runs(store: Store, keys: Iterable[str]) -> list[str]:
    """The rows that some runs belong to."""
    r = schema.runs.c
    with store.read() as connection:
        query = select(r.row).where(among(store, r.key, keys), r.row.is_not(None)).distinct()
        return list(connection.execute(query).scalars())


def among(store: Store, column: ColumnElement[Any], texts: Iterable[str]) -> ColumnElement[bool]:
    """Whether a column has one of any number of texts.

    They travel as one JSON array, for a question may name so many values only: SQLite takes 32 766.
    """
    given = bindparam(None, json.dumps(list(texts)), Text)
    if store.engine.dialect.name == "postgresql":
        return column.in_(select(func.jsonb_array_elements_text(cast(given, postgresql.JSONB)).column_valued()))
    return column.in_(select(func.json_each(given).table_valued("value").c.value))
