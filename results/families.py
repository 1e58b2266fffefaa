"""A method against another over many settings: data sets, students, strides (Agarwal et al., NeurIPS 2021).

Scores of unlike settings are not averaged as they are: a run's score is counted from the mean of the other method in
the same setting, and the middle half of all runs is averaged (the interquartile mean, IQM). The probability of
improvement is the chance that a run of the one beats a run of the other in the same setting, averaged over settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd
from sqlalchemy import select

from results import store as schema
from results.board import in_parts
from results.compare import interquartile_gain, probability_of_improvement
from results.metrics import HEADLINE, MetricInfo
from results.queries import SETTING, Filters, matching, metrics
from results.statistics import Estimate
from results.store import Store

EVEN = 0.5
"""The probability of improvement of two methods that are equally good."""


@dataclass(frozen=True)
class FamilyGap:
    """How a method does against another over the settings in which both were trained.

    Attributes:
        ours, theirs: expressions of the methods.
        settings: how many settings it rests on: those in which both have two seeds or more.
        left_out: settings in which one of the two has a single seed.
        improvement: the chance that a run of ours beats one of theirs in the same setting, with interval.
        gain: IQM of ours, counted from the mean of theirs in each setting, in the metric's base unit; positive is
            better, whatever the metric's direction.
    """

    ours: str
    theirs: str
    settings: int
    left_out: int
    improvement: Estimate
    gain: Estimate

    @property
    def verdict(self) -> str:
        """Said of ours: "better" or "worse" where the interval of the chance leaves out one half."""
        if self.improvement.low > EVEN:
            return "better"
        return "worse" if self.improvement.high < EVEN else "no clear difference"


def scores_by_setting(
    store: Store, methods: Sequence[str], filters: Filters | None = None, metric: str = HEADLINE
) -> pd.DataFrame:
    """The scores of all runs of some methods, setting by setting.

    Args:
        methods: expressions.
        filters: as for `results.leaderboard.leaderboard`; `seed` and `method` are not looked at.

    Returns:
        One row a setting and method: the columns `SETTING`, method, row (its key), scores (a tuple, one a seed, in the
        metric's base unit). Of several rows of equal words the one of most seeds, then the newest.

    Raises:
        ValueError: a filter's column or the metric does not exist.
    """
    if metric not in (known := metrics(store)):
        raise ValueError(f"no run has the metric '{metric}': there are {', '.join(known)}")
    c, values = schema.board.c, schema.metrics.c
    wanted = {name: some for name, some in matching(filters or {}).items() if some and name not in ("seed", "method")}
    conditions = [c.metric == metric, c.method.in_(list(methods)), *(c[name].in_(v) for name, v in wanted.items())]
    names = (*SETTING, "method", "row", "keys", "seeds", "finished")
    with store.read() as connection:
        found = connection.execute(select(*(c[name] for name in names)).where(*conditions)).all()
        frame = pd.DataFrame([tuple(row) for row in found], columns=list(names))
        frame = frame.sort_values(["seeds", "finished"], ascending=False).drop_duplicates([*SETTING, "method"])
        scores: dict[str, float] = {}
        for some in in_parts(key for keys in frame["keys"] for key in keys.split(",")):
            query = select(values.key, values.value).where(values.name == metric, values.key.in_(some))
            scores |= {row[0]: row[1] for row in connection.execute(query)}
    frame["scores"] = [tuple(scores[key] for key in keys.split(",")) for keys in frame["keys"]]
    return frame.sort_values([*SETTING, "method"], ignore_index=True).drop(columns=["keys", "seeds", "finished"])


def family_gaps(scores: pd.DataFrame, methods: Sequence[str], metric: MetricInfo) -> list[FamilyGap]:
    """Every pair of methods, later ones against earlier ones, over all settings that both have.

    Args:
        scores: as `scores_by_setting` gives them.
        methods: expressions, two or more.
        metric: its direction says what is better.

    Raises:
        ValueError: two of the methods have no setting in common in which both have two seeds or more.
    """
    sign = 1.0 if metric.direction == "higher" else -1.0
    by_method: dict[str, dict[tuple[object, ...], list[float]]] = {}
    for *setting, method, runs in scores[[*SETTING, "method", "scores"]].itertuples(index=False):
        by_method.setdefault(method, {})[tuple(setting)] = [sign * score for score in runs]
    found = []
    for theirs, ours in combinations(methods, 2):
        a, b = by_method.get(theirs, {}), by_method.get(ours, {})
        common = [setting for setting in a if setting in b]
        used = [setting for setting in common if len(a[setting]) > 1 and len(b[setting]) > 1]
        if not used:
            raise ValueError(
                f"{ours} and {theirs} have no setting (data set, student, stride, recipe, initial weights) in common "
                "in which both have two seeds or more: train more seeds, or widen the filters"
            )
        mine, other = [b[setting] for setting in used], [a[setting] for setting in used]
        chance, gain = probability_of_improvement(mine, other), interquartile_gain(mine, other)
        found.append(FamilyGap(ours, theirs, len(used), len(common) - len(used), chance, gain))
    return found
