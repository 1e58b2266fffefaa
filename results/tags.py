"""Tags of runs beside the rows that the runs belong to. The tags themselves are in no database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from sqlalchemy import select

from results import store as schema
from results.board import among
from results.store import Store


@dataclass(frozen=True)
class Tagged:
    """The tags of what is in a database, in alphabetical order.

    Attributes:
        rows: row of the leaderboard -> those of its runs.
        datasets: data set -> those of its runs.
    """

    rows: dict[str, list[str]] = field(default_factory=dict)
    datasets: dict[str, list[str]] = field(default_factory=dict)


def tagged(store: Store, runs: Mapping[str, Sequence[str]]) -> Tagged:
    """The tags of rows and data sets.

    Args:
        runs: key of a run -> its tags.
    """
    r = schema.runs.c
    rows: dict[str, set[str]] = {}
    datasets: dict[str, set[str]] = {}
    with store.read() as connection:
        for key, row, dataset in connection.execute(select(r.key, r.row, r.dataset).where(among(store, r.key, runs))):
            rows.setdefault(row, set()).update(runs[key])
            datasets.setdefault(dataset, set()).update(runs[key])
    return Tagged(*({name: sorted(tags) for name, tags in found.items()} for found in (rows, datasets)))


def with_tags(frame: pd.DataFrame, tags: Mapping[str, Sequence[str]], by: str = "row") -> pd.DataFrame:
    """Rows of the leaderboard, or runs, with a column `tags`.

    Args:
        tags: row, or key of a run -> tags.
        by: the column that holds it: `row` or `key`.
    """
    texts = [", ".join(tags.get(name, ())) for name in frame[by]] if tags else [""] * len(frame)
    return frame.assign(tags=pd.Series(texts, index=frame.index, dtype=object))
