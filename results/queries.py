"""Questions to the database, answered as data frames. Fractions and base units; `results.formats` shows them.

A *row of the leaderboard* is a cell without its seed. Runs count as one row when their words are equal and so are the
data's content, the method's version and the teacher: otherwise they stand apart, told from one another by `variant`.
"""

from __future__ import annotations

import difflib
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import select

from results import store as schema
from results.record import Record
from results.store import Store

CELL = ("method", "student", "stride", "teacher", "dataset", "recipe", "weights")
"""What names a row of the leaderboard: a cell without its seed."""
SETTING = ("dataset", "student", "stride", "recipe", "weights", "manifest")
"""What a run and the `none` it is compared with have in common."""
FILTERS = (*CELL, "seed")

SHORTEST_PREFIX = 4
"""Fewer characters than this are never taken for the beginning of a key: `16` is a stride."""

Filters = Mapping[str, Iterable[str | int]]


# ------------------------------------------------------------------------------------------------ plain rows


def runs(store: Store, filters: Filters | None = None) -> pd.DataFrame:
    """One row a run, newest first: the columns of the `runs` table without the record's text, and `attempts`.

    Args:
        filters: column -> accepted values; a column that is not named, or names nothing, lets everything pass.

    Raises:
        ValueError: a filter's column does not exist.
    """
    table = schema.runs
    columns = [column for column in table.c if column.name not in ("record", "stamp", "confusion_stamp")]
    query = select(*columns).order_by(table.c.finished.desc(), table.c.key)
    for name, accepted in (filters or {}).items():
        if name not in FILTERS:
            raise ValueError(f"there is no filter '{name}': {', '.join(FILTERS)}")
        if values := list(accepted):
            number = name in ("stride", "seed")
            query = query.where(table.c[name].in_([_integer(name, v) for v in values] if number else values))
    attempts = select(schema.attempts.c.key, schema.attempts.c.number)
    with store.read() as connection:
        frame = pd.DataFrame(connection.execute(query).mappings().all(), columns=[c.name for c in columns])
        counts = pd.DataFrame(connection.execute(attempts).mappings().all(), columns=["key", "number"])
    frame["attempts"] = frame["key"].map(counts.groupby("key").size()).fillna(0).astype(int)
    for name in ("stride", "seed"):
        frame[name] = frame[name].astype("Int64")
    numbers = ("miou", "pixel_accuracy", "best_miou", "macs", "parameters", "latency_ms", "latency_p95_ms", "step_ms")
    for name in (*numbers, "seconds", "loss_first", "loss_last", "peak_memory_bytes"):
        frame[name] = frame[name].astype(float)
    return frame


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


def image_class_counts(store: Store, keys: Iterable[str]) -> dict[str, tuple[tuple[str, ...], NDArray[np.int64]]]:
    """Key -> (image names, (N, 3, K) class_counts), for the runs whose per-image confusion matrices were kept."""
    table = schema.class_counts
    found: dict[str, tuple[tuple[str, ...], NDArray[np.int64]]] = {}
    wanted = list(keys)
    with store.read() as connection:
        for start in range(0, len(wanted), 500):
            for row in connection.execute(select(table).where(table.c.key.in_(wanted[start : start + 500]))):
                names = tuple(json.loads(row.names))
                counts = np.frombuffer(zlib.decompress(row.counts), dtype="<u4").astype(np.int64)
                found[row.key] = names, counts.reshape(len(names), 3, row.classes)
    return found


# ---------------------------------------------------------------------------------------------- leaderboard


# -------------------------------------------------------------------------------------------------- one run


@dataclass(frozen=True)
class Run:
    """All that is known of one run.

    Attributes:
        row: its row of the `runs` table.
        record: the record itself.
        parents: role -> (key, name); the name is empty for parents that were not collected.
    """

    row: dict[str, Any]
    record: Record
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


def _load(store: Store, key: str) -> Run:
    table = schema.runs
    with store.read() as connection:
        row = dict(connection.execute(select(table).where(table.c.key == key)).mappings().one())
        record = Record.model_validate_json(row.pop("record"))
        query = select(table.c.key, table.c.name).where(table.c.key.in_(record.parents.values()))
        names = {found.key: found.name for found in connection.execute(query)}
    parents = {role: (parent, names.get(parent, "")) for role, parent in record.parents.items()}
    return Run(row, record, parents)
