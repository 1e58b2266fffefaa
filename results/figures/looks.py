"""How every figure looks: one colour a method, one shape a student, on light, on dark and on paper."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import altair as alt
import pandas as pd

from results import sinks

GREY, INK, CHALK = "#8b93a1", "#1f2937", "#e5e7eb"
# The first seven are those of Okabe and Ito (2008) that can be told apart whatever one's eyes, yellow left out.
PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7c3aed", "#a16207", "#be123c", "#4d7c0f",
    "#0f766e", "#3730a3", "#db2777", "#65a30d", "#7c2d12", "#0891b2", "#f59e0b", "#a21caf", "#14b8a6", "#78716c",
)  # fmt: skip
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-right", "triangle-left", "cross")
TEACHER_SHAPE = "circle"
GLYPHS = dict(zip(SHAPES, "●■▲◆▼▶◀✚", strict=True))
"""Vega-Lite's shapes as characters."""


@dataclass(frozen=True)
class Looks:
    """The colour of every method and the shape of every student of a database, whatever is shown of it.

    Attributes:
        colours: method -> colour.
        shapes: student, or "teacher" -> one of Vega-Lite's shapes.
        dark: drawn on a dark ground.
        printed: drawn for paper: of a fixed width, on white, with its legends inside.
    """

    colours: Mapping[str, str]
    shapes: Mapping[str, str]
    dark: bool = False
    printed: bool = False

    @property
    def ink(self) -> str:
        """Colour of what is no method's: text, references, the frontier."""
        return CHALK if self.dark else INK

    def for_paper(self) -> Looks:
        """The same names on paper."""
        return replace(self, dark=False, printed=True, colours={**self.colours, "teacher": INK})


def looks(runs: pd.DataFrame, dark: bool = False) -> Looks:
    """How methods and students are drawn: `none` grey, teachers in ink, all others in the order of their names.

    Args:
        runs: all runs of the database, or any frame with `method` and `student`.
        dark: the ground is dark.
    """
    students = runs[runs["method"].notna()]
    fixed = {"none": GREY, "teacher": CHALK if dark else INK}
    names = sorted(set(students["method"]) - fixed.keys())
    models = sorted(set(students.loc[students["method"] != "teacher", "student"]))
    colours = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}
    shapes = {name: SHAPES[place % len(SHAPES)] for place, name in enumerate(models)}
    return Looks({**fixed, **colours}, {**shapes, "teacher": TEACHER_SHAPE}, dark)


def legend(board: pd.DataFrame, look: Looks) -> str:
    """The legend of all figures, as HTML that takes as many lines as it needs: every method and student, in full."""
    students = list(dict.fromkeys(board.loc[board["method"] != "teacher", "student"]))
    entries = [(look.colours[name], GLYPHS["circle"], name) for name in methods(board["method"])]
    if len(students) > 1:
        entries += [(look.ink, GLYPHS[look.shapes[name]], name) for name in students]
    return _marks(entries)


def swatches(colours: Mapping[str, str]) -> str:
    """A legend of things and their colours, as HTML that takes as many lines as it needs."""
    return _marks((colour, GLYPHS["circle"], name) for name, colour in colours.items())


def shape_marks(names: Iterable[str], colour: str) -> str:
    """A legend of things in `SHAPES`, in their order, of one colour."""
    return _marks((colour, GLYPHS[shape], name) for name, shape in zip(names, cycle(SHAPES)))


def _marks(entries: Iterable[tuple[str, str, str]]) -> str:
    """Colour, character and name of each."""
    drawn = (
        f'<span style="display:inline-block;margin-right:18px"><span style="color:{colour}">{glyph}</span>'
        f" {html.escape(sinks.visible(name))}</span>"
        for colour, glyph, name in entries
    )
    return f'<div style="font-size:13px;line-height:1.9">{"".join(drawn)}</div>'


def methods(names: Iterable[str]) -> list[str]:
    """The methods that occur: `none` first, the teacher last."""
    return sorted(set(names), key=lambda name: (name == "teacher", name != "none", name))


def colour_of(names: Iterable[str], look: Looks) -> alt.Color:
    """Methods in their colours. On a page the legend stands beside the figures (`legend`)."""
    shown = methods(names)
    scale = alt.Scale(domain=shown, range=[look.colours[name] for name in shown])
    return alt.Color("method:N", scale=scale, legend=alt.Legend(title=None, symbolOpacity=1) if look.printed else None)


def shape_of(names: Iterable[str], look: Looks) -> alt.Shape:
    """Students, and the teacher, in their shapes; the field is `what`."""
    shown = list(dict.fromkeys(names))
    scale = alt.Scale(domain=shown, range=[look.shapes[name] for name in shown])
    inside = look.printed and len(set(shown) - {"teacher"}) > 1
    return alt.Shape("what:N", scale=scale, legend=alt.Legend(title=None) if inside else None)


def finished(chart: Any, look: Looks, height: int, width: int = 460) -> Any:
    """The look that all figures share.

    Args:
        height, width: in pixels; on a page a figure is as wide as its place.
    """
    text, grid, line = ("#cbd5e1", "#2b313c", "#475569") if look.dark else ("#374151", "#eef0f3", "#cbd5e1")
    labels = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500}
    colours = {"labelColor": text, "titleColor": text}
    sized = chart.properties(
        height=height,
        width=width if look.printed else "container",
        background="white" if look.printed else "transparent",
    )
    return (
        sized.configure_axis(**labels, **colours, gridColor=grid, domainColor=line, tickColor=line, titlePadding=10)
        .configure_axisQuantitative(tickCount=8, labelOverlap=True, labelFlush=False)
        .configure_legend(labelFontSize=12, titleFontSize=12, symbolSize=90, labelLimit=260, **colours)
        .configure_view(strokeWidth=0)
    )
