"""Tables and figures of a comparison: pure functions from its sides to what the page Compare shows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from results import formats, sinks
from results.columns import Column
from results.differences import Differing, Gap, Side
from results.families import FamilyGap
from results.figures.looks import GREY, PALETTE, Looks


def colours(sides: Sequence[Side], look: Looks) -> dict[str, str]:
    """Label -> colour: that of the method on all pages, where no two sides have one method."""
    methods = [next(iter(side.records.values())).cell for side in sides]
    names = [cell.method if cell else "" for cell in methods]
    if len(set(names)) == len(names) and all(name in look.colours for name in names):
        return {side.label: look.colours[name] for side, name in zip(sides, names, strict=True)}
    return dict(zip((side.label for side in sides), PALETTE, strict=False))


def short(labels: Sequence[str]) -> list[str]:
    """Labels without the words that all of them share, where that leaves something that tells them apart.

    A model's stride is a word of its own: `none timm:a@8` and `ka timm:a@16` are `none @8` and `ka @16`.
    """
    words = [re.sub(r"(?<=\S)(@\d+)(?=\s|$)", r" \1", label).split() for label in labels]
    shared = set(words[0]).intersection(*words[1:])
    left = [" ".join(word for word in some if word not in shared) for some in words]
    return left if all(left) and len(set(left)) == len(left) else list(labels)


def scores(sides: Sequence[Side], column: Column) -> pd.DataFrame:
    """One row a side: seeds, mean of the metric over them, the score of each, and GMACs."""
    rows = []
    for side in sides:
        known = side.scores(column.name, {}).scores
        rows.append(
            {
                "run or row": sinks.visible(side.label),
                "seeds": ", ".join(map(str, side.records)),
                column.title: column.factor * float(np.mean(list(known.values()))) if known else math.nan,
                "of each seed": ", ".join(formats.cell(column, value) for value in known.values()),
                "GMACs": _macs(side) / 1e9,
            }
        )
    return pd.DataFrame(rows).round({column.title: (column.digits or 0) + 1, "GMACs": 3})


def costs(sides: Sequence[Side]) -> str:
    """What every later side costs, of what the first does, as Markdown; "" where all cost the same."""
    first, *others = sides
    names = dict(zip((side.label for side in sides), short([side.label for side in sides]), strict=True))
    said = []
    for side in others:
        share = 100 * _macs(side) / _macs(first)
        if not math.isnan(share) and round(share) != 100:
            ours, theirs = (sinks.markdown(names[one.label]) for one in (side, first))
            said.append(f"* {ours} costs {share:.0f} % of the multiply-adds of {theirs}.")
    return "\n".join(said)


def _macs(side: Side) -> float:
    """Multiply-adds of a side's model; NaN where they were not counted."""
    cost = next(iter(side.records.values())).cost
    return cost.macs if cost and cost.macs else math.nan


def gaps(found: Sequence[Gap], column: Column) -> pd.DataFrame:
    """One row a pair, called by what tells them apart: difference with interval, verdict, p-values, and what they rest
    on."""
    names = _names(found)
    return pd.DataFrame([_gap(gap, names, column) for gap in found])


def over_settings(found: Sequence[FamilyGap], column: Column) -> pd.DataFrame:
    """One row a pair of methods: how often a run of A beats one of B, and by how much, over all settings."""
    digits, unit = (column.digits or 0) + 1, "points" if column.unit == "%" else column.unit
    rows = []
    for gap in found:
        chance = [100 * n for n in (gap.improvement.value, gap.improvement.low, gap.improvement.high)]
        gain = [column.factor * n for n in (gap.gain.value, gap.gain.low, gap.gain.high)]
        rows.append(
            {
                "A": sinks.visible(gap.ours),
                "against B": sinks.visible(gap.theirs),
                "settings": gap.settings,
                "A's run is ahead [% of pairs]": "{:.0f} ({:.0f} to {:.0f})".format(*chance),
                f"IQM of the gain [{unit}]" if unit else "IQM of the gain": (
                    f"{gain[0]:+.{digits}f} ({gain[1]:+.{digits}f} to {gain[2]:+.{digits}f})"
                ),
                "A is": gap.verdict,
            }
        )
    return pd.DataFrame(rows)


def methods(sides: Sequence[Side]) -> tuple[str, ...]:
    """The methods of the sides, each once, in order; teachers' and translators' runs have none."""
    cells = [next(iter(side.records.values())).cell for side in sides]
    return tuple(dict.fromkeys(cell.method for cell in cells if cell and cell.method != "teacher"))


def more_seeds(found: Sequence[Gap]) -> str:
    """How many seeds would tell the pairs apart that cannot be, as Markdown."""
    names = _names(found)
    said = ((sinks.markdown(f"{names[gap.ours]} minus {names[gap.theirs]}"), gap.more) for gap in found if gap.more)
    return "\n".join(f"* {pair}: {more}" for pair, more in said)


def _names(found: Sequence[Gap]) -> dict[str, str]:
    """Label -> the words of it that tell it from the others."""
    labels = list(dict.fromkeys(label for gap in found for label in (gap.theirs, gap.ours)))
    return dict(zip(labels, short(labels), strict=True))


def _gap(gap: Gap, names: Mapping[str, str], column: Column) -> dict[str, Any]:
    factor, digits = column.factor, (column.digits or 0) + 1
    low, value, high = (factor * n for n in (gap.difference.low, gap.difference.value, gap.difference.high))
    interval = "" if math.isnan(low) else f"{low:+.{digits}f} to {high:+.{digits}f}"
    unit = "points" if column.unit == "%" else column.unit
    return {
        "A": sinks.visible(names[gap.ours]),
        "minus B": sinks.visible(names[gap.theirs]),
        f"difference [{unit}]" if unit else "difference": "" if math.isnan(value) else f"{value:+.{digits}f}",
        "95 % interval": interval,
        "A is": gap.reason or gap.verdict,
        "p": _p(gap.difference.p),
        "p, Holm": _p(gap.p_holm),
        "rests on": gap.difference.text if not gap.reason else "",
    }


def _p(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def differing(found: Sequence[Differing], labels: Sequence[str]) -> pd.DataFrame:
    """One row a thing that is not the same on all sides, a column a side."""
    rows = [
        {"of": one.section, "what": sinks.visible(one.name)}
        | {sinks.visible(label): sinks.visible(value) for label, value in zip(labels, one.values, strict=True)}
        for one in found
    ]
    return pd.DataFrame(rows)


def class_chart(classes: pd.DataFrame, shades: Mapping[str, str]) -> Any:
    """IoU [%] of every class on every side: a point a side."""
    labels = list(shades)
    rows = [
        {"class": row["class"], "run": label, "iou": 100 * value}
        for row in classes.to_dict("records")
        for label, value in zip(labels, row["iou"], strict=True)
    ]
    data = pd.DataFrame(rows).dropna()
    y = alt.Y("class:N", sort=list(classes["class"]), title=None, axis=alt.Axis(labelLimit=140))
    base = alt.Chart(data)
    spans = base.mark_rule(color=GREY, opacity=0.6).encode(y=y, x=alt.X("min(iou):Q"), x2="max(iou):Q")
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        y=y,
        x=alt.X("iou:Q", title="IoU [%]"),
        color=alt.Color("run:N", scale=_scale(shades), legend=None),
        tooltip=[alt.Tooltip("run:N"), alt.Tooltip("class:N"), alt.Tooltip("iou:Q", title="IoU [%]", format=".1f")],
    )
    return alt.layer(spans, points).properties(height=40 + 26 * len(classes))


def class_gap_chart(classes: pd.DataFrame, shades: Mapping[str, str]) -> Any:
    """Difference of every class from the first side [points], with intervals where there are any."""
    labels = list(shades)[1:]
    rows = [
        {"class": row["class"], "run": label, "delta": 100 * delta, "low": 100 * low, "high": 100 * high}
        for row in classes.to_dict("records")
        for label, delta, low, high in zip(labels, row["delta"], row["low"], row["high"], strict=True)
    ]
    data = pd.DataFrame(rows, columns=["class", "run", "delta", "low", "high"]).dropna(subset=["delta"])
    y = alt.Y("class:N", sort=list(classes["class"]), title=None, axis=alt.Axis(labelLimit=140))
    offset = alt.YOffset("run:N", sort=labels)
    colour = alt.Color("run:N", scale=_scale(shades), legend=None)
    zero = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(color=GREY).encode(x="x:Q")
    base = alt.Chart(data)
    bars = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.6, opacity=0.65)
    tips = [alt.Tooltip("run:N"), alt.Tooltip("class:N"), alt.Tooltip("delta:Q", format="+.1f")]
    tips += [alt.Tooltip("low:Q", format="+.1f"), alt.Tooltip("high:Q", format="+.1f")]
    title = "IoU minus the first's [points]"
    points = base.mark_point(filled=True, size=80, opacity=1)
    x = alt.X("delta:Q", title=title)
    return alt.layer(
        zero,
        bars.encode(y=y, yOffset=offset, x=alt.X("low:Q", title=title), x2="high:Q", color=colour),
        points.encode(y=y, yOffset=offset, x=x, color=colour, tooltip=tips),
    ).properties(height=40 + 26 * len(classes))


def _scale(shades: Mapping[str, str]) -> alt.Scale:
    return alt.Scale(domain=list(shades), range=list(shades.values()))


def both_ways(gaps: Mapping[str, float], most: int) -> tuple[list[str], list[str]]:
    """The names whose gap is largest, and those whose gap is smallest: at most so many each way, none in both."""
    order = sorted((name for name, gap in gaps.items() if not math.isnan(gap)), key=lambda name: -gaps[name])
    ahead = [name for name in order if gaps[name] >= 0][:most]
    behind = [name for name in reversed(order) if gaps[name] < 0][:most]
    return ahead, behind
