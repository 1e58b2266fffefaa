"""What each term contributes: the gain over `none` of a method in full, without terms, and with one only."""

from __future__ import annotations

import altair as alt
import pandas as pd

from results import sinks
from results.figures.looks import Looks, finished


def term_gains(table: pd.DataFrame, look: Looks, colour: str) -> alt.LayerChart | None:
    """The gain of every row of an ablation over `none`, with interval; None when nothing can be compared.

    Args:
        table: of one setting and teacher, as `results.ablation.contributions` gives it.
        colour: of the method in full.
    """
    data = table[table["gain"].notna()].copy()
    if not len(data):
        return None
    data["said"] = data["row"].map(sinks.visible)
    numbers = ["gain", "gain_low", "gain_high"]
    data[numbers] = 100 * data[numbers].astype(float)
    data["text"] = [f"{v:+.1f} ({a:+.1f} to {b:+.1f})" for v, a, b in data[numbers].to_numpy()]
    data["full"] = data["row"].eq("full")
    title = "gain over none [points of mIoU]"
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
