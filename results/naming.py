"""Runs and rows of the leaderboard by what people call them: the beginning of a key, or words of a cell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import func, select

from results import store as schema
from results.leaderboard import leaderboard
from results.metrics import HEADLINE
from results.queries import FILTERS, SHORTEST_PREFIX, cells, match_filters, run
from results.store import Store

LOOKED_IN = ("method", "dataset", "student", "teacher", "recipe")
"""Where a word that names no column is looked for, the first that knows it is meant."""
_KEY = re.compile(rf"[0-9a-f]{{{SHORTEST_PREFIX},}}")


def named_sides(store: Store, arguments: Sequence[str], metric: str = HEADLINE) -> dict[str, list[str]]:
    """Label -> keys of its runs, of every run or row that is named, in order; no two labels are the same.

    An argument is the beginning of a run's key, the beginning of a row's key, or words of a cell that are one row's:
    `ka @16`, `none shapes stride=16`; with `seed=0` one run of it.

    Raises:
        ValueError: an argument means nothing, or several rows; the sentence names them.
    """
    known = cells(store)
    sides: dict[str, list[str]] = {}
    for argument in arguments:
        label, keys = _of_key(store, argument, metric) or _of_words(store, argument, known, metric)
        while label in sides:
            label = f"{label} ({keys[0][:8]})" if f"{label} ({keys[0][:8]})" not in sides else f"{label}'"
        sides[label] = keys
    return sides


def _of_key(store: Store, argument: str, metric: str) -> tuple[str, list[str]] | None:
    """The run, or the row, whose key begins so; None where there is none, or the argument is no key."""
    if not _KEY.fullmatch(argument.lower()):
        return None
    try:
        found = run(store, argument)
    except ValueError as error:
        if "means" in str(error):
            raise
    else:
        if found.record.key.startswith(argument.lower()):
            return found.record.name, [found.record.key]
    r = schema.runs.c
    with store.read() as connection:
        query = select(r.row, func.min(r.key)).where(r.row.startswith(argument.lower(), autoescape=True))
        meant = connection.execute(query.group_by(r.row).limit(2)).all()
    if len(meant) != 1:
        return None
    rows = leaderboard(store, keys=[meant[0][1]], metric=metric)
    return _side(rows.iloc[0]) if len(rows) == 1 else None


def _of_words(store: Store, argument: str, known: Mapping[str, Sequence[Any]], metric: str) -> tuple[str, list[str]]:
    filters = _filters(argument, known)
    rows = leaderboard(store, filters, metric=metric)
    if len(rows) == 1:
        label, keys = _side(rows.iloc[0])
        return (f"{label} seed {rows.iloc[0]['seed_list']}" if "seed" in filters else label), keys
    if not len(rows):
        raise ValueError(f"no row fits '{argument}'")
    some = [f"{row['row'][:8]} {_side(row)[0]} {row['dataset']} {row['recipe']}" for row in rows.to_dict("records")]
    more = f"; and {len(some) - 5} more" if len(some) > 5 else ""
    raise ValueError(f"'{argument}' means {len(some)} rows: {'; '.join(some[:5])}{more}")


def filters_of(store: Store, words: str) -> dict[str, list[Any]]:
    """What words of cells accept: `camvid @8` is a data set and a stride.

    Raises:
        ValueError: a word means nothing.
    """
    return _filters(words, cells(store))


def _filters(words: str, known: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    filters: dict[str, list[Any]] = {}
    for word in words.split():
        name, values = _filter(word, known)
        filters[name] = values if name not in filters else [value for value in filters[name] if value in values]
    return filters


def _filter(word: str, known: Mapping[str, Sequence[Any]]) -> tuple[str, list[Any]]:
    """The column that a word is about, and the values that it accepts.

    Raises:
        ValueError: no column knows it.
    """
    name, equals, value = word.partition("=")
    if equals and name in FILTERS:
        return name, match_filters(known, {name: [value]})[name]
    if word.removeprefix("@").isdecimal():
        return "stride", match_filters(known, {"stride": [word]})["stride"]
    for column in LOOKED_IN:
        try:
            return column, match_filters(known, {column: [word]})[column]
        except ValueError:
            continue
    methods = ", ".join(map(str, known.get("method", ())))
    raise ValueError(f"nothing is called '{word}': write a key, or words of a cell such as ka @16; methods: {methods}")


def _side(row: Mapping[Any, Any] | pd.Series) -> tuple[str, list[str]]:
    """Label and keys of a row of the leaderboard."""
    return f"{row['method']} {row['student']}@{row['stride']}", str(row["keys"]).split(",")
