"""Figures of the board: pure functions from the leaderboard to Altair charts."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from results import formats, sinks
from results.leaderboard import columns_of, metric_of
from results.statistics import pareto

GREY, INK = "#9ca3af", "#1f2937"
PALETTE = (
    "#2563eb", "#ea580c", "#16a34a", "#9333ea", "#0891b2", "#dc2626", "#ca8a04", "#db2777", "#4d7c0f", "#0f766e",
    "#7c2d12", "#3730a3", "#f59e0b", "#a21caf", "#65a30d", "#0ea5e9", "#be123c", "#14b8a6", "#78716c", "#8b5cf6",
)  # fmt: skip
FIXED = {"none": GREY, "teacher": INK}
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-right", "triangle-left", "cross")
TEACHER_SHAPE = "circle"
GLYPHS = dict(zip(SHAPES, "●■▲◆▼▶◀✚", strict=True))
"""Vega-Lite's shapes as characters."""
SIDE_BY_SIDE = 0.035
"""Points of equal cost are set this far apart, as a fraction of the cost, so that their intervals can be told apart."""


@dataclass(frozen=True)
class Looks:
    """The colour of every method and the shape of every student of a database, whatever is shown of it.

    Attributes:
        colours: method -> colour.
        shapes: student, or "teacher" -> one of Vega-Lite's shapes.
    """

    colours: Mapping[str, str]
    shapes: Mapping[str, str]


def looks(runs: pd.DataFrame) -> Looks:
    """How methods and students are drawn: `none` grey, teachers dark, all others in the order of their names.

    Args:
        runs: all runs of the database, or any frame with `method` and `student`.
    """
    students = runs[runs["method"].notna()]
    methods = sorted(set(students["method"]) - FIXED.keys())
    models = sorted(set(students.loc[students["method"] != "teacher", "student"]))
    colours = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(methods)}
    shapes = {name: SHAPES[place % len(SHAPES)] for place, name in enumerate(models)}
    return Looks({**FIXED, **colours}, {**shapes, "teacher": TEACHER_SHAPE})


def legend(board: pd.DataFrame, look: Looks) -> str:
    """The legend of all figures, as HTML that takes as many lines as it needs: every method and student, in full."""
    methods = _methods(board)
    students = list(dict.fromkeys(board.loc[board["method"] != "teacher", "student"]))
    entries = [(look.colours[name], GLYPHS["circle"], name) for name in methods]
    if len(students) > 1:
        entries += [(INK, GLYPHS[look.shapes[name]], name) for name in students]
    drawn = (
        f'<span style="display:inline-block;margin-right:18px"><span style="color:{colour}">{glyph}</span>'
        f" {html.escape(sinks.visible(name))}</span>"
        for colour, glyph, name in entries
    )
    return f'<div style="font-size:13px;line-height:1.9">{"".join(drawn)}</div>'


def swatches(colours: Mapping[str, str]) -> str:
    """A legend of things and their colours, as HTML that takes as many lines as it needs."""
    drawn = (
        f'<span style="display:inline-block;margin-right:18px"><span style="color:{colour}">{GLYPHS["circle"]}</span>'
        f" {html.escape(sinks.visible(name))}</span>"
        for name, colour in colours.items()
    )
    return f'<div style="font-size:13px;line-height:1.9">{"".join(drawn)}</div>'


def accuracy_against_cost(board: pd.DataFrame, look: Looks | None = None, height: int = 420) -> alt.LayerChart:
    """The metric against GMACs (logarithmic), with intervals and the Pareto frontier of the rows shown."""
    data = _points(board)
    x = _log_axis(data)
    metric = columns_of(board)[metric_of(board)]
    title = metric.title
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False, padding=16))
    colour, shape = _scales(data, look or looks(board))
    base = alt.Chart(data)
    frontier = (
        alt.Chart(_frontier(data, metric.direction))
        .mark_line(interpolate="step-after", strokeDash=[5, 4], color=INK, opacity=0.45, strokeWidth=1.5)
        .encode(x=x, y=y, order="place:Q")
    )
    bars = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.6, opacity=0.65)
        .encode(x=x, y=alt.Y("low:Q", title=title), y2="high:Q", color=colour)
    )
    points = base.mark_point(filled=True, size=95, opacity=1).encode(
        x=x,
        y=y,
        color=colour,
        shape=shape,
        tooltip=_tooltip("accuracy", board),
    )
    strides = (
        alt.Chart(_labels(data))
        .mark_text(dy=-12, fontSize=11, color=INK, opacity=0.75)
        .encode(x=x, y=alt.Y("top:Q", title=title), text="label:N")
    )
    return _finished(alt.layer(frontier, bars, points, strides), height)


def gain_over_none(board: pd.DataFrame, look: Looks | None = None, height: int = 420) -> alt.LayerChart | None:
    """Δ to `none` [points] by output stride, with intervals; None when no row can be compared."""
    data = _points(board)
    data = data[data["delta"].notna()]
    if not len(data):
        return None
    order = sorted(data["stride"].unique())
    title = f"Δ none [{columns_of(board)['delta'].unit} of {columns_of(board)[metric_of(board)].heading}]"
    x = alt.X("stride:O", title="output stride", sort=order, axis=alt.Axis(labelAngle=0, grid=False))
    offset = alt.XOffset("line:N", sort=list(dict.fromkeys(data["line"])))
    colour, shape = _scales(data, look or looks(board))
    zero = alt.Chart(pd.DataFrame({"y": [0.0]})).mark_rule(color=INK, opacity=0.5).encode(y="y:Q")
    base = alt.Chart(data)
    bars = (
        base.transform_filter("isValid(datum.delta_low)")
        .mark_rule(strokeWidth=1.6, opacity=0.65)
        .encode(x=x, xOffset=offset, y=alt.Y("delta_low:Q", title=title), y2="delta_high:Q", color=colour)
    )
    points = base.mark_point(filled=True, size=95, opacity=1).encode(
        x=x,
        xOffset=offset,
        y=alt.Y("delta:Q", title=title, scale=alt.Scale(padding=16)),
        color=colour,
        shape=shape,
        tooltip=_tooltip("difference", board),
    )
    return _finished(alt.layer(zero, bars, points), height)


def class_bars(per_class: pd.DataFrame, beside: pd.DataFrame | None = None, height: int = 0) -> alt.LayerChart:
    """IoU [%] of every class; beside it, as a tick, that of `none`."""
    data = per_class[["class", "iou"]].assign(percent=100 * per_class["iou"])
    y = alt.Y("class:N", sort=list(data["class"]), title=None)
    bars = (
        alt.Chart(data)
        .mark_bar(color=PALETTE[0], height={"band": 0.65})
        .encode(
            x=alt.X("percent:Q", title="IoU [%]", scale=alt.Scale(domain=[0, 100])),
            y=y,
            tooltip=[alt.Tooltip("class:N"), alt.Tooltip("percent:Q", title="IoU [%]", format=".1f")],
        )
    )
    layers: list[alt.Chart] = [bars]
    if beside is not None:
        other = beside[["class", "iou"]].assign(percent=100 * beside["iou"])
        ticks = alt.Chart(other).mark_tick(color=INK, thickness=2.5, height={"band": 0.8})
        tip = [alt.Tooltip("class:N"), alt.Tooltip("percent:Q", title="none: IoU [%]", format=".1f")]
        layers.append(ticks.encode(x="percent:Q", y=y, tooltip=tip))
    return _finished(alt.layer(*layers), height or 40 + 24 * len(data))


def _points(board: pd.DataFrame) -> pd.DataFrame:
    """The rows in the units of the axes, rows of equal cost set side by side."""
    columns, metric = columns_of(board), metric_of(board)
    data = board[["method", "student", "stride", "teacher", "recipe", "seeds", "verdict"]].copy()
    data["stride"] = data["stride"].astype(int)
    numbers = {"value": metric, "low": f"{metric}_low", "high": f"{metric}_high"}
    for name, source in (numbers | {n: n for n in ("delta", "delta_low", "delta_high")}).items():
        data[name] = columns[source].factor * board[source].astype(float)
    data["gmacs"] = board["macs"].astype(float) / 1e9
    data["what"] = data["student"].where(data["method"] != "teacher", "teacher")
    data["line"] = data["method"] + " " + data["student"]
    data["accuracy"] = formats.cells(columns[metric], board)
    data["difference"] = [text or "none to compare with" for text in formats.cells(columns["delta"], board)]
    data["basis"] = board[f"{metric}_basis"]
    data["gap"] = board["delta_basis"]
    data = data[(data["gmacs"] > 0) & data["value"].notna()].reset_index(drop=True)
    data["order"] = data["method"].map({name: place for place, name in enumerate(_methods(data))})
    data = data.sort_values(["order", "student"], ignore_index=True)
    group = data.groupby("gmacs")["order"]
    aside = group.cumcount() - (group.transform("size") - 1) / 2
    data["place"] = data["gmacs"] * np.exp(SIDE_BY_SIDE * aside)
    return data


def _log_axis(data: pd.DataFrame) -> alt.X:
    """A logarithmic axis with round ticks, wide enough for a single cost."""
    low, high = float(data["place"].min()) / 1.2, float(data["place"].max()) * 1.2
    ticks = [mantissa * 10.0**power for power in range(-4, 6) for mantissa in (1, 2, 3, 5)]
    axis = alt.Axis(values=[tick for tick in ticks if low <= tick <= high], format="~g")
    return alt.X(
        "place:Q",
        title="GMACs of one image (1 MAC = 2 FLOPs)",
        scale=alt.Scale(type="log", nice=False, domain=[low, high]),
        axis=axis,
    )


def _frontier(data: pd.DataFrame, direction: str) -> pd.DataFrame:
    """The rows that no other beats in both cost and accuracy, cheapest first; one a cost."""
    front = data[pareto(data["gmacs"], data["value"] if direction == "higher" else -data["value"])]
    return front.sort_values("gmacs").drop_duplicates("gmacs")[["place", "value"]]


def _labels(data: pd.DataFrame) -> pd.DataFrame:
    """`@16` above the topmost interval of each model."""
    tops = data.assign(top=data["high"].fillna(data["value"]))
    grouped = tops.groupby(["student", "stride", "gmacs"], as_index=False)["top"].max()
    return grouped.assign(place=grouped["gmacs"], label="@" + grouped["stride"].astype(str))


def _methods(data: pd.DataFrame) -> list[str]:
    """The methods that occur: `none` first, the teacher last."""
    return sorted(set(data["method"]), key=lambda name: (name == "teacher", name != "none", name))


def _scales(data: pd.DataFrame, look: Looks) -> tuple[alt.Color, alt.Shape]:
    """Colours and shapes of what is drawn; the legend stands beside the figures."""
    methods, students = _methods(data), list(dict.fromkeys(data["what"]))
    colours = alt.Scale(domain=methods, range=[look.colours[name] for name in methods])
    shapes = alt.Scale(domain=students, range=[look.shapes[name] for name in students])
    return alt.Color("method:N", scale=colours, legend=None), alt.Shape("what:N", scale=shapes, legend=None)


def _tooltip(first: str, board: pd.DataFrame) -> list[alt.Tooltip]:
    columns = columns_of(board)
    fields = {
        "method": "method",
        "student": "student",
        "stride": "output stride",
        "teacher": "teacher",
        "accuracy": columns[metric_of(board)].title,
        "basis": "interval",
        "difference": columns["delta"].title,
        "gap": "compared",
        "verdict": "verdict",
        "seeds": "seeds",
    }
    order = sorted(fields, key=lambda name: name not in ("method", first))
    tips = [alt.Tooltip(f"{name}:N", title=fields[name]) for name in order]
    return [*tips, alt.Tooltip("gmacs:Q", title="GMACs", format=".3~g")]


def _finished(chart: Any, height: int) -> alt.LayerChart:
    """The look that all figures share."""
    axis = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500, "gridColor": "#eef0f3"}
    finished: alt.LayerChart = (
        chart.properties(height=height, width="container")
        .configure_axis(**axis, domainColor="#cbd5e1", tickColor="#cbd5e1", titlePadding=10)
        .configure_legend(labelFontSize=12, titleFontSize=12, symbolSize=90)
        .configure_view(strokeWidth=0)
    )
    return finished
