"""The leaderboard: runs of one setting as one row, with intervals and differences from `none`."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from results.columns import METRICS, Column, board_columns
from results.flags import flags_of
from results.metrics import HEADLINE, MetricInfo, score_of
from results.queries import ROW, SETTING, Filters, States, image_states, metrics, runs
from results.standing import Member, Standing, standings
from results.statistics import (
    NO_DIFFERENCE,
    Difference,
    Estimate,
    SeedScores,
    compare,
    holm,
    over_images,
    over_seeds,
    pareto,
)
from results.store import Store

BOARD = tuple(column.name for column in board_columns(METRICS))
"""Columns of a leaderboard that is ranked by mIoU, of runs that have no metrics of their own."""
COMPARABLE = ("dataset", "evaluation")
"""What rows must have in common to be ranked together."""


def leaderboard(
    store: Store,
    filters: Filters | None = None,
    sort: str | None = None,
    descending: bool | None = None,
    keys: Iterable[str] | None = None,
    metric: str = HEADLINE,
) -> pd.DataFrame:
    """The leaderboard: one row a cell without its seed, with the columns of `results.columns.board_columns`.

    Δ is to the `none` of the same data, student, stride, recipe and initial weights, even where a filter hides that
    row. `p_holm` is corrected for all comparisons of the data set in the database, whatever is shown; `frontier` marks
    the rows that no other row shown beats in both metric and MACs. Teachers are rows of method "teacher".
    Rows of one data set that were evaluated alike stand together, for other numbers cannot be compared.
    `tier`, `gap_closed` and `flags` are of all rows of the same setting in the database (`results.standing`).

    Args:
        filters: as for `runs`.
        sort: a column to sort by the rows that can be compared; the metric by default.
        descending: the default is what puts the best first, as the column declares.
        keys: show only rows to which one of these runs belongs (with all seeds of such a row).
        metric: what the rows are ranked by, with interval and Δ.

    Returns:
        A data frame; `attrs` holds `metric` and `metrics`, what each declares (see `columns_of`).

    Raises:
        ValueError: a filter's or the sort's column, or the metric, does not exist.
    """
    known = metrics(store)
    if metric not in known:
        raise ValueError(f"no run has the metric '{metric}': there are {', '.join(known)}")
    columns = board_columns(known, metric)
    named = {column.name: column for column in columns}
    sort = sort or metric
    if sort not in named:
        raise ValueError(f"there is no column '{sort}' to sort by: {', '.join(named)}")
    shown = _newest(runs(store, filters), metric, None if keys is None else set(keys))
    everything = shown if not filters and keys is None else _newest(runs(store), metric)
    groups, all_groups = _groups(shown, metric), _groups(everything, metric)
    baselines = {group.setting: group for group in all_groups if group.method == "none"}
    states = image_states(store, _single_seeds(groups, baselines), metric)
    rows = [_row(group, baselines.get(group.setting), states, columns, known[metric]) for group in groups]
    standing = standings(store, [g.member for g in all_groups], (g.setting for g in groups), known[metric])
    most = _most_images(all_groups)
    for row, group in zip(rows, groups, strict=True):
        stands = standing.get(group.row, Standing())
        row |= _stands(stands)
        row["flags"] = "; ".join(flags_of(row, group.runs, most[group.split], stands.ahead))
    board = pd.DataFrame(rows, columns=list(named))
    board["tier"] = board["tier"].astype("Int64")
    family = {group.row: (group.dataset, _gap(group, baselines.get(group.setting), {}).p) for group in all_groups}
    board["p_holm"], comparisons = _holm(board, family)
    board["frontier"] = _frontier(board, known[metric])
    down = named[sort].direction == "higher" if descending is None else descending
    order = list(dict.fromkeys([*COMPARABLE, sort, "student", "stride", "method", "row"]))
    board = board.sort_values(order, ascending=[name != sort or not down for name in order], na_position="last")
    board = board.reset_index(drop=True)
    board.attrs = {
        "metric": metric,
        "metrics": {name: asdict(info) for name, info in known.items()},
        "comparisons": comparisons,
    }
    return board


def columns_of(board: pd.DataFrame) -> dict[str, Column]:
    """The columns of a leaderboard as they are declared, by name."""
    infos = {name: MetricInfo(**info) for name, info in board.attrs.get("metrics", {}).items()} or METRICS
    return {column.name: column for column in board_columns(infos, metric_of(board))}


def metric_of(board: pd.DataFrame) -> str:
    """The metric that a leaderboard is ranked by."""
    return str(board.attrs.get("metric", HEADLINE))


def metric_info(board: pd.DataFrame) -> MetricInfo:
    """What the metric that a leaderboard is ranked by declares."""
    return MetricInfo(**board.attrs["metrics"][metric_of(board)])


def _holm(board: pd.DataFrame, family: dict[str, tuple[str, float]]) -> tuple[list[float], dict[str, int]]:
    """Holm's p-values over all comparisons of each data set in the database, and how many those are.

    Args:
        family: row -> data set and p-value, of every row in the database.
    """
    family = family | {row: (dataset, p) for row, dataset, p in zip(board["row"], board["dataset"], board["p"])}
    adjusted: dict[str, float] = {}
    counts = {}
    for dataset in sorted(set(board["dataset"])):
        of_set = {row: p for row, (where, p) in family.items() if where == dataset}
        adjusted |= dict(zip(of_set, (float(p) for p in holm(of_set.values())), strict=True))
        counts[str(dataset)] = sum(not math.isnan(p) for p in of_set.values())
    return [adjusted[row] for row in board["row"]], counts


def _frontier(board: pd.DataFrame, metric: MetricInfo) -> pd.Series:
    """Which rows no other row that can be compared with them beats in both cost and metric."""
    front = pd.Series(False, index=board.index)
    for _, part in board.groupby(list(COMPARABLE), sort=False):
        values = part[metric.name] if metric.direction == "higher" else -part[metric.name]
        front.loc[part.index] = pareto(part["macs"], values)
    return front


def _newest(frame: pd.DataFrame, metric: str, keys: set[str] | None = None) -> pd.DataFrame:
    """Runs that have the metric; of equal cell, seed and variant the newest, with how many it replaces.

    Args:
        keys: drop rows of the leaderboard to which none of these runs belongs.
    """
    frame = frame[frame["method"].notna() & frame[metric].notna()]
    if keys is not None and len(frame):
        wanted = frame["key"].isin(keys)
        frame = frame[wanted.groupby([frame[name] for name in ROW], dropna=False).transform("any")]
    older = frame.groupby([*ROW, "seed"], dropna=False)["key"].transform("size") - 1
    return frame.assign(superseded=older).drop_duplicates([*ROW, "seed"], keep="first")  # newest come first


@dataclass(frozen=True)
class _Group:
    """The runs of one row, in the order of their seeds."""

    runs: pd.DataFrame
    metric: str

    @property
    def first(self) -> pd.Series:
        return self.runs.iloc[0]

    @property
    def row(self) -> str:
        """The row's own key, which no filter and no order changes."""
        words = json.dumps([str(self.first[name]) for name in ROW])
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    @property
    def method(self) -> str:
        return str(self.first["method"])

    @property
    def dataset(self) -> str:
        return str(self.first["dataset"])

    @property
    def setting(self) -> tuple[Any, ...]:
        return tuple(self.first[name] for name in SETTING)

    @property
    def split(self) -> tuple[str, ...]:
        """What it was evaluated on."""
        return tuple(str(self.first[name]) for name in ("dataset", "manifest", "split"))

    @property
    def member(self) -> Member:
        """The group as its standing is worked out."""
        runs = dict(zip(map(int, self.runs["seed"]), map(str, self.runs["key"]), strict=True))
        parents = frozenset(parent for words in self.runs["parents"] for parent in words.split(",") if parent)
        return Member(self.row, self.setting, self.method, runs, str(self.first["evaluation"]), parents)

    def side(self, states: States) -> SeedScores:
        """The group as one side of a comparison."""
        seeds = [int(seed) for seed in self.runs["seed"]]
        scores = dict(zip(seeds, (float(v) for v in self.runs[self.metric]), strict=True))
        kept = {seed: states[key] for seed, key in zip(seeds, self.runs["key"], strict=True) if key in states}
        return SeedScores(scores, kept, score_of(self.metric))


def _groups(frame: pd.DataFrame, metric: str) -> list[_Group]:
    parts = frame.groupby(list(ROW), dropna=False, sort=False)
    return [_Group(part.sort_values("seed"), metric) for _, part in parts]


def _single_seeds(groups: Iterable[_Group], baselines: Mapping[tuple[Any, ...], _Group]) -> set[str]:
    """Keys of the runs whose images are needed: rows of one seed, and what they are compared with."""
    wanted: set[str] = set()
    for group in groups:
        other = baselines.get(group.setting)
        common = set(group.runs["seed"]) & set(other.runs["seed"]) if other else set()
        if len(group.runs) == 1:
            wanted |= set(group.runs["key"])
        if other and group.method not in ("none", "teacher") and len(common) < 2:
            wanted |= set(group.runs["key"]) | set(other.runs["key"])
    return wanted


def _gap(group: _Group, baseline: _Group | None, states: States) -> Difference:
    """The difference from `none`, where there is one to compare with."""
    if baseline is None or group.method in ("none", "teacher"):
        return NO_DIFFERENCE
    return compare(group.side(states), baseline.side(states))


def _row(
    group: _Group, baseline: _Group | None, states: States, columns: Iterable[Column], metric: MetricInfo
) -> dict[str, Any]:
    """One row of the leaderboard."""
    part, first = group.runs, group.first
    gathered = {c.name: _GATHER[c.seeds](part[c.name]) for c in columns if c.seeds in _GATHER}
    return (
        gathered
        | _estimates(metric, _accuracy(group, states), _gap(group, baseline, states))
        | {
            "seeds": len(part),
            "seed_list": ",".join(str(seed) for seed in part["seed"]),
            "step_ratio": _step_ratio(part, None if baseline is None else baseline.runs),
            "input_size": f"{first['input_height']:.0f}x{first['input_width']:.0f}" if pd.notna(first["macs"]) else "",
            "row": group.row,
            "keys": ",".join(part["key"]),
            "reproduce": _reproduce(part),
        }
    )


def _accuracy(group: _Group, states: States) -> Estimate:
    """Mean over seeds with its interval; for one seed its score with the interval over images."""
    if len(group.runs) > 1 or group.first["key"] not in states:
        return over_seeds([float(value) for value in group.runs[group.metric]])
    return over_images(states[group.first["key"]][1], score_of(group.metric))


_OTHER_WAY: dict[str, str] = {"better": "worse", "worse": "better"}


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
        "verdict": verdict if metric.direction == "higher" else _OTHER_WAY.get(verdict, verdict),
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


def _most_images(groups: Iterable[_Group]) -> dict[tuple[str, ...], float]:
    """What was evaluated on -> the most images that a row was evaluated on there."""
    most: dict[tuple[str, ...], float] = {}
    for group in groups:
        most[group.split] = max(most.get(group.split, 0.0), float(group.runs["images"].max()))
    return most


def _one(values: pd.Series) -> str:
    """The values that occur, as one text."""
    return "; ".join(dict.fromkeys(str(value) for value in values if pd.notna(value) and value != ""))


_GATHER: dict[str, Callable[[pd.Series], Any]] = {
    "same": lambda values: values.iloc[0],
    "mean": lambda values: values.mean(),
    "median": lambda values: values.median(),
    "sum": lambda values: int(values.sum()),
    "last": lambda values: values.max(),
    "any": lambda values: bool(values.any()),
    "words": _one,
}
"""How the runs of a row are put together, as a column declares it."""


_SEEDS = re.compile(r"(?<=--seeds )\S+")


def _reproduce(part: pd.DataFrame) -> str:
    """One command for all seeds of a row where only the seeds differ; else one command a line."""
    commands = list(dict.fromkeys(part["reproduce"]))
    if len({_SEEDS.sub("", command) for command in commands}) == 1:
        return _SEEDS.sub(",".join(str(seed) for seed in part["seed"]), commands[0])
    return "\n".join(commands)


def _step_ratio(part: pd.DataFrame, baseline: pd.DataFrame | None) -> float:
    """Time of a training step relative to `none`, from runs on the same device at the same precision."""
    if baseline is None or part.iloc[0]["method"] == "teacher":
        return math.nan
    like = baseline[baseline["device"].isin(part["device"]) & baseline["precision"].isin(part["precision"])]
    return float(part["step_ms"].mean() / like["step_ms"].mean()) if len(like) else math.nan
