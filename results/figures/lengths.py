"""What a method gains, over the length of training: a line a method, with intervals side by side."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from results import formats, sinks
from results.figures.looks import Looks, colour_of, finished, looks, methods
from results.leaderboard import columns_of
from results.statistics import IMAGES_ONLY

SIDE_BY_SIDE = 0.018
"""The points of one length are set this far apart, as a fraction of it, so that their intervals can be told apart."""
WIDEST = 0.2
"""So far apart are the outermost of many, so that they stay within the axis, and away from the next length."""

ONE_SEED = "; hollow, dashed: one seed, interval over images"


def gain_over_length(rows: pd.DataFrame, look: Looks | None = None, height: int = 380) -> alt.LayerChart | None:
    """Δ to `none` at equal length over the iterations of training (logarithmic); the level line at 0 is `none`.

    A point whose interval is over images alone, since it rests on one seed, is hollow, and its interval dashed.

    Args:
        rows: as `results.lengths.over_lengths` gives them.

    Returns:
        None when no row can be compared with `none`.
    """
    look = look or looks(rows)
    compared = rows[rows["delta"].notna()]
    if not len(compared):
        return None
    data = _points(rows, compared)
    lengths = sorted(data["iterations"].unique())
    x = alt.X(
        "place:Q",
        title="training [iterations]" + (ONE_SEED if data["one_seed"].any() else ""),
        scale=alt.Scale(type="log", nice=False, domain=[lengths[0] / 1.12, lengths[-1] * 1.12]),
        axis=alt.Axis(values=lengths, format="d", grid=False),
    )
    title = sinks.visible(columns_of(rows)["delta"].title)
    y = alt.Y("gain:Q", title=title, scale=alt.Scale(zero=True, padding=12))
    colour = colour_of(data["method"], look)
    base = alt.Chart(data).encode(x=x, color=colour)
    level = alt.Chart(pd.DataFrame({"gain": [0.0]})).mark_rule(strokeDash=[6, 4], color=look.colours["none"])
    intervals = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.6, opacity=0.65)
    layers = [
        level.encode(y=y),
        base.mark_line(strokeWidth=2.2).encode(y=y, detail="method:N"),
        intervals.encode(
            y=alt.Y("low:Q", title=title),
            y2="high:Q",
            strokeDash=alt.condition("datum.one_seed", alt.value([3, 3]), alt.value([1, 0])),
        ),
        base.transform_filter("datum.one_seed")
        .mark_point(filled=False, size=70, strokeWidth=2, opacity=1)
        .encode(y=y, tooltip=_tooltip(title)),
        base.transform_filter("!datum.one_seed")
        .mark_point(filled=True, size=70, opacity=1)
        .encode(y=y, tooltip=_tooltip(title)),
    ]
    chart: alt.LayerChart = finished(alt.layer(*layers), look, height)
    return chart


def _points(rows: pd.DataFrame, compared: pd.DataFrame) -> pd.DataFrame:
    """Gains in the units of the axis, and where they stand on it."""
    column = columns_of(rows)["delta"]
    data = compared[["method", "iterations", "verdict", "seeds", "delta_basis"]].copy()
    for name, source in {"gain": "delta", "low": "delta_low", "high": "delta_high"}.items():
        data[name] = column.factor * compared[source].astype(float)
    data["one_seed"] = compared["delta_basis"].str.contains(IMAGES_ONLY, regex=False)
    data["said"] = formats.cells(column, compared)
    data["iterations"] = data["iterations"].astype(int)
    order = data["method"].map({name: place for place, name in enumerate(methods(data["method"]))})
    place, count = (order.groupby(data["iterations"]).transform(how) for how in ("rank", "count"))
    step = np.minimum(SIDE_BY_SIDE, WIDEST / count)
    data["place"] = data["iterations"] * np.exp(step * (place - (count + 1) / 2))
    return data


def _tooltip(title: str) -> list[alt.Tooltip]:
    fields = {
        "method": "method",
        "iterations": "iterations",
        "said": title,
        "verdict": "verdict",
        "delta_basis": "compared",
        "seeds": "seeds",
    }
    return [alt.Tooltip(f"{name}:N", title=shown) for name, shown in fields.items()]
