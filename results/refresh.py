"""Computing the leaderboard's rows that are stale: the last thing that collecting does."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, or_, select

from results import store as schema
from results.board import drop_families, runs_of, stale_families, write_rows
from results.metrics import HEADLINE
from results.queries import metrics
from results.rows import drawn_rows, undrawn_rows
from results.store import Store

AT_ONCE = 16
"""Families whose rows are computed in one transaction."""
PATIENCE_S = 20.0
"""So long tiers and intervals are drawn from images; what is left is drawn the next time."""


def refresh(store: Store, patience_s: float = PATIENCE_S) -> int:
    """Compute the rows of stale families, then draw what rests on images (tiers, intervals), as far as time allows.

    Returns:
        How many rows are not drawn.

    Raises:
        ValueError: the store is read-only.
    """
    with store.write() as connection:
        used = select(schema.metrics.c.declaration).where(schema.metrics.c.declaration == schema.declarations.c.id)
        connection.execute(delete(schema.declarations).where(~used.exists()))
    while _refresh_some(store):
        pass
    deadline = time.monotonic() + patience_s
    for metric, family in _pending(store):
        if time.monotonic() > deadline:
            break
        _draw(store, metric, family)
    with store.read() as connection:
        left = select(func.count()).select_from(schema.board).where(schema.board.c.pending)
        return int(connection.execute(left).scalar_one())


def _refresh_some(store: Store) -> bool:
    """Whether there were stale families."""
    known = metrics(store)
    with store.write() as connection:
        families = stale_families(connection, AT_ONCE)
        if not families:
            return False
        runs = runs_of(connection, schema.runs.c.family.in_(families))
        drop_families(connection, families)
        for metric, rows in undrawn_rows(runs, known).items():
            write_rows(connection, metric, rows)
    return True


def _pending(store: Store) -> Sequence[tuple[str, str]]:
    """Metric and family of rows that are not drawn; the headline metric's come first."""
    c = schema.board.c
    query = select(c.metric, c.family).where(c.pending).distinct()
    with store.read() as connection:
        found = [(str(metric), str(family)) for metric, family in connection.execute(query)]
    return sorted(found, key=lambda pair: (pair[0] != HEADLINE, pair))


def _draw(store: Store, metric: str, family: str) -> None:
    """Draw the rows of a family, and write them if what they rest on has not changed meanwhile."""
    with store.read() as connection:
        before = _content(connection, family)
    rows = drawn_rows(store, [family], metrics(store), metric)
    with store.write() as connection:
        if before == _content(connection, family):
            c = schema.board.c
            connection.execute(delete(schema.board).where(c.metric == metric, c.family == family))
            write_rows(connection, metric, rows)


def _content(connection: Connection, family: str) -> set[tuple[str, ...]]:
    """What the runs of a family, and those that they learned from, look like from outside."""
    r, parents = schema.runs.c, schema.parents.c
    taught_by = select(parents.parent).join(schema.runs, r.key == parents.key).where(r.family == family)
    query = select(r.key, r.stamp, r.confusion_stamp).where(or_(r.family == family, r.key.in_(taught_by)))
    return {(row[0], row[1], row[2]) for row in connection.execute(query)}
