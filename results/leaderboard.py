"""The leaderboard: runs of one setting as one row, with intervals and differences from `none`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results.queries import CELL, SETTING, Filters, image_class_counts, runs
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

# fmt: off
BOARD = (
    "method", "student", "stride", "teacher", "dataset", "recipe", "weights", "seeds", "seed_list", "miou",
    "miou_low", "miou_high", "miou_basis", "delta", "delta_low", "delta_high", "delta_basis", "verdict", "p",
    "p_holm", "macs", "parameters", "latency_ms", "latency_device", "step_ms", "step_ratio", "pixel_accuracy",
    "best_miou", "images", "split", "input_size", "precision", "numerics", "dirty", "superseded", "variant",
    "frontier", "keys", "reproduce", "finished",
)
# fmt: on
"""Columns of the leaderboard."""


def leaderboard(
    store: Store,
    filters: Filters | None = None,
    sort: str = "miou",
    descending: bool | None = None,
    keys: Iterable[str] | None = None,
) -> pd.DataFrame:
    """The leaderboard: one row a cell without its seed, with the columns `BOARD`.

    Δ is to the `none` of the same data, student, stride, recipe and first weights, even where a filter hides that
    row. `p_holm` is corrected for all comparisons of the rows shown; `frontier` marks the rows of a data set that no
    other row shown beats in both mIoU and MACs. Teachers are rows of method "teacher". Rows of one data set stand
    together, for numbers of two cannot be compared.

    Args:
        filters: as for `runs`.
        sort: a column to sort each data set's rows by.
        descending: the default is what puts the best first: True for accuracies and Δ, else False.
        keys: show only rows to which one of these runs belongs (with all seeds of such a row).

    Raises:
        ValueError: a filter's or the sort's column does not exist.
    """
    if sort not in BOARD:
        raise ValueError(f"there is no column '{sort}' to sort by: {', '.join(BOARD)}")
    shown = _newest(runs(store, filters), None if keys is None else set(keys))
    complete = not filters and keys is None
    everything = shown if complete else _newest(runs(store, {"method": ["none"]}))
    groups = _groups(shown)
    baselines = {group.setting: group for group in _groups(everything) if group.method == "none"}
    counts = image_class_counts(store, _single_seeds(groups, baselines))
    rows = [_row(group, baselines.get(group.setting), counts) for group in groups]
    board = pd.DataFrame(rows, columns=[name for name in BOARD if name not in ("p_holm", "frontier")])
    board["p_holm"] = holm(board["p"].astype(float)) if len(board) else []
    board["frontier"] = False
    for _, part in board.groupby("dataset", sort=False):
        board.loc[part.index, "frontier"] = pareto(part["macs"], part["miou"])
    down = sort in ("miou", "delta", "pixel_accuracy", "best_miou", "seeds") if descending is None else descending
    order = list(dict.fromkeys(["dataset", sort, "student", "stride", "method"]))
    board = board.sort_values(order, ascending=[name != sort or not down for name in order], na_position="last")
    return board[list(BOARD)].reset_index(drop=True)


def _newest(frame: pd.DataFrame, keys: set[str] | None = None) -> pd.DataFrame:
    """Runs with an accuracy; of runs that are the same cell, seed and variant the newest, with how many it replaces.

    Args:
        keys: drop rows of the leaderboard to which none of these runs belongs.
    """
    frame = frame[frame["method"].notna() & frame["miou"].notna()]
    row = [*CELL, "manifest", "variant"]
    if keys is not None and len(frame):
        wanted = frame["key"].isin(keys)
        frame = frame[wanted.groupby([frame[name] for name in row], dropna=False).transform("any")]
    older = frame.groupby([*row, "seed"], dropna=False)["key"].transform("size") - 1
    return frame.assign(superseded=older).drop_duplicates([*row, "seed"], keep="first")  # newest come first


@dataclass(frozen=True)
class _Group:
    """The runs of one row, in the order of their seeds."""

    runs: pd.DataFrame

    @property
    def first(self) -> pd.Series:
        return self.runs.iloc[0]

    @property
    def method(self) -> str:
        return str(self.first["method"])

    @property
    def setting(self) -> tuple[Any, ...]:
        return tuple(self.first[name] for name in SETTING)

    def side(self, counts: Mapping[str, tuple[tuple[str, ...], NDArray[np.int64]]]) -> SeedScores:
        """The group as one side of a comparison."""
        seeds = [int(seed) for seed in self.runs["seed"]]
        scores = dict(zip(seeds, (float(v) for v in self.runs["miou"]), strict=True))
        kept = {seed: counts[key] for seed, key in zip(seeds, self.runs["key"], strict=True) if key in counts}
        return SeedScores(scores, kept)


def _groups(frame: pd.DataFrame) -> list[_Group]:
    keys = [*CELL, "manifest", "variant"]
    return [_Group(part.sort_values("seed")) for _, part in frame.groupby(keys, dropna=False, sort=False)]


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


def _row(
    group: _Group,
    baseline: _Group | None,
    counts: Mapping[str, tuple[tuple[str, ...], NDArray[np.int64]]],
) -> dict[str, Any]:
    """One row of the leaderboard."""
    part, first = group.runs, group.first
    accuracy = _accuracy(group, counts)
    is_reference = group.method in ("none", "teacher") or baseline is None
    gap = NO_DIFFERENCE if is_reference or baseline is None else compare(group.side(counts), baseline.side(counts))
    row = {name: first[name] for name in CELL} | _estimates(accuracy, gap)
    row |= {
        "seeds": len(part),
        "seed_list": ",".join(str(seed) for seed in part["seed"]),
        "macs": first["macs"],
        "parameters": first["parameters"],
        "latency_ms": part["latency_ms"].median(),
        "latency_device": _one(part["latency_device"]),
        "step_ms": part["step_ms"].mean(),
        "step_ratio": _step_ratio(part, None if baseline is None else baseline.runs),
        "pixel_accuracy": part["pixel_accuracy"].mean(),
        "best_miou": part["best_miou"].mean(),
        "images": first["images"],
        "split": first["split"],
        "input_size": f"{first['input_height']:.0f}x{first['input_width']:.0f}" if pd.notna(first["macs"]) else "",
        "precision": _one(part["precision"]),
        "numerics": _one(part["numerics"][part["numerics"] != ""]),
        "dirty": bool(part["dirty"].any()),
        "superseded": int(part["superseded"].sum()),
        "variant": first["variant"],
        "keys": ",".join(part["key"]),
        "reproduce": _reproduce(part),
        "finished": part["finished"].max(),
    }
    return row


def _accuracy(group: _Group, counts: Mapping[str, tuple[tuple[str, ...], NDArray[np.int64]]]) -> Estimate:
    """Mean over seeds with its interval; for one seed its score with the interval over images."""
    if len(group.runs) > 1 or group.first["key"] not in counts:
        return over_seeds([float(value) for value in group.runs["miou"]])
    return over_images(counts[group.first["key"]][1])


def _estimates(accuracy: Estimate, gap: Difference) -> dict[str, Any]:
    return {
        "miou": accuracy.value,
        "miou_low": accuracy.low,
        "miou_high": accuracy.high,
        "miou_basis": accuracy.text,
        "delta": gap.value,
        "delta_low": gap.low,
        "delta_high": gap.high,
        "delta_basis": gap.text if gap is not NO_DIFFERENCE else "",
        "verdict": gap.verdict,
        "p": gap.p,
    }


def _one(values: pd.Series) -> str:
    """The values that occur, as one text."""
    return "; ".join(dict.fromkeys(str(value) for value in values if pd.notna(value)))


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
