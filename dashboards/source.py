"""Where the pages' data come from: the database named in the environment, opened for reading only, cached."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from dashboards import tagging
from results import board as results_board
from results import brief, differences, queries
from results.leaderboard import leaderboard
from results.metrics import HEADLINE, MetricInfo
from results.naming import named_sides
from results.store import Store, open_store
from results.tags import Tagged
from results.tags import tagged as tags_in

DEFAULT_WORKSPACE = "runs"
FRESH_S = 15
"""A server's database is asked again after so long; a file is asked again when it has changed."""

T = TypeVar("T")


def workspace() -> Path:
    """The workspace, for sample pictures; it need not be there."""
    return Path(os.environ.get("HARNESS_WORKSPACE") or DEFAULT_WORKSPACE)


def database() -> str:
    """The database: a file or a URL."""
    return os.environ.get("HARNESS_DB") or str(workspace() / "results.db")


def shown_database() -> str:
    """The database's name without user and password."""
    return database().rsplit("@", 1)[-1]


def stamp(target: str) -> str:
    """Changes when the database has changed: the key of everything cached."""
    if "://" in target and not target.startswith("sqlite"):
        return str(int(time.time() / FRESH_S))
    try:
        found = Path(target.removeprefix("sqlite:///")).stat()
    except OSError:
        return ""
    return f"{found.st_mtime_ns}:{found.st_size}"


Frozen = tuple[tuple[str, tuple[Any, ...]], ...]


def freeze(filters: dict[str, list[Any]]) -> Frozen:
    """Filters as a key of the cache."""
    return tuple((name, tuple(values)) for name, values in sorted(filters.items()) if values)


@dataclass(frozen=True)
class Comparison:
    """Sides beside one another.

    Attributes:
        gaps: of all pairs, later ones minus earlier ones.
        differing: only what is not the same on all sides.
        classes: as `results.differences.class_gaps`.
    """

    sides: list[differences.Side]
    gaps: list[differences.Gap]
    differing: list[differences.Differing]
    classes: pd.DataFrame


def _comparison(store: Store, words: Sequence[str], metric: str) -> Comparison:
    sides = differences.load_sides(store, named_sides(store, words, metric))
    gaps = differences.gaps(store, sides, metric)
    return Comparison(sides, gaps, differences.differing(sides), differences.class_gaps(store, sides))


def _image_gaps(store: Store, words: Sequence[str], metric: str, ours: int, theirs: int) -> pd.DataFrame:
    sides = differences.load_sides(store, named_sides(store, words, metric))
    return differences.image_gaps(store, sides[ours], sides[theirs], metric)


def _runs_page(
    store: Store, kinds: Sequence[str], text: str, tags: tagging.Chosen, size: int, number: int
) -> pd.DataFrame:
    return queries.runs(store, {"kind": kinds}, size, size * (number - 1), text, tags.keys())


def _count_runs(store: Store, kinds: Sequence[str], text: str, tags: tagging.Chosen) -> int:
    return queries.count_runs(store, {"kind": kinds}, text, tags.keys())


def _label(store: Store, word: str) -> str:
    return next(iter(named_sides(store, [word])))


_QUESTIONS: dict[str, Callable[..., Any]] = {
    "cells": queries.cells,
    "metrics": queries.metrics,
    "rows_in_brief": queries.rows_in_brief,
    "measured": queries.measured,
    "kinds": queries.kinds,
    "runs": queries.runs,
    "runs_page": _runs_page,
    "count_runs": _count_runs,
    "per_class": queries.per_class,
    "run": queries.run,
    "children": queries.children,
    "comparison": _comparison,
    "image_gaps": _image_gaps,
    "label": _label,
}


@st.cache_data(max_entries=32, show_spinner="Reading the database ...")
def _ask(target: str, changed: str, question: str, *words: Any) -> Any:
    with open_store(target, readonly=True) as store:
        return _QUESTIONS[question](store, *words)


@st.cache_data(max_entries=4, show_spinner="Reading the database ...")
def _board(target: str, changed: str, filters: Frozen, tags: tagging.Chosen, metric: str) -> pd.DataFrame:
    """Some tens of megabytes where there are thousands of rows: few are kept."""
    with open_store(target, readonly=True) as store:
        return leaderboard(store, dict(filters), keys=tags.keys(), metric=metric, most_drawn=0)


@st.cache_data(max_entries=8, show_spinner="Reading the database ...")
def _brief(
    target: str, changed: str, filters: Frozen, tags: tagging.Chosen, metric: str, also: tuple[str, ...]
) -> pd.DataFrame:
    with open_store(target, readonly=True) as store:
        return brief.brief(store, dict(filters), metric, also, keys=tags.keys())


@st.cache_resource(max_entries=4, show_spinner="Reading the database ...")
def _tagged(target: str, changed: str, root: str, tags_changed: str) -> Tagged:
    runs = tagging.of_runs(Path(root))
    if not runs:
        return Tagged()
    with open_store(target, readonly=True) as store:
        return tags_in(store, runs)


def _asked(question: str, *words: Any) -> Any:
    target = database()
    return _ask(target, stamp(target), question, *words)


def choices() -> dict[str, list[Any]]:
    """What there is to filter by."""
    found: dict[str, list[Any]] = _asked("cells")
    return found


def metrics() -> dict[str, MetricInfo]:
    """What there is to rank by, as declared."""
    found: dict[str, MetricInfo] = _asked("metrics")
    return found


def board(filters: dict[str, list[Any]], metric: str = HEADLINE) -> pd.DataFrame:
    """The leaderboard, best first; what collecting had no time to draw stays empty (`attrs["pending"]`).

    Args:
        filters: column -> accepted values; `tag` -> tags, of which a row's runs must have one.
    """
    target = database()
    return _board(target, stamp(target), *_parted(filters), metric)


def joined(first: pd.DataFrame, *others: pd.DataFrame) -> pd.DataFrame:
    """The rows of several leaderboards, each once, with what the first says of all its rows."""
    rows = pd.concat([first, *others]).drop_duplicates("row", ignore_index=True)
    rows.attrs = first.attrs
    return rows


def brief_board(filters: dict[str, list[Any]], metric: str, also: Iterable[str] = ()) -> pd.DataFrame:
    """All rows of the leaderboard, best first, with the columns of `results.brief.BRIEF` and some more.

    Args:
        filters: as for `board`.
    """
    target = database()
    return _brief(target, stamp(target), *_parted(filters), metric, tuple(also))


def _parted(filters: dict[str, list[Any]]) -> tuple[Frozen, tagging.Chosen]:
    """What the database is asked, and the tags, of which it knows nothing."""
    columns = {name: values for name, values in filters.items() if name != "tag"}
    return freeze(columns), tagging.chosen(workspace(), tuple(filters.get("tag", ())))


def tagged() -> Tagged:
    """The tags of rows and data sets, which nobody may change."""
    target, root = database(), workspace()
    return _tagged(target, stamp(target), str(root), tagging.stamp(root))


def complete(rows: pd.DataFrame, everything: pd.DataFrame) -> pd.DataFrame:
    """Some rows of a brief leaderboard with all columns."""
    with open_store(database(), readonly=True) as store:
        return brief.complete(store, rows, everything)


def all_hidden(metric: str, keys: Iterable[str]) -> set[str]:
    """The rows of the leaderboard all of whose runs are among those that are hidden."""
    with open_store(database(), readonly=True) as store:
        return results_board.all_hidden(store, metric, set(keys))


def rows_in_brief() -> pd.DataFrame:
    """The rows of the leaderboard without numbers: what there is to filter by, together."""
    found: pd.DataFrame = _asked("rows_in_brief")
    return found


def measured(datasets: Iterable[str], evaluations: Iterable[str]) -> list[str]:
    """The metrics that runs of some data sets, evaluated in some ways, were scored by."""
    found: list[tuple[str, str, str]] = _asked("measured")
    there = {name for dataset, way, name in found if dataset in set(datasets) and way in set(evaluations)}
    return [name for name in metrics() if name in there]


def kinds() -> list[str]:
    """The kinds of runs that there are."""
    found: list[str] = _asked("kinds")
    return found


PAGE = 200
"""Rows of a page of a table."""


def count_runs(kinds: Sequence[str], text: str, tags: Sequence[str] = ()) -> int:
    """How many runs there are of some kinds and with any of some tags (of all, if none is named), whose columns hold a
    text."""
    return int(_asked("count_runs", tuple(kinds), text, tagging.chosen(workspace(), tuple(tags))))


def runs_page(kinds: Sequence[str], text: str, number: int, tags: Sequence[str] = ()) -> pd.DataFrame:
    """A page of them, newest first; the first page is number 1."""
    found: pd.DataFrame = _asked(
        "runs_page", tuple(kinds), text, tagging.chosen(workspace(), tuple(tags)), PAGE, number
    )
    return found


def runs_of(keys: Sequence[str]) -> pd.DataFrame:
    """Some runs by their keys, newest first."""
    found: pd.DataFrame = _asked("runs", None, None, 0, "", tuple(keys))
    return found


def per_class(keys: list[str]) -> pd.DataFrame:
    """IoU by class of some runs."""
    found: pd.DataFrame = _asked("per_class", tuple(keys))
    return found


def run(*words: str) -> queries.Run:
    """All that is known of a run: by its key, the beginning of it, or words of its cell."""
    found: queries.Run = _asked("run", *words)
    return found


def children(key: str) -> list[tuple[str, str]]:
    """Key and name of the runs that learned from a run; none where there is no database."""
    try:
        found: list[tuple[str, str]] = _asked("children", key)
    except ValueError:
        return []
    return found


def comparison(words: Sequence[str], metric: str) -> Comparison:
    """Two to six runs or rows, each called by its key or by words, beside one another.

    Raises:
        ValueError: one of them means nothing, or several; or there are too many or too few.
    """
    found: Comparison = _asked("comparison", tuple(words), metric)
    return found


def label(word: str) -> str:
    """How a run or row is called in a comparison; the word itself where it means none."""
    try:
        return str(_asked("label", word))
    except ValueError:
        return word


def image_gaps(words: Sequence[str], metric: str, ours: int, theirs: int) -> pd.DataFrame:
    """On which images two of the sides of a comparison differ most, as `results.differences.image_gaps`."""
    found: pd.DataFrame = _asked("image_gaps", tuple(words), metric, ours, theirs)
    return found


def prepare() -> None:
    """Ask what the first page asks before anybody has chosen anything, so that the answers are there.

    Raises:
        ValueError: there is no database.
    """
    rows = rows_in_brief()
    if not (choices()["method"] and metrics() and len(rows)):
        return
    wanted: dict[str, list[Any]] = {"dataset": most_runs_first(rows, "dataset")[:1]}
    ways = most_runs_first(rows[rows["dataset"].isin(wanted["dataset"])], "evaluation")
    brief_board(wanted | ({"evaluation": ways[:1]} if len(ways) > 1 else {}), HEADLINE)


def most_runs_first(rows: pd.DataFrame, name: str) -> list[str]:
    """The values of a column of rows in brief, those with most runs first."""
    return list(rows.groupby(name)["seeds"].sum().sort_values(ascending=False, kind="stable").index)


def ready() -> bool:
    """Whether there is anything to show; if not, the page says what to do."""
    try:
        empty = not choices()["method"]
    except ValueError as error:
        st.info(f"**Nothing to show yet.** {error}", icon=":material/database_off:")
        _first_steps()
        return False
    if empty:
        st.info(f"**No finished run yet** in `{shown_database()}`.", icon=":material/hourglass_empty:")
        _first_steps()
        return False
    return True


def _first_steps() -> None:
    st.markdown("Train something, and the leaderboard fills itself:")
    st.code("harness sweep --methods none,kd,ka --strides 8,16,32", language="bash")
    st.markdown("Or, when the runs are there already, collect them:")
    st.code(f"harness collect --workspace {workspace()}", language="bash")
