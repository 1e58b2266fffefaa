"""Scores class by class: of one row, and the difference between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import altair as alt
import pandas as pd

from results import sinks
from results.figures.looks import PALETTE, SHAPES, Looks, finished

PLAIN = Looks({}, {})


def class_bars(
    per_class: pd.DataFrame, beside: pd.DataFrame | None = None, look: Looks = PLAIN, height: int = 0
) -> alt.LayerChart:
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
        ticks = alt.Chart(other).mark_tick(color=look.ink, thickness=2.5, height={"band": 0.8})
        tip = [alt.Tooltip("class:N"), alt.Tooltip("percent:Q", title="none: IoU [%]", format=".1f")]
        layers.append(ticks.encode(x="percent:Q", y=y, tooltip=tip))
    chart: alt.LayerChart = finished(alt.layer(*layers), look, height or 40 + 24 * len(data))
    return chart


def class_intervals(table: pd.DataFrame, look: Looks, colour: str, title: str = "IoU [%]") -> alt.LayerChart:
    """Every class's score with its interval; the other row's as a tick.

    Args:
        table: as `results.classes.class_table` gives it, in the order to be drawn.
        colour: of the row's method.
    """
    data = _percent(table)
    y = alt.Y("class:N", sort=list(data["class"]), title=None, axis=alt.Axis(labelLimit=160))
    x = alt.X("iou:Q", title=title, scale=alt.Scale(domain=[0, 100]))
    base = alt.Chart(data)
    tips = _tips({"class": "class", "iou_said": title, "other_said": "other row", "pixels_said": "pixels [%]"})
    layers = [
        base.mark_bar(color=colour, height={"band": 0.62}, opacity=0.75).encode(x=x, y=y, tooltip=tips),
        base.transform_filter("isValid(datum.iou_low)")
        .mark_rule(color=look.ink, strokeWidth=1.6, clip=True)
        .encode(x=alt.X("iou_low:Q", title=title), x2="iou_high:Q", y=y),
    ]
    if data["other"].notna().any():
        layers.append(
            base.mark_tick(color=look.ink, thickness=2.5, height={"band": 0.85}).encode(x="other:Q", y=y, tooltip=tips)
        )
    chart: alt.LayerChart = finished(alt.layer(*layers), look, 48 + 26 * len(data))
    return chart


def class_differences(
    table: pd.DataFrame, look: Looks, colour: str, title: str = "Δ [points]"
) -> alt.LayerChart | None:
    """Every class's difference with its interval, the area of its point its share of the pixels; None without any.

    Args:
        table, colour: as for `class_intervals`.
    """
    data = _percent(table)
    data = data[data["delta"].notna()]
    if not len(data):
        return None
    y = alt.Y("class:N", sort=list(data["class"]), title=None, axis=alt.Axis(labelLimit=160))
    base = alt.Chart(data)
    zero = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(color=look.ink, opacity=0.5).encode(x="x:Q")
    bars = (
        base.transform_filter("isValid(datum.delta_low)")
        .mark_rule(color=colour, strokeWidth=2)
        .encode(x=alt.X("delta_low:Q", title=title), x2="delta_high:Q", y=y)
    )
    tips = _tips({"class": "class", "delta_said": title, "verdict": "verdict", "pixels_said": "pixels [%]"})
    dots = base.mark_point(filled=True, color=colour, opacity=1).encode(
        x=alt.X("delta:Q", title=title),
        y=y,
        size=alt.Size("pixels:Q", scale=alt.Scale(range=[40, 420], domainMin=0), legend=None),
        tooltip=tips,
    )
    chart: alt.LayerChart = finished(alt.layer(zero, bars, dots), look, 48 + 26 * len(data))
    return chart


def class_scores(
    tables: Mapping[str, pd.DataFrame], look: Looks, colour: str, of: str = "delta"
) -> alt.LayerChart | None:
    """Several scores of every class with their intervals below one another, or the differences; None without any.

    Args:
        tables: what the scores are called -> tables as for `class_intervals`, of the same classes in the same order.
        colour: of the row's method; scores are told apart by shape and lightness.
        of: "iou", the scores, or "delta".
    """
    data = pd.concat([_percent(table).assign(score=sinks.visible(name)) for name, table in tables.items()])
    order, names = list(dict.fromkeys(data["class"])), list(dict.fromkeys(data["score"]))
    data = data[data[of].notna()]
    if not len(data):
        return None
    title = "Δ [points]" if of == "delta" else "score [%]"
    x = alt.X(f"{of}:Q", title=title, scale=alt.Undefined if of == "delta" else alt.Scale(domain=[0, 100]))
    y = alt.Y("class:N", sort=order, title=None, axis=alt.Axis(labelLimit=160))
    offset = alt.YOffset("score:N", sort=names, scale=alt.Scale(domain=names, paddingOuter=0.6))
    shape, strength = _told_apart(names, look, colour)
    base = alt.Chart(data).encode(y=y, yOffset=offset, opacity=strength)
    said = {"class": "class", "score": "score", f"{of}_said": title, "verdict": "verdict", "pixels_said": "pixels [%]"}
    layers = [
        base.transform_filter(f"isValid(datum.{of}_low)")
        .mark_rule(color=colour, strokeWidth=2, clip=True)
        .encode(x=alt.X(f"{of}_low:Q", title=title), x2=f"{of}_high:Q"),
        base.mark_point(filled=True, color=colour, size=90).encode(x=x, shape=shape, tooltip=_tips(said)),
    ]
    if of == "delta":
        zero = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(color=look.ink, opacity=0.5).encode(x="x:Q")
        layers.insert(0, zero)
    elif data["other"].notna().any():
        layers.append(base.mark_tick(color=look.ink, thickness=2, size=11).encode(x=alt.X("other:Q", title=title)))
    chart: alt.LayerChart = finished(alt.layer(*layers), look, 48 + (14 + 13 * len(names)) * len(order))
    return chart


def _told_apart(names: Sequence[str], look: Looks, colour: str) -> tuple[alt.Shape, alt.Opacity]:
    """Scores in shape and lightness. On a page the legend stands beside the figures (`looks.shape_marks`)."""
    legend = None
    if look.printed:
        legend = alt.Legend(title=None, orient="top", direction="vertical", symbolFillColor=colour)
    shapes = [shape for _, shape in zip(names, cycle(SHAPES))]
    strong = [strength for _, strength in zip(names, cycle((1.0, 0.65, 0.4)))]
    return (
        alt.Shape("score:N", scale=alt.Scale(domain=names, range=shapes), legend=legend),
        alt.Opacity("score:N", scale=alt.Scale(domain=names, range=strong), legend=legend),
    )


def _percent(table: pd.DataFrame) -> pd.DataFrame:
    """In per cent, with the texts of the tooltips."""
    data = table.copy()
    data["class"] = data["class"].map(sinks.visible)
    numbers = ["iou", "iou_low", "iou_high", "other", "delta", "delta_low", "delta_high", "pixels"]
    data[numbers] = 100 * data[numbers].astype(float)
    data["iou_said"] = _with_ends(data, "iou", "")
    data["delta_said"] = _with_ends(data, "delta", "+")
    data["other_said"] = [f"{value:.1f}" if value == value else "" for value in data["other"]]
    data["pixels_said"] = [f"{value:.2g}" for value in data["pixels"]]
    return data


def _with_ends(data: pd.DataFrame, name: str, sign: str) -> list[str]:
    ends = zip(data[name], data[f"{name}_low"], data[f"{name}_high"], strict=True)
    return [f"{v:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})" if v == v else "" for v, low, high in ends]


def _tips(fields: dict[str, str]) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:N", title=title) for name, title in fields.items()]
