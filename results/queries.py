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
from sqlalchemy import Select, Table, func, select

from results import store as schema
from results.columns import METRICS, STORED, Column, metric_column
from results.metrics import COUNT_METRICS, HEADLINE, MetricInfo
from results.record import Record
from results.store import Store

CELL = ("method", "student", "stride", "teacher", "dataset", "recipe", "weights")
"""What names a row of the leaderboard: a cell without its seed."""
ROW = (*CELL, "evaluation", "manifest", "variant")
"""What makes runs one row: equal words, and equal in what words leave out."""
SETTING = ("dataset", "evaluation", "student", "stride", "recipe", "weights", "manifest")
"""What a run and the `none` it is compared with have in common."""
FILTERS = (*CELL, "evaluation", "seed")

SHORTEST_PREFIX = 4
"""Fewer characters than this are never taken for the beginning of a key: `16` is a stride."""

Filters = Mapping[str, Iterable[str | int]]


# ------------------------------------------------------------------------------------------------ plain rows


def runs(store: Store, filters: Filters | None = None) -> pd.DataFrame:
    """One row a run, newest first: the columns of the `runs` table without the record's text, `attempts`, and a
    column a metric.

    Args:
        filters: column -> accepted values; a column that is not named, or names nothing, lets everything pass.

    Raises:
        ValueError: a filter's column does not exist.
    """
    table = schema.runs
    shown = [column for column in table.c if column.name not in schema.NOT_SHOWN]
    query = select(*shown).order_by(table.c.finished.desc(), table.c.key)
    for name, accepted in (filters or {}).items():
        if name not in FILTERS:
            raise ValueError(f"there is no filter '{name}': {', '.join(FILTERS)}")
        if accepted_values := list(accepted):
            number = name in ("stride", "seed")
            wanted = [_integer(name, v) for v in accepted_values] if number else accepted_values
            query = query.where(table.c[name].in_(wanted))
    attempts = select(schema.attempts.c.key, schema.attempts.c.number)
    values = select(schema.metrics.c.key, schema.metrics.c.name, schema.metrics.c.value)
    with store.read() as connection:
        frame = pd.DataFrame(connection.execute(query).mappings().all(), columns=[c.name for c in shown])
        counts = pd.DataFrame(connection.execute(attempts).mappings().all(), columns=["key", "number"])
        scores = pd.DataFrame(connection.execute(values).mappings().all(), columns=["key", "name", "value"])
    frame["training_s"] = frame["key"].map(_training_costs(store)).astype(float)
    frame["attempts"] = frame["key"].map(counts.groupby("key").size()).fillna(0).astype(int)
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


def _training_costs(store: Store) -> dict[str, float]:
    """Key -> seconds that a run's training cost, with its part of what its parents' did; NaN if a parent is missing.

    A parent is shared by all students in the database that learned from it, whatever is shown.
    """
    table = schema.runs
    query = select(table.c.key, table.c.kind, table.c.parents, table.c.paid_s, table.c.seconds)
    with store.read() as connection:
        rows = {row.key: row for row in connection.execute(query)}
    said = {key: row.seconds if row.paid_s is None else row.paid_s for key, row in rows.items()}
    own = {key: math.nan if seconds is None else float(seconds) for key, seconds in said.items()}
    parents = {key: [parent for parent in row.parents.split(",") if parent] for key, row in rows.items()}
    students = Counter(parent for key, names in parents.items() if rows[key].kind == "student" for parent in names)

    def shared(key: str) -> float:
        learned_from = parents[key] if rows[key].kind == "student" else []
        return sum(own.get(parent, math.nan) / students[parent] for parent in learned_from)

    return {key: own[key] + shared(key) for key in rows}


def metrics(store: Store) -> dict[str, MetricInfo]:
    """All metrics in the database, with what they declare: those that every run has, then the others by name.

    Where runs disagree on a declaration the newest run's holds.
    """
    table = schema.metrics
    declared = [column for column in table.c if column.name not in ("key", "value")]
    newest = func.max(schema.runs.c.finished)
    query = select(*declared, newest).join(schema.runs).group_by(*declared).order_by(newest, *declared)
    with store.read() as connection:
        rows = connection.execute(query.where(table.c.name.not_in(METRICS))).all()
    found = {row.name: MetricInfo(*(row._mapping[column.name] for column in declared)) for row in rows}
    return {**METRICS, **{name: found[name] for name in sorted(found)}}


def _integer(name: str, value: str | int) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise ValueError(f"a {name} is a number, not '{value}'") from error


def cells(store: Store) -> dict[str, list[Any]]:
    """The values that occur of each filter: what there is to choose from."""
    found: dict[str, list[Any]] = {}
    with store.read() as connection:
        for name in FILTERS:
            column = schema.runs.c[name]
            values = connection.execute(select(column).distinct().where(column.is_not(None))).scalars()
            found[name] = sorted(value for value in values if value != "")
    return found


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
    frame = runs(store)
    if not len(frame):
        raise ValueError(f"{store.name} holds no runs yet: run harness collect")
    prefix = words[0].lower() if len(words) == 1 and len(words[0]) >= SHORTEST_PREFIX else "-"
    found = frame[frame["key"].str.startswith(prefix)]
    if not len(found):
        mask = pd.Series(True, index=frame.index)
        for word in words:
            mask &= _matches(frame, word)
        found = frame[mask]
    if len(found) != 1:
        raise ValueError(_not_one(frame, found, words))
    return _load(store, str(found.iloc[0]["key"]))


def _matches(frame: pd.DataFrame, word: str) -> pd.Series:
    """Which runs a word fits.

    Raises:
        ValueError: it names a field that does not exist.
    """
    name, equals, value = word.partition("=")
    if equals and name.isidentifier() and "[" not in name:
        if name not in FILTERS and name not in ("kind", "host", "key"):
            raise ValueError(f"there is no field '{name}': {', '.join(FILTERS)}")
        return frame[name].astype("string").fillna("") == value
    text = word.lower()
    if text.removeprefix("@").isdigit():
        return frame["stride"].eq(int(text.removeprefix("@"))).fillna(False)
    exact = pd.Series(False, index=frame.index)
    for column in ("method", "dataset", "student", "teacher", "recipe", "kind"):
        exact |= frame[column].astype("string").str.lower().fillna("") == text
    part = frame["student"].astype("string").str.lower().fillna("").str.contains(text, regex=False)
    return exact if exact.any() else part


def _not_one(frame: pd.DataFrame, found: pd.DataFrame, words: Sequence[str]) -> str:
    """Why the words mean no single run."""
    said = " ".join(words)
    if len(found) > 1:
        named = zip(found["key"].astype(str), found["name"].astype(str), strict=True)
        some = "; ".join([f"{key[:8]} {name}" for key, name in named][:5])
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        return f"'{said}' means {len(found)} runs: {some}{more}"
    known = {str(value) for name in ("key", "method", "student", "dataset", "name") for value in frame[name].dropna()}
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
    table = schema.runs
    with store.read() as connection:
        row = dict(connection.execute(select(table).where(table.c.key == key)).mappings().one())
        record = Record.model_validate_json(row.pop("record"))
        scores = select(schema.metrics).where(schema.metrics.c.key == key)
        found_metrics = {found["name"]: dict(found) for found in connection.execute(scores).mappings()}
        query = select(table.c.key, table.c.name).where(table.c.key.in_(record.parents.values()))
        names = {found.key: found.name for found in connection.execute(query)}
    parents = {role: (parent, names.get(parent, "")) for role, parent in record.parents.items()}
    order = [name for name in METRICS if name in found_metrics]
    order += sorted(found_metrics.keys() - METRICS.keys())
    row |= {name: found_metrics[name].pop("value") for name in order}
    declared = {name: MetricInfo(**{k: v for k, v in found_metrics[name].items() if k != "key"}) for name in order}
    return Run(row, record, {name: metric_column(info) for name, info in declared.items()}, parents)
