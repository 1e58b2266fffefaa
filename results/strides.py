"""What output stride a method buys: its rows over the strides, beside those of no distillation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from results import formats
from results.advice import CLOSE
from results.columns import Column
from results.compare import Resampled, StrideBought, probability_of_improvement, stride_bought
from results.leaderboard import columns_of, metric_of
from results.statistics import IMAGES_ONLY, Estimate


def one_setting(board: pd.DataFrame, student: str, recipe: str) -> pd.DataFrame:
    """The rows of one student and recipe, one a method and stride (of several variants that of most seeds), and its
    teachers.

    Args:
        board: rows of one data set, evaluated alike.
    """
    own = board[board["student"].eq(student) & board["recipe"].eq(recipe) & board["method"].ne("teacher")]
    own = own.sort_values(["seeds", "finished"], ascending=False).drop_duplicates(["method", "stride"])
    words = set(own["teacher"]) - {""}
    teachers = board[board["method"].eq("teacher")]
    named = teachers["student"] + "@" + teachers["stride"].astype(str)
    return pd.concat([own, teachers[named.isin(words)].drop_duplicates(["student", "stride"])]).sort_values(
        ["method", "stride"], ignore_index=True
    )


@dataclass(frozen=True)
class Bought:
    """What stride a method buys.

    Attributes:
        found: None where the method is worse than `none` at the next denser stride, wherever both were measured.
        share: MACs at its stride, of those of `none` at the denser one; NaN where they are not known.
        told: a stride could be compared at all.
    """

    method: str
    found: StrideBought | None
    share: float
    told: bool = True


def bought(rows: pd.DataFrame, known: Mapping[str, Resampled]) -> list[Bought]:
    """What stride every method buys.

    Args:
        rows: as `one_setting` gives them.
        known: row -> its networks on resampled images (`results.standing.resampled_rows`).
    """
    rows = rows[rows["row"].isin(known.keys())]

    def by_stride(method: str) -> dict[int, Resampled]:
        return {int(stride): known[row] for stride, row in _of(rows, method)}

    none = by_stride("none")
    macs = {(m, int(s)): float(v) for m, s, v in zip(rows["method"], rows["stride"], rows["macs"], strict=True)}
    made = []
    for method in sorted(set(rows["method"]) - {"none", "teacher"}):
        mine = by_stride(method)
        found = stride_bought(mine, none)
        share = macs[method, found.stride] / macs["none", found.denser] if found else math.nan
        made.append(Bought(method, found, share, any(s > min(none, default=s) for s in mine)))
    return made


def improvement(rows: pd.DataFrame, known: Mapping[str, Resampled]) -> pd.DataFrame:
    """How often a run of a method beats one of `none`, over all strides that both have, with interval.

    Args:
        rows, known: as for `bought`.

    Returns:
        Columns method, strides (how many), chance, low, high; methods with two or more seeds at every such stride.
    """
    rows = rows[rows["row"].isin(known.keys())]
    none = {int(s): known[row].points for s, row in _of(rows, "none")}
    made = []
    for method in sorted(set(rows["method"]) - {"none", "teacher"}):
        mine = {int(s): known[row].points for s, row in _of(rows, method) if int(s) in none}
        if mine and all(len(mine[s]) > 1 and len(none[s]) > 1 for s in mine):
            found = probability_of_improvement([list(mine[s]) for s in mine], [list(none[s]) for s in mine])
            made.append({"method": method, "strides": len(mine)} | _chance(found))
    return pd.DataFrame(made, columns=["method", "strides", "chance", "low", "high"])


def _of(rows: pd.DataFrame, method: str) -> list[tuple[int, str]]:
    some = rows[rows["method"].eq(method)]
    return list(zip(some["stride"], some["row"], strict=True))


def _chance(found: Estimate) -> dict[str, float]:
    return {"chance": found.value, "low": found.low, "high": found.high}


def sentence(bought: Bought, metric: Column) -> str:
    """What stride a method buys, in words, the difference in the metric's unit."""
    found = bought.found
    if not bought.told:
        return f"{bought.method}: no stride at which it could be compared with none at a denser one."
    if found is None:
        return f"{bought.method}: worse than none at the next denser stride, wherever both were measured."
    sign = 1 if metric.direction == "higher" else -1
    ends = sorted((sign * found.gap.low, sign * found.gap.high))
    row = dict(zip(("gap", "gap_low", "gap_high"), (sign * found.gap.value, *ends)), gap_basis=found.gap.text)
    gap = Column("gap", type="number", factor=metric.factor, digits=metric.digits)
    unit = "points" if metric.unit == "%" else metric.unit
    text = formats.with_interval(gap, row, "+").removesuffix(" ¹")
    cost = "" if math.isnan(bought.share) else f", at {100 * bought.share:.0f} % of its MACs"
    doubt = "; one seed: image noise only" if IMAGES_ONLY in found.gap.text else ""
    return (
        f"{bought.method} at stride {found.stride} {_stands(ends[0])} none at stride {found.denser}"
        f" ({text} {unit}{doubt}){cost}."
    )


def _stands(low: float) -> str:
    """What may be said of a difference by its lower end. What cannot be told apart need not be as good."""
    if low > 0:
        return "is better than"
    return "is as good, to within a point, as" if low >= -CLOSE else "cannot be told from"


def metric_column_of(board: pd.DataFrame) -> Column:
    """The column of the metric that a leaderboard is ranked by."""
    return columns_of(board)[metric_of(board)]
