"""Questions to the database, answered as data frames. Fractions and base units; `results.formats` shows them.

A *row of the leaderboard* is a cell without its seed. Runs count as one row when their words are equal and so are the
data's content, the method's version and the teacher: otherwise they stand apart, told from one another by `variant`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, Table, false, func, or_, select

from results import store as schema
from results.board import CELL, among, lesson_costs, lessons, own_cost, read_rows
from results.columns import FIXED, METRICS, STORED, Column, metric_column
from results.metrics import COUNT_METRICS, HEADLINE, MetricInfo
from results.record import Record
from results.store import Store

SETTING = ("dataset", "evaluation", "student", "stride", "recipe", "weights", "manifest")
"""What a run and the `none` it is compared with have in common."""
FILTERS = (*CELL, "evaluation", "seed")

SHORTEST_PREFIX = 4
"""Fewer characters than this are never taken for the beginning of a key: `16` is a stride."""

Filters = Mapping[str, Iterable[str | int]]


# ------------------------------------------------------------------------------------------------ plain rows


def runs(
    store: Store,
    filters: Filters | None = None,
    limit: int | None = None,
    offset: int = 0,
    search: str = "",
    keys: Iterable[str] | None = None,
) -> pd.DataFrame:
    """One row a run, newest first: the columns of the `runs` table, `attempts`, `training_s` and a column a metric.

    Args:
        filters: column -> accepted values; a column that is not named, or names nothing, lets everything pass.
        limit, offset: so many rows, after so many.
        search: a text that one of the columns `SEARCHED` holds, whatever its case.
        keys: only these runs.

    Raises:
        ValueError: a filter's column does not exist.
    """
    table = schema.runs
    shown = [column for column in table.c if column.name not in schema.NOT_SHOWN]
    attempts = select(func.count()).where(schema.attempts.c.key == table.c.key).scalar_subquery().label("attempts")
    wanted, newest = _conditions(store, filters, search, keys), (table.c.finished.desc(), table.c.key)
    some = select(table.c.key).where(*wanted).order_by(*newest).limit(limit).offset(offset)
    values = select(schema.metrics.c.key, schema.metrics.c.name, schema.metrics.c.value)
    with store.read() as connection:
        if limit is not None or offset:  # their keys first: all runs are not sorted with all that they hold
            wanted = [table.c.key.in_(list(connection.execute(some).scalars()))]
        query = select(*shown, attempts).where(*wanted).order_by(*newest)
        if wanted:
            values = values.join(table).where(*wanted)
        rows = connection.execute(query).all()
        scores = pd.DataFrame(connection.execute(values).all(), columns=["key", "name", "value"])
        costs = lesson_costs(connection, {parent for row in rows for parent in lessons(dict(row._mapping))})
    frame = pd.DataFrame(rows, columns=[*(c.name for c in shown), "attempts"])
    frame.insert(len(shown), "training_s", [_training_cost(row._mapping, costs) for row in rows])
    for name in ("stride", "seed"):
        frame[name] = frame[name].astype("Int64")
    for column in STORED:
        if column.type in ("number", "count") and column.name not in ("stride", "seed") and not column.required:
            frame[column.name] = frame[column.name].astype(float)
    wide = scores.assign(value=scores["value"].astype(float)).pivot(index="key", columns="name", values="value")
    for name in (known := metrics(store)):
        frame[name] = frame["key"].map(wide[name]) if name in wide else math.nan
    frame.attrs["metrics"] = {name: asdict(info) for name, info in known.items()}
    return frame


SEARCHED = ("key", "name", "host", "device", "job", "revision", "recipe", "dataset", "numerics")
"""The columns of runs in which a text is looked for."""


def count_runs(
    store: Store, filters: Filters | None = None, search: str = "", keys: Iterable[str] | None = None
) -> int:
    """How many runs there are, with filters, text and keys as for `runs`."""
    query = select(func.count()).select_from(schema.runs).where(*_conditions(store, filters, search, keys))
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def _conditions(
    store: Store, filters: Filters | None, search: str, keys: Iterable[str] | None
) -> list[ColumnElement[bool]]:
    """Which runs are meant."""
    table = schema.runs
    found: list[ColumnElement[bool]] = []
    found += [table.c[name].in_(values) for name, values in matching(filters or {}).items() if values]
    if search:
        found.append(or_(*(table.c[name].icontains(search, autoescape=True) for name in SEARCHED)))
    return found if keys is None else [*found, among(store, table.c.key, keys)]


def matching(filters: Filters) -> dict[str, list[Any]]:
    """Filters as the database's columns hold them.

    Raises:
        ValueError: a filter's column does not exist, or a number is none.
    """
    found: dict[str, list[Any]] = {}
    for name, accepted in filters.items():
        if name not in (*FILTERS, "kind"):
            raise ValueError(f"there is no filter '{name}': {', '.join(FILTERS)}")
        found[name] = [_integer(name, v) for v in accepted] if name in ("stride", "seed") else list(accepted)
    return found


def _training_cost(run: Any, costs: Mapping[str, float]) -> float:
    """Seconds that a run's training cost, with its part of what its parents' did; NaN if a parent is missing."""
    return own_cost(run) + sum(costs.get(parent, math.nan) for parent in lessons(run))


def metrics(store: Store) -> dict[str, MetricInfo]:
    """All metrics in the database, with what they declare: those that every run has, then the others by name.

    Where runs disagree on a declaration the newest run's holds.
    """
    table = schema.declarations
    with store.read() as connection:
        rows = connection.execute(select(table).where(table.c.name.not_in(METRICS)).order_by(table.c.id)).all()
        infos = {row.id: MetricInfo(*row[1:]) for row in rows}
        unlike = Counter(info.name for info in infos.values())
        order = {id_: _newest_of(connection, id_) if unlike[info.name] > 1 else "" for id_, info in infos.items()}
    found = {infos[id_].name: infos[id_] for id_ in sorted(infos, key=order.__getitem__)}
    return {**METRICS, **{name: found[name] for name in sorted(found)}}


def _newest_of(connection: Connection, declaration: str) -> str:
    """When the newest run that declared a metric so was finished."""
    values = schema.metrics.c
    query = select(func.max(schema.runs.c.finished)).join(schema.metrics).where(values.declaration == declaration)
    return connection.execute(query).scalar() or ""


def _integer(name: str, value: str | int) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise ValueError(f"a {name} is a number, not '{value}'") from error


def cells(store: Store) -> dict[str, list[Any]]:
    """The values that occur of each filter: what there is to choose from."""
    with store.read() as connection:
        found = {name: distinct(connection, schema.runs.c[name]) for name in FILTERS}
    return {name: sorted(value for value in values if value != "") for name, values in found.items()}


def rows_in_brief(store: Store, metric: str = HEADLINE) -> pd.DataFrame:
    """The rows of a leaderboard without numbers: what there is to filter by, together. No order.

    Returns:
        Columns dataset, evaluation, method, student, stride, recipe and seeds, how many runs are behind a row.
    """
    names = ("dataset", "evaluation", "method", "student", "stride", "recipe", "seeds")
    return read_rows(store, metric, [], [FIXED[name] for name in names], beside=())


def measured(store: Store) -> list[tuple[str, str, str]]:
    """(data set, evaluation, metric) of the leaderboards that there are."""
    c = schema.board.c
    query = select(c.dataset, c.evaluation, c.metric).distinct()
    with store.read() as connection:
        return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def kinds(store: Store) -> list[str]:
    """The kinds of runs that there are."""
    with store.read() as connection:
        return distinct(connection, schema.runs.c.kind)


def distinct(connection: Connection, column: ColumnElement[Any]) -> list[Any]:
    """The values of a column that has an index, without reading every row: from each to the next."""
    steps = select(func.min(column).label("value")).cte("steps", recursive=True)
    following = select(func.min(column)).where(column > steps.c.value).scalar_subquery()
    steps = steps.union_all(select(following).where(steps.c.value.is_not(None)))
    return list(connection.execute(select(steps.c.value).where(steps.c.value.is_not(None))).scalars())


def match_filters(known: Mapping[str, Sequence[Any]], asked: Mapping[str, Iterable[str]]) -> dict[str, list[Any]]:
    """Filters from what people type: a value, or a part of it that is theirs alone.

    `mobilenetv2_100` means every student of that encoder, `quick` every recipe of that name whatever its digest.

    Args:
        known: as `cells` gives it.
        asked: column -> words.

    Raises:
        ValueError: a word fits no value; the sentence names what comes near.
    """
    filters: dict[str, list[Any]] = {}
    for name, words in asked.items():
        values = [str(value) for value in known.get(name, ())]
        for word in words:
            # As it is; in front of a digest, parameters or a head; anywhere. Not so methods: `ka` is no `ka-adapt`.
            exact = [v for v in values if v == word.removeprefix("@") or v == word]
            named = [v for v in values if re.match(re.escape(word) + r"[-\[/@]", v)] if name != "method" else []
            inside = [v for v in values if word in v] if name in ("student", "teacher") else []
            fit = exact or named or inside
            if not fit:
                near = difflib.get_close_matches(word, values, n=3, cutoff=0.4) or values[:8]
                hint = f": there are {', '.join(near)}" if near else ""
                raise ValueError(f"no run has the {name} '{word}'{hint}")
            filters.setdefault(name, []).extend(fit)
    return filters


def per_class(store: Store, keys: Sequence[str]) -> pd.DataFrame:
    """IoU of each class, one row a class in the data set's order: class, mean over the runs, and each run's."""
    table = schema.class_iou
    query = select(table).where(table.c.key.in_(keys)).order_by(table.c.position)
    with store.read() as connection:
        rows = connection.execute(query).mappings().all()
    frame = pd.DataFrame(rows, columns=["key", "position", "class", "iou"])
    frame["iou"] = frame["iou"].astype(float)
    wide = frame.pivot_table(index=["position", "class"], columns="key", values="iou", dropna=False)
    wide = wide[wide.index.isin(frame.set_index(["position", "class"]).index)]
    wide.insert(0, "iou", wide.mean(axis=1))
    return wide.reset_index().drop(columns="position").rename_axis(columns=None)


States = dict[str, tuple[tuple[str, ...], NDArray[Any]]]
"""Key of a run -> names of its images, and (N, P, G) states."""


def image_class_counts(store: Store, keys: Iterable[str]) -> States:
    """Key -> (image names, (N, 3, K) class counts), for the runs whose per-image confusion matrices were kept."""
    table = schema.class_counts
    found: States = {}
    for row in _of_keys(store, select(table), table, keys):
        names = tuple(json.loads(row.names))
        counts = np.frombuffer(zlib.decompress(row.counts), dtype="<u4").astype(np.int64)
        found[row.key] = names, counts.reshape(len(names), 3, row.classes)
    return found


def image_states(store: Store, keys: Iterable[str], metric: str = HEADLINE) -> States:
    """Key -> (image names, (N, P, G) states) of a metric, where they were kept, for `results.metrics.score_of`."""
    if metric in COUNT_METRICS:
        return image_class_counts(store, keys)
    table, names_table = schema.metric_states, schema.class_counts
    query = select(table, names_table.c.names).join(names_table, table.c.key == names_table.c.key)
    found: States = {}
    for row in _of_keys(store, query.where(table.c.name == metric), table, keys):
        names = tuple(json.loads(row.names))
        states = np.frombuffer(zlib.decompress(row.states), dtype="<f8")
        found[row.key] = names, states.reshape(len(names), row.parts, -1)
    return found


def metrics_kept(store: Store, keys: Sequence[str]) -> set[str]:
    """The metrics whose states were kept for each of some runs; those of `COUNT_METRICS` have none of their own."""
    table = schema.metric_states
    found = Counter(row.name for row in _of_keys(store, select(table.c.name), table, set(keys)))
    return {name for name, runs in found.items() if runs == len(set(keys))}


def _of_keys(store: Store, query: Select[Any], table: Table, keys: Iterable[str]) -> Iterator[Any]:
    """The rows of some runs, asked for a few hundred at a time."""
    wanted = list(keys)
    with store.read() as connection:
        for start in range(0, len(wanted), 500):
            yield from connection.execute(query.where(table.c.key.in_(wanted[start : start + 500])))


# -------------------------------------------------------------------------------------------------- one run


@dataclass(frozen=True)
class Run:
    """All that is known of one run.

    Attributes:
        row: its row of the `runs` table, and its metrics by name.
        record: the record itself.
        metrics: the columns of its metrics, by name.
        parents: role -> (key, name); the name is empty for parents that were not collected.
    """

    row: dict[str, Any]
    record: Record
    metrics: dict[str, Column]
    parents: dict[str, tuple[str, str]]


def run(store: Store, *words: str) -> Run:
    """The run that is meant: by the beginning of its key, or by words of its cell.

    Words are values of the cell (`ka shapes 16`, `@16`, a part of the student's name) or name one (`seed=0`).

    Raises:
        ValueError: nothing fits, or more than one does; the sentence names what comes near.
    """
    if not words:
        raise ValueError("name a run: the beginning of its key, or words of its cell such as ka @16 seed=0")
    r = schema.runs.c
    with store.read() as connection:
        if connection.execute(select(r.key).limit(1)).scalar() is None:
            raise ValueError(f"{store.name} holds no runs yet: run harness collect")
        found = _of_prefix(connection, words[0].lower()) if len(words) == 1 else []
        if not found:
            wanted = [_meant(connection, word) for word in words]
            newest = select(r.key, r.name).where(*wanted).order_by(r.finished.desc(), r.key)
            found = [tuple(row) for row in connection.execute(newest)]
        if len(found) != 1:
            raise ValueError(_not_one(connection, found, words))
    return _load(store, found[0][0])


def _of_prefix(connection: Connection, prefix: str) -> list[tuple[Any, ...]]:
    """Key and name of the runs whose key begins so."""
    r = schema.runs.c
    if len(prefix) < SHORTEST_PREFIX:
        return []
    query = select(r.key, r.name).where(r.key.startswith(prefix, autoescape=True)).order_by(r.finished.desc(), r.key)
    return [tuple(row) for row in connection.execute(query)]


def _meant(connection: Connection, word: str) -> ColumnElement[bool]:
    """Which runs a word fits.

    Raises:
        ValueError: it names a field that does not exist.
    """
    r = schema.runs.c
    name, equals, value = word.partition("=")
    if equals and name.isidentifier() and "[" not in name:
        if name not in FILTERS and name not in ("kind", "host", "key"):
            raise ValueError(f"there is no field '{name}': {', '.join(FILTERS)}")
        if name in ("stride", "seed"):
            return r[name] == int(value) if value.isdecimal() else false()
        return func.coalesce(r[name], "") == value if name in FILTERS and value == "" else r[name] == value
    text = word.lower()
    if text.removeprefix("@").isdecimal():
        return r.stride == int(text.removeprefix("@"))
    there = {
        name: distinct(connection, r[name]) for name in ("method", "dataset", "student", "teacher", "recipe", "kind")
    }
    exact = {name: alike for name, values in there.items() if (alike := [v for v in values if v.lower() == text])}
    part = [student for student in there["student"] if text in student.lower()]
    return or_(*(r[name].in_(values) for name, values in exact.items())) if exact else r.student.in_(part)


def _not_one(connection: Connection, found: Sequence[tuple[Any, ...]], words: Sequence[str]) -> str:
    """Why the words mean no single run."""
    said = " ".join(words)
    if found:
        some = "; ".join(f"{key[:8]} {name}" for key, name in found[:5])
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        return f"'{said}' means {len(found)} runs: {some}{more}"
    known = [
        v for name in ("method", "student", "dataset", "recipe") for v in distinct(connection, schema.runs.c[name])
    ]
    near = [w for word in words for w in difflib.get_close_matches(word, known, n=3, cutoff=0.5)]
    return f"there is no run '{said}'" + (f": did you mean {' or '.join(near)}?" if near else "")


def children(store: Store, key: str) -> list[tuple[str, str]]:
    """(key, name) of the runs that learned from a run, newest first."""
    table = schema.runs
    query = select(table.c.key, table.c.name, table.c.parents).where(table.c.parents.contains(key, autoescape=True))
    with store.read() as connection:
        rows = connection.execute(query.order_by(table.c.finished.desc(), table.c.key)).all()
    return [(row.key, row.name) for row in rows if key in row.parents.split(",")]


def _load(store: Store, key: str) -> Run:
    table, values, declared = schema.runs, schema.metrics, schema.declarations
    with store.read() as connection:
        row = dict(connection.execute(select(table).where(table.c.key == key)).mappings().one())
        record = read_records(connection, [key])[key]
        scores = select(values.c.value, declared).join(declared, values.c.declaration == declared.c.id)
        found = {info[2]: info for info in connection.execute(scores.where(values.c.key == key))}
        query = select(table.c.key, table.c.name).where(table.c.key.in_(record.parents.values()))
        names = {parent.key: parent.name for parent in connection.execute(query)}
    parents = {role: (parent, names.get(parent, "")) for role, parent in record.parents.items()}
    order = [name for name in METRICS if name in found] + sorted(found.keys() - METRICS.keys())
    row |= {name: found[name][0] for name in order}
    return Run(row, record, {name: metric_column(MetricInfo(*found[name][2:])) for name in order}, parents)


def read_records(connection: Connection, keys: Iterable[str]) -> dict[str, Record]:
    """The records of some runs, by key."""
    table = schema.records
    rows = connection.execute(select(table.c.key, table.c.record).where(table.c.key.in_(list(keys))))
    return {row.key: Record.model_validate_json(zlib.decompress(row.record)) for row in rows}
