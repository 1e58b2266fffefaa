"""What each term of a method contributes: the rows to train, and the table of differences from their runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.errors import HarnessError
from harness.expression import combine, resolve
from harness.spec import MethodPart, MethodSpec, canonical_json
from results.queries import image_tallies, runs
from results.statistics import NO_DIFFERENCE, Difference, Side, compare, over_images, over_seeds
from results.store import Store

SETTING = ("dataset", "student", "stride", "recipe", "weights", "manifest")
"""What runs have in common that are compared with one another."""

COLUMNS = (
    "dataset", "student", "stride", "recipe", "weights", "teacher", "row", "expression", "seeds", "miou", "miou_low",
    "miou_high", "gain", "gain_low", "gain_high", "gain_basis", "gain_verdict", "cost", "cost_low", "cost_high",
    "cost_basis", "cost_verdict",
)  # fmt: skip
"""Columns of `contributions`. `gain` is this row minus `none`; `cost` is the full method minus this row: what is lost
by taking those terms off."""


def ablation_expressions(expression: str) -> list[tuple[str, str]]:
    """The rows of an ablation: (label, canonical expression), each expression once.

    `none`; the full method; without each term; each term only. With two terms, taking one off leaves the other only:
    that is one row with both labels.

    Raises:
        HarnessError: a grid, or a method without terms.
    """
    return [(", ".join(labels), spec.expression) for labels, spec in ablation_rows(expression)]


def ablation_rows(expression: str) -> list[tuple[tuple[str, ...], MethodSpec]]:
    """As `ablation_expressions`, with all labels of a row and its specification."""
    specs = resolve(expression)
    if len(specs) != 1:
        raise HarnessError(f"'{expression}' is {len(specs)} methods", "ablate one at a time, without a grid")
    full = specs[0]
    if not full.parts:
        raise HarnessError(f"'{expression}' has no terms to take off", "name a method with terms: harness methods")
    terms = [(part.name, term) for part in full.parts for term in part.weights]
    wanted = [("none", MethodSpec()), ("full", full)]
    terms = terms if len(terms) > 1 else []  # the only term: without it is none, it only is full
    wanted += [(f"without {_label(full, t)}", _keep(full.parts, [o for o in terms if o != t])) for t in terms]
    wanted += [(f"only {_label(full, t)}", _keep(full.parts, [t])) for t in terms]
    labels: dict[str, tuple[list[str], MethodSpec]] = {}
    for label, spec in wanted:
        labels.setdefault(canonical_json(spec), ([], spec))[0].append(label)
    return [(tuple(names), spec) for names, spec in labels.values()]


def _label(full: MethodSpec, term: tuple[str, str]) -> str:
    """The term's name; with its method's where there are several methods."""
    return term[1] if len(full.parts) == 1 else ".".join(term)


def _keep(parts: Iterable[MethodPart], terms: Sequence[tuple[str, str]]) -> MethodSpec:
    """The same parts with only these terms, their weights as they are."""
    return combine(
        part.model_copy(update={"weights": {t: w for t, w in part.weights.items() if (part.name, t) in terms}})
        for part in parts
    )


@dataclass(frozen=True)
class _Row:
    """The runs of one expression under one setting and teacher."""

    frame: pd.DataFrame

    def side(self, tallies: dict[str, Any]) -> Side:
        seeds = [int(seed) for seed in self.frame["seed"]]
        scores = dict(zip(seeds, (float(v) for v in self.frame["miou"]), strict=True))
        kept = {s: tallies[key] for s, key in zip(seeds, self.frame["key"], strict=True) if key in tallies}
        return Side(scores, kept)


def contributions(store: Store, expression: str, keys: Iterable[str]) -> pd.DataFrame:
    """The rows of an ablation with their differences to `none` and to the full method, from finished runs.

    Differences are paired over the seeds that both sides have; with one seed, over images, which says nothing of
    training noise and gets no verdict.

    Args:
        store: an open database.
        expression: what is ablated.
        keys: the stages of the sweep; other runs are not looked at.

    Returns:
        Columns `COLUMNS`, in the order of `ablation_expressions` within each setting; only rows that have runs.
    """
    rows = ablation_expressions(expression)
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
    tallies: dict[str, Any] = dict(image_tallies(store, list(frame["key"]) if few else []))
    sides = {method: row.side(tallies) for method, row in groups.items()}
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


def _accuracy(side: Side) -> dict[str, Any]:
    scores = list(side.scores.values())
    estimate = over_seeds(scores)
    if len(scores) == 1 and side.tallies:
        estimate = over_images(next(iter(side.tallies.values()))[1])
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
