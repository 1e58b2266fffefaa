"""What accuracy costs: the metric against GMACs, latency, parameters or training, with the frontier and its doubt."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from results import formats, sinks
from results.figures.looks import Looks, colour_of, finished, looks, methods, shape_of
from results.leaderboard import columns_of, metric_of
from results.statistics import pareto

COSTS = ("macs", "latency_ms", "parameters", "training_s")
"""Columns that can be the cost."""
PICKED = "picked"
"""Name of the selection of points: its field is `row`."""
SIDE_BY_SIDE = 0.035
"""Points of equal cost are set this far apart, as a fraction of the cost, so that their intervals can be told apart."""
FILLED = {"on": 1.0, "perhaps": 0.4, "off": 0.0}
"""How much a point is filled, by what is known of its standing on the frontier."""


def accuracy_against_cost(
    board: pd.DataFrame,
    look: Looks | None = None,
    cost: str = "macs",
    doubt: Mapping[str, str] | None = None,
    height: int = 460,
) -> alt.LayerChart | None:
    """The metric against a cost (logarithmic), with intervals and the Pareto frontier of the rows shown.

    Args:
        cost: one of `COSTS`.
        doubt: row -> "on", "perhaps" or "off" the frontier; every point is filled without it.

    Returns:
        None when the cost of no row is known.
    """
    look = look or looks(board)
    data = points(board, cost, doubt)
    if not len(data):
        return None
    metric = columns_of(board)[metric_of(board)]
    title = sinks.visible(metric.title)
    x = _log_axis(data, cost_title(board, cost))
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False, padding=16))
    colour, shape = colour_of(data["method"], look), shape_of(data["what"], look)
    base = alt.Chart(data)
    frontier = (
        alt.Chart(_frontier(data, metric.direction))
        .mark_line(interpolate="step-after", strokeDash=[5, 4], color=look.ink, opacity=0.45, strokeWidth=1.5)
        .encode(x=x, y=y, order="place:Q")
    )
    bars = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.6, opacity=0.65)
        .encode(x=x, y=alt.Y("low:Q", title=title), y2="high:Q", color=colour)
    )
    fill = alt.Fill("method:N", scale=colour["scale"], legend=None)
    filled = alt.FillOpacity(
        "frontier:O", scale=alt.Scale(domain=list(FILLED), range=list(FILLED.values())), legend=None
    )
    dots = (
        base.mark_point(size=95, strokeWidth=2, opacity=1)
        .encode(x=x, y=y, color=colour, shape=shape, fill=fill, fillOpacity=filled, tooltip=_tooltip(board, cost))
        .add_params(alt.selection_point(name=PICKED, fields=["row"], empty=False))
    )
    strides = (
        alt.Chart(_labels(data))
        .mark_text(dy=-12, fontSize=11, color=look.ink, opacity=0.75)
        .encode(x=x, y=alt.Y("top:Q", title=title), text="label:N")
    )
    chart: alt.LayerChart = finished(alt.layer(frontier, bars, dots, strides), look, height)
    return chart


def cost_title(board: pd.DataFrame, cost: str) -> str:
    """What stands below the axis."""
    column = columns_of(board)[cost]
    if cost == "macs":
        return "GMACs of one image (1 MAC = 2 FLOPs)"
    more = {"latency_ms": "latency of one image", "training_s": "training, with its part of its teacher's"}
    return f"{more.get(cost, column.heading)} [{column.unit}]"


def points(board: pd.DataFrame, cost: str = "macs", doubt: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The rows in the units of the axes, rows of equal cost set side by side; without those of unknown cost."""
    columns, metric = columns_of(board), metric_of(board)
    data = board[["method", "student", "stride", "teacher", "recipe", "seeds", "verdict", "row"]].copy()
    data["stride"] = data["stride"].astype(int)
    for name, source in {"value": metric, "low": f"{metric}_low", "high": f"{metric}_high"}.items():
        data[name] = columns[source].factor * board[source].astype(float)
    data["cost"] = columns[cost].factor * board[cost].astype(float)
    data["what"] = data["student"].where(data["method"] != "teacher", "teacher")
    data["accuracy"] = formats.cells(columns[metric], board)
    data["difference"] = [text or "none to compare with" for text in formats.cells(columns["delta"], board)]
    data["basis"], data["gap"] = board[f"{metric}_basis"], board["delta_basis"]
    data["frontier"] = "on" if doubt is None else [doubt.get(row, "off") for row in board["row"]]
    data = data[(data["cost"] > 0) & data["value"].notna()].reset_index(drop=True)
    data["order"] = data["method"].map({name: place for place, name in enumerate(methods(data["method"]))})
    data = data.sort_values(["order", "student"], ignore_index=True)
    group = data.groupby("cost")["order"]
    aside = group.cumcount() - (group.transform("size") - 1) / 2
    data["place"] = data["cost"] * np.exp(SIDE_BY_SIDE * aside)
    return data


def _log_axis(data: pd.DataFrame, title: str) -> alt.X:
    """A logarithmic axis with round ticks, wide enough for a single cost."""
    low, high = float(data["place"].min()) / 1.2, float(data["place"].max()) * 1.2
    ticks = [mantissa * 10.0**power for power in range(-6, 8) for mantissa in (1, 2, 3, 5)]
    axis = alt.Axis(values=[tick for tick in ticks if low <= tick <= high], format="~g")
    return alt.X("place:Q", title=title, scale=alt.Scale(type="log", nice=False, domain=[low, high]), axis=axis)


def _frontier(data: pd.DataFrame, direction: str) -> pd.DataFrame:
    """The rows that no other beats in both cost and accuracy, cheapest first; one a cost."""
    front = data[pareto(data["cost"], data["value"] if direction == "higher" else -data["value"])]
    return front.sort_values("cost").drop_duplicates("cost")[["place", "value"]]


def _labels(data: pd.DataFrame) -> pd.DataFrame:
    """`@16` above the topmost interval of each model's points that lie together."""
    tops = data.assign(top=data["high"].fillna(data["value"]), near=np.log(data["cost"]).round(1))
    grouped = tops.groupby(["stride", "near"], as_index=False).agg(top=("top", "max"), place=("cost", "median"))
    return grouped.assign(label="@" + grouped["stride"].astype(str))


def _tooltip(board: pd.DataFrame, cost: str) -> list[alt.Tooltip]:
    columns = columns_of(board)
    fields = {
        "method": "method",
        "accuracy": sinks.visible(columns[metric_of(board)].title),
        "basis": "interval",
        "student": "student",
        "stride": "output stride",
        "teacher": "teacher",
        "difference": sinks.visible(columns["delta"].title),
        "gap": "compared",
        "verdict": "verdict",
        "seeds": "seeds",
        "frontier": "frontier",
    }
    tips = [alt.Tooltip(f"{name}:N", title=title) for name, title in fields.items()]
    return [*tips, alt.Tooltip("cost:Q", title=columns[cost].title, format=".3~g")]
