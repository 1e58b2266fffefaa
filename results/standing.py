"""How the rows of a leaderboard stand to one another: tiers, and the share of the teacher's lead.

A *family* is the rows of one setting (data, student, stride, recipe, initial weights). Tiers are computed over the
whole family, whatever part of it is shown. Rows that were evaluated on different images than most are left out, since
they cannot be compared.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.compare import Metric, Resampled, difference, gap_closed, resample, tiers
from results.metrics import MetricInfo, score_of
from results.queries import States, image_states
from results.statistics import Estimate
from results.store import Store

RESAMPLES = 1000
"""Of a row: enough for a standard error to within 3 %, and quick enough for every row of a board."""
UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0, "none")
"""Nothing can be said."""


@dataclass(frozen=True)
class Member:
    """A row of the leaderboard, as far as its standing needs it.

    Attributes:
        row: its key.
        family: the setting that it shares with what it is compared with.
        runs: seed -> key of the run.
        evaluation: how it was evaluated; a teacher that was evaluated otherwise is no measure.
        parents: keys of the stages that its runs learned from.
    """

    row: str
    family: tuple[Any, ...]
    method: str
    runs: Mapping[int, str]
    evaluation: str = ""
    parents: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Standing:
    """How a row stands.

    Attributes:
        tier: 1 for the best of its family and all that cannot be told from it; None where it cannot be said.
        gap: share of the teacher's lead over `none` that the method closes; NaN where there is no lead.
        ahead: whether the teacher is clearly ahead of `none`; None where it cannot be said.
    """

    tier: int | None = None
    gap: Estimate = UNKNOWN
    ahead: bool | None = None


def standings(
    store: Store, members: Sequence[Member], families: Iterable[tuple[Any, ...]], metric: MetricInfo
) -> dict[str, Standing]:
    """Row -> how it stands, of every row of some families. One family after the other is read.

    Args:
        members: all rows of the database, teachers included.
    """
    teachers = {key: member for member in members if member.method == "teacher" for key in member.runs.values()}
    by_family: dict[tuple[Any, ...], list[Member]] = defaultdict(list)
    for member in members:
        if member.method != "teacher":
            by_family[member.family].append(member)
    found: dict[str, Standing] = {}
    for family in dict.fromkeys(families):
        rows = by_family.get(family, [])
        taught_by = {
            row.row: teachers[key]
            for row in rows
            for key in sorted(row.parents)
            if key in teachers and teachers[key].evaluation == row.evaluation
        }
        states = image_states(store, keys_of([*rows, *taught_by.values()]), metric.name)
        found |= family_standing(rows, taught_by, states, metric)
    return found


def keys_of(members: Iterable[Member]) -> list[str]:
    """The runs behind some rows, each once."""
    return list(dict.fromkeys(key for member in members for key in member.runs.values()))


def family_standing(
    rows: Sequence[Member], taught_by: Mapping[str, Member], states: States, metric: MetricInfo
) -> dict[str, Standing]:
    """Row -> how it stands within one family.

    Args:
        rows: the whole family, without teachers.
        taught_by: row -> the row of its teacher, where that is known.
        states: what was kept of the images, of all runs of these rows and teachers.
    """
    known = resampled([*rows, *{t.row: t for t in taught_by.values()}.values()], states, metric)
    ranked = [row for row in rows if row.row in known and len(row.runs) > 1]
    tier = dict(zip((r.row for r in ranked), tiers([known[r.row] for r in ranked]))) if len(ranked) > 1 else {}
    baseline = next((known[row.row] for row in rows if row.method == "none" and row.row in known), None)
    found = {}
    for row in rows:
        gap, ahead = UNKNOWN, None
        teacher = taught_by.get(row.row)
        if baseline and teacher and teacher.row in known and row.row in known and row.method != "none":
            gap = gap_closed(known[row.row], baseline, known[teacher.row])
            ahead = difference(known[teacher.row], baseline).low > 0
        found[row.row] = Standing(tier.get(row.row), gap, ahead)
    return found


# --------------------------------------------------------------------------------------- resampled rows


def resampled(
    members: Sequence[Member], states: States, metric: MetricInfo, resamples: int = RESAMPLES
) -> dict[str, Resampled]:
    """Row -> its networks on resampled images, more being better whatever the metric's direction.

    Only rows whose runs all kept what adds up over images, and of these the ones that were evaluated on the images
    that most rows were.
    """
    score = score_of(metric.name)
    better: Metric = score if metric.direction == "higher" else lambda totals: -score(totals)
    together = _on_the_same_images(members, states)
    return {
        member.row: resample({seed: states[key][1] for seed, key in member.runs.items()}, better, resamples)
        for member in together
    }


def _on_the_same_images(members: Iterable[Member], states: States) -> list[Member]:
    images: dict[str, Any] = {}
    for member in members:
        seen = {(states[key][0], states[key][1].shape) if key in states else None for key in member.runs.values()}
        if len(seen) == 1 and None not in seen:
            images[member.row] = seen.pop()
    if not images:
        return []
    usual, _ = max(Counter(images.values()).items(), key=lambda pair: (pair[1], len(pair[0][0])))
    return [member for member in members if images.get(member.row) == usual]
