"""Computing rows of the leaderboard from runs: runs of equal cells but for their seeds as one row, with intervals,
differences from `none`, and how the row stands to the others of its setting.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from results import store as schema
from results.board import lessons, own_cost, runs_of
from results.columns import METRICS, board_columns
from results.flags import flags_of
from results.metrics import HEADLINE, MetricInfo, score_of
from results.queries import SETTING, States, image_states
from results.standing import Member, Standing, standings
from results.statistics import (
    NO_DIFFERENCE,
    OTHER_WAY,
    Difference,
    Estimate,
    SeedScores,
    compare,
    over_images,
    over_seeds,
)
from results.store import Store

Runs = list[dict[str, Any]]
"""Rows of `runs`, by column, with the metrics of each by name; newest first."""
Known = Mapping[str, MetricInfo]
"""All metrics of a database, with what they declare."""


@dataclass(frozen=True)
class Group:
    """The runs of one row, in the order of their seeds."""

    runs: Runs
    metric: str

    @property
    def row(self) -> str:
        """The row's own key."""
        return str(self.runs[0]["row"])

    @property
    def keys(self) -> str:
        """Of its runs, separated by commas."""
        return ",".join(run["key"] for run in self.runs)

    @property
    def method(self) -> str:
        """Its expression."""
        return str(self.runs[0]["method"])

    @property
    def setting(self) -> tuple[Any, ...]:
        """What it has in common with what it is compared with."""
        return tuple(self.runs[0][name] for name in SETTING)

    @property
    def seeds(self) -> set[int]:
        """Of its runs."""
        return {run["seed"] for run in self.runs}

    @property
    def member(self) -> Member:
        """The group as its standing is worked out."""
        runs = {run["seed"]: run["key"] for run in self.runs}
        parents = frozenset(parent for run in self.runs for parent in run["parents"].split(",") if parent)
        return Member(self.row, self.setting, self.method, runs, self.runs[0]["evaluation"], parents)

    def side(self, states: States) -> SeedScores:
        """The group as one side of a comparison."""
        scores = {run["seed"]: float(run[self.metric]) for run in self.runs}
        kept = {run["seed"]: states[run["key"]] for run in self.runs if run["key"] in states} if states else {}
        return SeedScores(scores, kept, score_of(self.metric))


Baselines = Mapping[tuple[Any, ...], Group]
"""Setting -> its `none`."""


def groups_of(runs: Runs, metric: str) -> list[Group]:
    """Runs that have the metric, row by row; of equal row and seed the newest, with how many it replaces."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for run in runs:
        if run["row"] is None or run.get(metric) is None:
            continue
        seeds = found.setdefault(run["row"], {})
        if newer := seeds.get(run["seed"]):
            newer["superseded"] += 1
        else:
            seeds[run["seed"]] = {**run, "superseded": 0}
    return [Group([seeds[seed] for seed in sorted(seeds)], metric) for seeds in found.values()]


def baselines_of(groups: Sequence[Group]) -> Baselines:
    """What others of the same setting are compared with."""
    return {group.setting: group for group in groups if group.method == "none"}


def undrawn_rows(runs: Runs, known: Known) -> dict[str, list[dict[str, Any]]]:
    """Metric -> rows of whole families without what has to be drawn from images, as `results.board` stores them."""
    common: Common = {}
    found = {}
    for metric in known:
        groups = groups_of(runs, metric)
        baselines = baselines_of(groups)
        found[metric] = [row_of(group, baselines, {}, known, common=common) | {"pending": True} for group in groups]
    return found


def drawn_rows(store: Store, families: Sequence[str], known: Known, metric: str) -> list[dict[str, Any]]:
    """Rows of whole families with all that there is to say of them."""
    r = schema.runs.c
    with store.read() as connection:
        runs = runs_of(connection, r.family.in_(families))
        parents = {parent for run in runs for parent in lessons(run)}
        teachers = select(r.row).where(r.key.in_(parents), r.method == "teacher")
        taught_by = runs_of(connection, r.row.in_(teachers)) if parents else []
    groups = groups_of(runs, metric)
    own = {group.row for group in groups}
    others = [group for group in groups_of(taught_by, metric) if group.row not in own]
    baselines = baselines_of(groups)
    states = image_states(store, single_seeds(groups, baselines), metric)
    standing = standings(store, [g.member for g in (*groups, *others)], (g.setting for g in groups), known[metric])
    found = []
    for group in groups:
        stands = standing.get(group.row, Standing())
        found.append(row_of(group, baselines, states, known, stands) | {"pending": False})
    return found


def single_seeds(groups: Sequence[Group], baselines: Baselines) -> set[str]:
    """Keys of the runs whose images are needed: rows of one seed, and what they are compared with."""
    wanted: set[str] = set()
    for group in groups:
        other = baselines.get(group.setting)
        if len(group.runs) == 1:
            wanted |= {run["key"] for run in group.runs}
        if other and group.method not in ("none", "teacher") and len(group.seeds & other.seeds) < 2:
            wanted |= {run["key"] for run in (*group.runs, *other.runs)}
    return wanted


Common = dict[str, dict[str, Any]]
"""Keys of a row's runs -> its columns that are the same whatever the metric."""


def row_of(
    group: Group,
    baselines: Baselines,
    states: States,
    known: Known,
    stands: Standing | None = None,
    common: Common | None = None,
) -> dict[str, Any]:
    """One row of the leaderboard, without what depends on rows of other families.

    Args:
        states: of the runs whose intervals are over images, where they were kept.
        stands: how it stands to the others of its setting, where that is known.
        common: is looked up and filled, where rows of several metrics are computed.
    """
    part, metric = group.runs, known[group.metric]
    keys, common = group.keys, {} if common is None else common
    if keys not in common:
        common[keys] = _common(part, known)
    baseline, stands = baselines.get(group.setting), stands or Standing()
    row = common[keys] | {"keys": keys, "superseded": sum(run["superseded"] for run in part)}
    row |= _estimates(metric, _accuracy(group, states), _gap(group, baseline, states)) | _stands(stands)
    row["step_ratio"] = _step_ratio(part, None if baseline is None else baseline.runs)
    row["flags"] = "; ".join(flags_of(row, part, stands.ahead))
    return row


def _common(part: Runs, known: Known) -> dict[str, Any]:
    """The columns of a row that are the same whatever the metric."""
    first = part[0]
    return {
        **{name: gather([run[name] for run in part]) for name, gather in _FIXED.items()},
        **{name: first[name] for name in ("row", "family", "manifest")},
        "seeds": len(part),
        "seed_list": ",".join(str(run["seed"]) for run in part),
        "input_size": f"{first['input_height']}x{first['input_width']}" if first["macs"] is not None else "",
        "reproduce": _reproduce(part),
        "others": json.dumps({name: _mean([run.get(name) for run in part]) for name in known}),
        "own_training_s": _mean([None if math.isnan(cost) else cost for cost in map(own_cost, part)]),
        "lessons": json.dumps([lessons(run) for run in part]),
    }


def _gap(group: Group, baseline: Group | None, states: States) -> Difference:
    """The difference from `none`, where there is one to compare with."""
    if baseline is None or group.method in ("none", "teacher"):
        return NO_DIFFERENCE
    return compare(group.side(states), baseline.side(states))


def _accuracy(group: Group, states: States) -> Estimate:
    """Mean over seeds with its interval; for one seed its score with the interval over images."""
    if len(group.runs) > 1 or group.runs[0]["key"] not in states:
        return over_seeds([float(run[group.metric]) for run in group.runs])
    return over_images(states[group.runs[0]["key"]][1], score_of(group.metric))


def _estimates(metric: MetricInfo, value: Estimate, gap: Difference) -> dict[str, Any]:
    """The columns of the metric that the board is ranked by."""
    verdict: str = gap.verdict
    return {
        metric.name: value.value,
        f"{metric.name}_low": value.low,
        f"{metric.name}_high": value.high,
        f"{metric.name}_basis": value.text,
        "delta": gap.value,
        "delta_low": gap.low,
        "delta_high": gap.high,
        "delta_basis": gap.text if gap is not NO_DIFFERENCE else "",
        "verdict": verdict if metric.direction == "higher" else OTHER_WAY.get(verdict, verdict),
        "p": gap.p,
    }


def _stands(stands: Standing) -> dict[str, Any]:
    """The columns of a row's standing."""
    gap = stands.gap
    return {
        "tier": stands.tier,
        "gap_closed": gap.value,
        "gap_closed_low": gap.low,
        "gap_closed_high": gap.high,
        "gap_closed_basis": "" if math.isnan(gap.value) else gap.text,
    }


def _one(values: list[Any]) -> str:
    """The values that occur, as one text."""
    return "; ".join(dict.fromkeys(str(value) for value in values if value is not None and value != ""))


def _mean(values: list[Any]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def _median(values: list[Any]) -> float:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else math.nan


_GATHER: dict[str, Callable[[list[Any]], Any]] = {
    "same": lambda values: values[0],
    "mean": _mean,
    "median": _median,
    "sum": sum,
    "last": max,
    "any": any,
    "words": _one,
}
"""How the runs of a row are put together, as a column declares it."""
_FIXED = {
    column.name: _GATHER[column.seeds]
    for column in board_columns({HEADLINE: METRICS[HEADLINE]})
    if column.seeds in _GATHER and column.name not in (HEADLINE, "training_s", "superseded")
}


_SEEDS = re.compile(r"(?<=--seeds )\S+")


def _reproduce(part: Runs) -> str:
    """One command for all seeds of a row where only the seeds differ; else one command a line."""
    commands = list(dict.fromkeys(run["reproduce"] for run in part))
    if len({_SEEDS.sub("", command) for command in commands}) == 1:
        return _SEEDS.sub(",".join(str(run["seed"]) for run in part), commands[0])
    return "\n".join(commands)


def _step_ratio(part: Runs, baseline: Runs | None) -> float:
    """Time of a training step relative to `none`, from runs on the same device at the same precision."""
    if baseline is None or part[0]["method"] == "teacher":
        return math.nan
    devices, precisions = {run["device"] for run in part}, {run["precision"] for run in part}
    like = [run["step_ms"] for run in baseline if run["device"] in devices and run["precision"] in precisions]
    other = _mean(like)
    return _mean([run["step_ms"] for run in part]) / other if other else math.nan
