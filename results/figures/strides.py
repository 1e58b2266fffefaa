"""The paper's picture: the metric over the output stride or its cost, a line a method; and the differences as a map."""

from __future__ import annotations

import altair as alt
import pandas as pd

from results import formats, sinks
from results.figures.looks import Looks, colour_of, finished, looks, methods
from results.figures.tradeoff import cost_title, points
from results.leaderboard import columns_of, metric_of

NAME_HEIGHT = 0.045
"""Of a name at the end of a line, as a fraction of the values' range."""
MOST_LABELS = 7
"""Lines that are named at their ends; the names of more would lie over one another."""


def metric_over_stride(
    rows: pd.DataFrame, look: Looks | None = None, over: str = "stride", height: int = 440
) -> alt.LayerChart | None:
    """The metric over the output stride, or over a cost (logarithmic): a line a method, its interval as a band; `none`
    dashed, teachers as level lines.

    Args:
        rows: of one student and recipe (`results.strides.one_setting`).
        over: "stride", or a column that is a cost.

    Returns:
        None when there is no row.
    """
    look = look or looks(rows)
    data = points(rows, "macs" if over == "stride" else over)
    data, teachers = data[data["method"] != "teacher"], data[data["method"] == "teacher"]
    if not len(data):
        return None
    title = sinks.visible(columns_of(rows)[metric_of(rows)].title)
    x = _x(rows, data, over)
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False, padding=12))
    colour = colour_of(data["method"], look)
    base = alt.Chart(data)
    layers: list[alt.Chart] = [
        base.transform_filter("isValid(datum.low)")
        .mark_area(opacity=0.13)
        .encode(x=x, y=alt.Y("low:Q", title=title), y2="high:Q", color=colour),
        base.mark_line(strokeWidth=2.2).encode(
            x=x,
            y=y,
            color=colour,
            strokeDash=alt.condition("datum.method === 'none'", alt.value([6, 4]), alt.value([1, 0])),
            detail="method:N",
        ),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=colour, tooltip=_tooltip(rows)),
    ]
    if len(set(data["method"])) <= MOST_LABELS and not look.printed:
        layers.append(_ends(data, teachers, over).encode(x=x, y=y, color=colour))
    layers += _teachers(teachers, look, y)
    chart: alt.LayerChart = finished(alt.layer(*layers), look, height)
    return chart


def _x(rows: pd.DataFrame, data: pd.DataFrame, over: str) -> alt.X:
    if over == "stride":
        order = sorted(data["stride"].unique())
        axis = alt.Axis(labelAngle=0, grid=False)
        return alt.X("stride:O", title="output stride (cheaper to the right)", sort=order, axis=axis)
    low, high = float(data["cost"].min()) / 1.15, float(data["cost"].max()) * 1.3
    ticks = [mantissa * 10.0**power for power in range(-6, 8) for mantissa in (1, 2, 3, 5)]
    axis = alt.Axis(values=[tick for tick in ticks if low <= tick <= high], format="~g")
    return alt.X(
        "cost:Q", title=cost_title(rows, over), scale=alt.Scale(type="log", nice=False, domain=[low, high]), axis=axis
    )


def _ends(data: pd.DataFrame, teachers: pd.DataFrame, over: str) -> alt.Chart:
    """Names of the lines, beside their last points; the teachers' lines widen the scale that they are set on."""
    place = "stride" if over == "stride" else "cost"
    last = data.sort_values(place).groupby("method", as_index=False).last().sort_values("value", ignore_index=True)
    tops, bottoms = data["high"].fillna(data["value"]), data["low"].fillna(data["value"])
    span = max(tops.max(), teachers["value"].max()) - min(bottoms.min(), teachers["value"].min())
    last["value"] = _apart(list(last["value"]), NAME_HEIGHT * float(span))
    named = alt.Chart(last.assign(said=last["method"].map(sinks.visible)))
    chart: alt.Chart = named.mark_text(align="left", dx=9, fontSize=12, fontWeight=500).encode(text="said:N")
    return chart


def _apart(values: list[float], least: float) -> list[float]:
    """Rising values moved apart until neighbours differ by at least so much, their middle kept."""
    placed = list(values)
    for place in range(1, len(placed)):
        placed[place] = max(placed[place], placed[place - 1] + least)
    aside = (sum(placed) - sum(values)) / max(len(values), 1)
    return [value - aside for value in placed]


def _teachers(teachers: pd.DataFrame, look: Looks, y: alt.Y) -> list[alt.Chart]:
    """Level lines, with their names."""
    if not len(teachers):
        return []
    named = teachers.assign(said=["teacher " + sinks.visible(s) for s in teachers["student"]])
    rule = alt.Chart(named).mark_rule(color=look.ink, strokeDash=[2, 3], strokeWidth=1.5).encode(y=y)
    name = alt.Chart(named).mark_text(align="left", baseline="bottom", dx=4, dy=-3, color=look.ink, fontSize=11)
    return [rule, name.encode(y=y, x=alt.value(0), text="said:N")]


def _tooltip(rows: pd.DataFrame) -> list[alt.Tooltip]:
    columns = columns_of(rows)
    fields = {
        "method": "method",
        "stride": "output stride",
        "accuracy": sinks.visible(columns[metric_of(rows)].title),
        "basis": "interval",
        "difference": sinks.visible(columns["delta"].title),
        "verdict": "verdict",
        "seeds": "seeds",
    }
    return [alt.Tooltip(f"{name}:N", title=title) for name, title in fields.items()]


def gain_map(rows: pd.DataFrame, look: Looks | None = None) -> alt.LayerChart | None:
    """Δ to `none` as a map of methods and strides; what is no clear difference is in pale print.

    Args:
        rows: of one student and recipe.

    Returns:
        None when no row can be compared.
    """
    look = look or looks(rows)
    columns, metric = columns_of(rows), columns_of(rows)[metric_of(rows)]
    data = rows[rows["delta"].notna()][["method", "stride", "verdict", "seeds", "delta_basis"]].copy()
    if not len(data):
        return None
    shown = rows.loc[data.index]
    data["stride"] = data["stride"].astype(int)
    data["delta"] = columns["delta"].factor * shown["delta"].astype(float)
    data["gain"] = data["delta"] if metric.direction == "higher" else -data["delta"]
    digits = 1 if columns["delta"].digits is None else columns["delta"].digits
    data["text"] = [f"{value:+.{digits}f}" for value in data["delta"]]
    data["said"] = formats.cells(columns["delta"], shown)
    data["clear"] = data["verdict"].isin(formats.HOLDS)
    reach = float(data["gain"].abs().max()) or 1.0
    x = alt.X("stride:O", title="output stride", sort=sorted(data["stride"].unique()), axis=alt.Axis(labelAngle=0))
    y = alt.Y("method:N", title=None, sort=methods(data["method"]), axis=alt.Axis(labelLimit=260))
    base = alt.Chart(data).encode(x=x, y=y)
    # From orange over the ground's own colour to blue: told apart with any eyes.
    middle = "#20242c" if look.dark else "#f5f6f8"
    scale = alt.Scale(domain=[-reach, 0, reach], range=["#d55e00", middle, "#0072b2"], interpolate="rgb")
    tips = {
        "method": "method",
        "stride": "output stride",
        "said": columns["delta"].title,
        "verdict": "verdict",
        "delta_basis": "compared",
        "seeds": "seeds",
    }
    cells = base.mark_rect(stroke="white" if look.printed else "transparent").encode(
        color=alt.Color("gain:Q", scale=scale, legend=None),
        tooltip=[alt.Tooltip(f"{name}:N", title=sinks.visible(title)) for name, title in tips.items()],
    )
    strong = f"abs(datum.gain) > {0.62 * reach}"
    texts = base.mark_text(fontSize=12).encode(
        text="text:N",
        color=alt.condition(strong, alt.value("white"), alt.value(look.ink)),
        opacity=alt.condition("datum.clear", alt.value(1.0), alt.value(0.7)),
    )
    chart: alt.LayerChart = finished(alt.layer(cells, texts), look, 60 + 34 * data["method"].nunique())
    return chart
