"""What each term contributes: the gain over `none` of a method in full, without terms, and with one only."""

from __future__ import annotations

import altair as alt
import pandas as pd

from results import sinks
from results.columns import METRICS, Column, metric_column
from results.figures.looks import Looks, finished
from results.metrics import HEADLINE

MIOU = metric_column(METRICS[HEADLINE])


def term_gains(table: pd.DataFrame, look: Looks, colour: str, metric: Column = MIOU) -> alt.LayerChart | None:
    """The gain of every row of an ablation over `none`, with interval; None when nothing can be compared.

    Args:
        table: of one setting and teacher, as `results.ablation.contributions` gives it.
        colour: of the method in full.
        metric: of which the gains are.
    """
    data = table[table["gain"].notna()].copy()
    if not len(data):
        return None
    data["said"] = data["row"].map(sinks.visible)
    numbers = ["gain", "gain_low", "gain_high"]
    data[numbers] = metric.factor * data[numbers].astype(float)
    digits = metric.digits or 0
    data["text"] = [f"{v:+.{digits}f} ({a:+.{digits}f} to {b:+.{digits}f})" for v, a, b in data[numbers].to_numpy()]
    data["full"] = data["row"].eq("full")
    unit = f"points of {metric.heading}" if metric.unit == "%" else metric.title
    title = sinks.visible(f"gain over none [{unit}]")
    y = alt.Y("said:N", title=None, sort=list(data["said"]), axis=alt.Axis(labelLimit=260))
    fields = {"row": "row", "expression": "method", "text": "gain", "gain_verdict": "verdict", "gain_basis": "compared"}
    tips = [alt.Tooltip(f"{name}:N", title=head) for name, head in {**fields, "seeds": "seeds"}.items()]
    base = alt.Chart(data)
    zero = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(color=look.ink, opacity=0.5).encode(x="x:Q")
    bars = base.mark_bar(color=colour, height={"band": 0.55}).encode(
        x=alt.X("gain:Q", title=title),
        y=y,
        opacity=alt.condition("datum.full", alt.value(0.85), alt.value(0.45)),
        tooltip=tips,
    )
    ends = (
        base.transform_filter("isValid(datum.gain_low)")
        .mark_rule(color=look.ink, strokeWidth=1.6)
        .encode(x=alt.X("gain_low:Q", title=title), x2="gain_high:Q", y=y)
    )
    chart: alt.LayerChart = finished(alt.layer(bars, zero, ends), look, 56 + 34 * len(data))
    return chart
