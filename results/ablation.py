"""The table of an ablation: what each term and each setting contributes."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sqlalchemy import func, select

from results import store as schema
from results.metrics import HEADLINE, MetricInfo, score_of
from results.queries import SETTING, States, image_states, metrics, read_records, runs
from results.statistics import NO_DIFFERENCE, OTHER_WAY, Difference, SeedScores, compare, over_images, over_seeds
from results.store import Store

PLACE = ("dataset", "evaluation", "student", "stride", "recipe", "weights", "teacher")
"""What rows that are compared have in common."""


def columns(metric: str = HEADLINE) -> list[str]:
    """Columns of `contributions`. `gain` is this row minus `none`; `cost` is the full method minus this row: what is
    lost by taking those terms off."""
    told = [f"{name}{end}" for name in ("gain", "cost") for end in ("", "_low", "_high", "_basis", "_verdict")]
    return [*PLACE, "row", "expression", "seeds", metric, f"{metric}_low", f"{metric}_high", *told]


@dataclass(frozen=True)
class _Row:
    """The runs of one expression under one setting and teacher."""

    frame: pd.DataFrame

    def side(self, states: States, metric: str) -> SeedScores:
        seeds = [int(seed) for seed in self.frame["seed"]]
        scores = dict(zip(seeds, (float(v) for v in self.frame[metric]), strict=True))
        kept = {s: states[key] for s, key in zip(seeds, self.frame["key"], strict=True) if key in states}
        return SeedScores(scores, kept, score_of(metric))


def contributions(
    store: Store,
    rows: Sequence[tuple[str, str]],
    keys: Iterable[str] | None = None,
    metric: str = HEADLINE,
    hidden: Collection[str] = (),
) -> pd.DataFrame:
    """The rows of an ablation with their differences to `none` and to the full method, from finished runs.

    Differences are paired over the seeds that both sides have; with one seed, over images, which says nothing of
    training noise and gets no verdict.

    Args:
        store: an open database.
        rows: (label, expression) of every row: `none` first, the full method second.
        keys: the stages of the sweep; other runs are not looked at. None: of all runs the newest of equal cells.
        metric: of which the differences are.
        hidden: keys of runs; rows all of whose runs are among them are left out, but compared with all the same.

    Returns:
        Columns `columns(metric)`, in the order of `rows` within each setting; only rows that have runs with the metric.

    Raises:
        ValueError: no run has the metric.
    """
    known = metrics(store)
    if metric not in known:
        raise ValueError(f"no run has the metric '{metric}': there are {', '.join(known)}")
    full = rows[1][1]
    frame = runs(store, {"method": [method for _, method in rows]})
    wanted = _newest(frame) if keys is None else frame["key"].isin(set(keys))
    frame = frame[wanted & frame[metric].notna()].sort_values("seed")
    found: list[dict[str, Any]] = []
    for setting, part in frame.groupby(list(SETTING), dropna=False, sort=True):
        teachers = sorted(set(part["teacher"]) - {""}) or [""]
        for teacher in teachers:
            shown = part[part["teacher"].isin(("", teacher))]
            place = dict(zip(SETTING, setting, strict=True)) | {"teacher": teacher}
            aside = {method for method, keys in shown.groupby("method")["key"] if set(keys) <= set(hidden)}
            told = _setting_rows(store, place, shown, rows, full, known[metric])
            found += [row for row in told if row["expression"] not in aside]
    return pd.DataFrame(found, columns=columns(metric))


def _newest(frame: pd.DataFrame) -> pd.Series:
    """Of runs whose words are equal those of the newest run's variant, one a seed."""
    words = [*SETTING, "teacher", "method"]
    variant = frame.groupby(words, dropna=False)["variant"].transform("first")  # newest come first
    return frame["variant"].eq(variant) & ~frame.duplicated([*words, "variant", "seed"])


# ------------------------------------------------------------------------------------ ablations in a database

Parts = Mapping[tuple[str, str], Mapping[str, float]]
"""(method, its parameters and version as JSON) -> term -> weight."""


@dataclass(frozen=True)
class Ablation:
    """A method of which some terms were also trained without the others.

    Attributes:
        method: its expression.
        rows: (label, expression), as `contributions` takes them.
        terms: of the method, in order.
        on: expression -> its terms.
    """

    method: str
    rows: tuple[tuple[str, str], ...]
    terms: tuple[str, ...]
    on: Mapping[str, frozenset[str]]


def ablations(store: Store) -> list[Ablation]:
    """Every method in the database that has an ablation there, by name."""
    parts = _parts(store)
    found = []
    for method, full in sorted(parts.items()):
        several = len({name for name, _ in full}) > 1
        terms = _terms(full, several)
        on = {name: _terms(some, several) for name, some in parts.items() if name != method and _within(some, full)}
        on = {name: some for name, some in on.items() if some}
        if len(terms) > 1 and on:
            order = sorted(on, key=lambda name: (-len(on[name]), name))
            rows = (("none", "none"), ("full", method), *((_label(terms, on[name]), name) for name in order))
            everything = {"none": [], method: terms, **on}
            found.append(Ablation(method, rows, tuple(terms), {n: frozenset(t) for n, t in everything.items()}))
    return found


def _parts(store: Store) -> dict[str, Parts]:
    """Expression -> what it is made of, from one record of each."""
    r = schema.runs.c
    one_each = select(func.min(r.key)).where(r.kind == "student").group_by(r.method)
    with store.read() as connection:
        records = read_records(connection, connection.execute(one_each).scalars())
    found: dict[str, Parts] = {}
    for record in records.values():
        method = record.spec.get("method")
        parts = method.get("parts", []) if isinstance(method, dict) else []
        if record.cell and all(isinstance(part, dict) and isinstance(part.get("weights"), dict) for part in parts):
            found[record.cell.method] = {_identity(part): part["weights"] for part in parts}
    return found


def _identity(part: Mapping[str, Any]) -> tuple[str, str]:
    rest = {key: value for key, value in part.items() if key not in ("name", "weights")}
    return str(part.get("name")), json.dumps(rest, sort_keys=True)


def _within(some: Parts, full: Parts) -> bool:
    """Every term is in the other, with the same weight and parameters."""
    return all(weights.items() <= full.get(part, {}).items() for part, weights in some.items())


def _terms(parts: Parts, several: bool) -> list[str]:
    """Names of the terms; with their method's where there are several methods."""
    return [f"{name}.{term}" if several else term for (name, _), terms in parts.items() for term in terms]


def _label(terms: Sequence[str], on: Sequence[str]) -> str:
    """`without affinity, only adapt`."""
    off = [term for term in terms if term not in on]
    labels = [f"without {off[0]}"] if len(off) == 1 else []
    labels += [f"only {on[0]}"] if len(on) == 1 else []
    return ", ".join(labels) or f"without {', '.join(off)}"


def _setting_rows(
    store: Store,
    setting: dict[str, Any],
    frame: pd.DataFrame,
    rows: Sequence[tuple[str, str]],
    full: str,
    metric: MetricInfo,
) -> list[dict[str, Any]]:
    groups = {method: _Row(part) for method, part in frame.groupby("method")}
    few = [key for row in groups.values() if len(row.frame) == 1 for key in row.frame["key"]]
    states = image_states(store, list(frame["key"]) if few else [], metric.name)
    sides = {method: row.side(states, metric.name) for method, row in groups.items()}
    made = []
    for label, method in rows:
        if method not in sides:
            continue
        gain = compare(sides[method], sides["none"]) if method != "none" and "none" in sides else NO_DIFFERENCE
        cost = compare(sides[full], sides[method]) if method != full and full in sides else NO_DIFFERENCE
        made.append(
            {**setting, "row": label, "expression": method, **_accuracy(sides[method], metric.name)}
            | _difference("gain", gain, metric)
            | _difference("cost", cost, metric)
        )
    return made


def _accuracy(side: SeedScores, metric: str) -> dict[str, Any]:
    scores = list(side.scores.values())
    estimate = over_seeds(scores)
    if len(scores) == 1 and side.class_counts:
        estimate = over_images(next(iter(side.class_counts.values()))[1], side.metric)
    ends = {metric: estimate.value, f"{metric}_low": estimate.low, f"{metric}_high": estimate.high}
    return {"seeds": len(scores), **ends}


def _difference(name: str, gap: Difference, metric: MetricInfo) -> dict[str, Any]:
    return {
        name: gap.value,
        f"{name}_low": gap.low,
        f"{name}_high": gap.high,
        f"{name}_basis": gap.text if gap is not NO_DIFFERENCE else "",
        f"{name}_verdict": gap.verdict if metric.direction == "higher" else OTHER_WAY.get(gap.verdict, gap.verdict),
    }


def bracketed(value: float, low: float, high: float, sign: bool = False, factor: float = 100.0, digits: int = 1) -> str:
    """`+1.2 [+0.4, +2.0]`, by default in per cent; without brackets when there is no interval; "" without a value."""
    if math.isnan(value):
        return ""
    text, *ends = (f"{factor * number:{'+' if sign else ''}.{digits}f}" for number in (value, low, high))
    return text if math.isnan(low) else f"{text} [{ends[0]}, {ends[1]}]"
