"""The leaderboard as the database keeps it: which rows there are, which are stale, and reading and writing them.

A row and its intervals depend on the runs of its *family* alone, the runs of one data set, student and stride; so they
are computed once, when runs are collected (`results.refresh`), and read by whoever asks. What depends on more than a
family (what a teacher's training cost each of its students, Holm's correction, the frontier) is worked out on reading.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Connection, delete, func, select
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
    found = {row[0]: dict(row._mapping) for row in connection.execute(query.with_only_columns(table.c.key, *shown))}
    scores = select(values.c.key, values.c.name, values.c.value).join(table, table.c.key == values.c.key)
    for key, name, value in connection.execute(scores.where(condition)):
        found[key][name] = value
    return list(found.values())


def write_rows(connection: Connection, metric: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows of the leaderboard, as `results.leaderboard.rows_of` gives them."""
    insert_all(connection, schema.board, [{"metric": metric, **stored(row, metric)} for row in rows])


def stored(row: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """What the database holds for columns of a row of the leaderboard: NULL for NaN."""
    named = ((stored_name(name, metric), value) for name, value in row.items())
    return {name: None if value != value else value for name, value in named if name in schema.board.c}


def drop_families(connection: Connection, families: Sequence[str]) -> None:
    """Delete the rows of some families, and their being stale."""
    for table in (schema.board, schema.stale):
        connection.execute(delete(table).where(table.c.family.in_(families)))


# --------------------------------------------------------------------------------------------------- reading


def read_rows(
    store: Store, metric: str, conditions: Iterable[ColumnElement[bool]], columns: Sequence[Column]
) -> pd.DataFrame:
    """Rows of the leaderboard that is ranked by a metric, in no order.

    Args:
        columns: of the board; those of `store.LATE` but `row` are left out.

    Returns:
        A data frame of these columns, and of `manifest`, `family` and `pending`.
    """
    table, own = schema.board, {c.name: table_column(c.name, metric) for c in columns}
    named = {name: column for name, column in own.items() if column is not None}
    query = select(*named.values(), *(table.c[name] for name in (*_BESIDE, "others", "paid")))
    with store.read() as connection:
        # The driver's own rows: SQLAlchemy's cost as much again as reading them, and only flags need its types.
        rows = connection.execute(query.where(table.c.metric == metric, *conditions)).cursor.fetchall()
        costs = lesson_costs(connection)
    names = [*named, *_BESIDE, "others", "paid"]
    fields: list[Sequence[Any]] = list(zip(*rows)) if rows else [()] * len(names)
    found: dict[str, Any] = dict(zip(names, fields, strict=True))
    for name in (*(c.name for c in columns if c.type == "flag" and c.name in found), "pending"):
        found[name] = [bool(value) for value in found[name]]
    means, paid = _parsed(found["others"]), _parsed(found["paid"])
    found |= {c.name: [mean.get(c.name) for mean in means] for c in columns if own[c.name] is None}
    found["training_s"] = [training_cost(runs, costs) for runs in paid]
    return frame_of(found, columns)


_BESIDE = ("manifest", "family", "pending")


def _parsed(texts: Sequence[str]) -> list[Any]:
    """JSON texts, parsed at once."""
    found: list[Any] = json.loads(f"[{','.join(texts)}]")
    return found


def frame_of(found: Mapping[str, Sequence[Any]], columns: Sequence[Column]) -> pd.DataFrame:
    """Values of columns of the board as a data frame, with what stands beside them."""
    frame = pd.DataFrame({c.name: _typed(c, found[c.name]) for c in columns if c.name in found})
    return frame.assign(**{name: pd.Series(found[name], dtype=object) for name in _BESIDE})


def table_column(name: str, metric: str) -> Any:
    """The column of `board` in which a leaderboard's column stands; None where there is none."""
    return schema.board.c.get(stored_name(name, metric))


def _typed(column: Column, values: Sequence[Any]) -> pd.Series:
    if column.type == "number" or (column.type == "count" and column.seeds == "same" and column.name != "stride"):
        return pd.Series(values, dtype=float)
    return pd.Series(values) if len(values) else pd.Series(values, dtype=object)


def lesson_costs(connection: Connection) -> dict[str, float]:
    """Teacher or translator -> seconds of its training that each student pays which learned from it.

    It is shared by all students in the database that did, whatever is shown.
    """
    r, parents = schema.runs.c, schema.parents.c
    counts = connection.execute(select(parents.parent, func.count()).group_by(parents.parent))
    taught = {row[0]: row[1] for row in counts}
    paid = func.coalesce(r.paid_s, r.seconds)
    rows = connection.execute(select(r.key, paid).where(r.key.in_(select(parents.parent))))
    return {key: seconds / taught[key] for key, seconds in rows if seconds is not None}


def own_cost(run: Run) -> float:
    """Seconds that a run's own training cost."""
    seconds = run["seconds"] if run["paid_s"] is None else run["paid_s"]
    return math.nan if seconds is None else float(seconds)


def lessons(run: Run) -> list[str]:
    """Whom a run learned from and pays for."""
    return [parent for parent in run["parents"].split(",") if parent] if run["kind"] == "student" else []


Paid = Sequence[tuple[float, Sequence[str]]]
"""Of each run behind a row the seconds that it cost itself, and whom it learned from."""


def training_cost(runs: Paid, costs: Mapping[str, float]) -> float:
    """Mean over a row's runs of what their training cost, with their part of what their parents' did."""
    known = []
    for own, parents in runs:
        whole = own + sum([costs.get(parent, math.nan) for parent in parents])
        if not math.isnan(whole):
            known.append(whole)
    return sum(known) / len(known) if known else math.nan


def p_values(store: Store, metric: str, datasets: Iterable[str]) -> dict[str, dict[str, float]]:
    """Data set -> row -> p-value, of all rows of some data sets that are compared with `none`."""
    c = schema.board.c
    query = select(c.dataset, c.row, c.p).where(c.metric == metric, c.dataset.in_(list(datasets)), c.p.is_not(None))
    found: dict[str, dict[str, float]] = {}
    with store.read() as connection:
        for dataset, row, p in connection.execute(query):
            found.setdefault(dataset, {})[row] = p
    return found


def most_images(store: Store, metric: str, datasets: Iterable[str]) -> dict[tuple[str, ...], float]:
    """(data set, manifest, split) -> the most images that a row was evaluated on there."""
    c = schema.board.c
    where = (c.dataset, c.manifest, c.split)
    query = select(*where, func.max(c.images)).where(c.metric == metric, c.dataset.in_(list(datasets))).group_by(*where)
    with store.read() as connection:
        return {(row[0], row[1], row[2]): row[3] for row in connection.execute(query) if row[3] is not None}


def rows_of_runs(store: Store, keys: Iterable[str]) -> list[str]:
    """The rows that some runs belong to."""
    r, wanted = schema.runs.c, list(keys)
    with store.read() as connection:
        return [
            row
            for start in range(0, len(wanted), 500)
            for row in connection.execute(select(r.row).where(r.key.in_(wanted[start : start + 500]))).scalars()
            if row is not None
        ]
