"""The table of an ablation: what each term and each setting contributes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results.queries import SETTING, image_class_counts, runs
from results.statistics import NO_DIFFERENCE, Difference, SeedScores, compare, over_images, over_seeds
from results.store import Store

COLUMNS = (
    "dataset", "evaluation", "student", "stride", "recipe", "weights", "teacher", "row", "expression", "seeds", "miou",
    "miou_low", "miou_high", "gain", "gain_low", "gain_high", "gain_basis", "gain_verdict", "cost", "cost_low",
    "cost_high", "cost_basis", "cost_verdict",
)  # fmt: skip
"""Columns of `contributions`. `gain` is this row minus `none`; `cost` is the full method minus this row: what is lost
by taking those terms off."""


@dataclass(frozen=True)
class _Row:
    """The runs of one expression under one setting and teacher."""

    frame: pd.DataFrame

    def side(self, class_counts: dict[str, Any]) -> SeedScores:
        seeds = [int(seed) for seed in self.frame["seed"]]
        scores = dict(zip(seeds, (float(v) for v in self.frame["miou"]), strict=True))
        kept = {s: class_counts[key] for s, key in zip(seeds, self.frame["key"], strict=True) if key in class_counts}
        return SeedScores(scores, kept)


def contributions(store: Store, rows: Sequence[tuple[str, str]], keys: Iterable[str]) -> pd.DataFrame:
    """The rows of an ablation with their differences to `none` and to the full method, from finished runs.

    Differences are paired over the seeds that both sides have; with one seed, over images, which says nothing of
    training noise and gets no verdict.

    Args:
        store: an open database.
        rows: (label, expression) of every row: `none` first, the full method second.
        keys: the stages of the sweep; other runs are not looked at.

    Returns:
        Columns `COLUMNS`, in the order of `rows` within each setting; only rows that have runs.
    """
    full = rows[1][1]
    frame = runs(store, {"method": [method for _, method in rows]})
    frame = frame[frame["key"].isin(set(keys)) & frame["miou"].notna()].sort_values("seed")
    found: list[dict[str, Any]] = []
    for setting, part in frame.groupby(list(SETTING), dropna=False, sort=True):
        teachers = sorted(set(part["teacher"]) - {""}) or [""]
        for teacher in teachers:
            shown = part[part["teacher"].isin(("", teacher))]
            found += _setting_rows(
                store, dict(zip(SETTING, setting, strict=True)) | {"teacher": teacher}, shown, rows, full
            )
    return pd.DataFrame(found, columns=list(COLUMNS))


def _setting_rows(
    store: Store, setting: dict[str, Any], frame: pd.DataFrame, rows: Sequence[tuple[str, str]], full: str
) -> list[dict[str, Any]]:
    groups = {method: _Row(part) for method, part in frame.groupby("method")}
    few = [key for row in groups.values() if len(row.frame) == 1 for key in row.frame["key"]]
    class_counts: dict[str, Any] = dict(image_class_counts(store, list(frame["key"]) if few else []))
    sides = {method: row.side(class_counts) for method, row in groups.items()}
    made = []
    for label, method in rows:
        if method not in sides:
            continue
        gain = compare(sides[method], sides["none"]) if method != "none" and "none" in sides else NO_DIFFERENCE
        cost = compare(sides[full], sides[method]) if method != full and full in sides else NO_DIFFERENCE
        made.append(
            {**setting, "row": label, "expression": method, **_accuracy(sides[method])}
            | _difference("gain", gain)
            | _difference("cost", cost)
        )
    return made


def _accuracy(side: SeedScores) -> dict[str, Any]:
    scores = list(side.scores.values())
    estimate = over_seeds(scores)
    if len(scores) == 1 and side.class_counts:
        estimate = over_images(next(iter(side.class_counts.values()))[1])
    return {"seeds": len(scores), "miou": estimate.value, "miou_low": estimate.low, "miou_high": estimate.high}


def _difference(name: str, gap: Difference) -> dict[str, Any]:
    return {
        name: gap.value,
        f"{name}_low": gap.low,
        f"{name}_high": gap.high,
        f"{name}_basis": gap.text if gap is not NO_DIFFERENCE else "",
        f"{name}_verdict": gap.verdict,
    }


def percent(value: float, low: float, high: float, sign: bool = False) -> str:
    """`+1.2 [+0.4, +2.0]`, in per cent; without brackets when there is no interval; "" when there is no value."""
    if math.isnan(value):
        return ""
    form = "{:+.1f}" if sign else "{:.1f}"
    text = form.format(100 * value)
    return text if math.isnan(low) else f"{text} [{form.format(100 * low)}, {form.format(100 * high)}]"
