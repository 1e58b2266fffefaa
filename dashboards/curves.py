"""Curves of training: pure functions from the events of a stage's attempts to frames and charts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

LOSS, RATE, SCORE = "loss", "learning rate", "mIoU on val [%]"
"""Curves besides the terms: the weighted sum, the optimiser's, and validation."""
MOST_POINTS = 600
"""Points of one line: more are put together, for a screen has no more columns."""
COLUMNS = ["curve", "iteration", "value"]


def read_curves(files: Sequence[Path]) -> pd.DataFrame:
    """All curves of a stage from its attempts' events, oldest first; terms unweighted.

    An attempt that went on from a checkpoint replaces what earlier ones wrote of the iterations after it.

    Returns:
        Columns `COLUMNS`, one row a point, in the order of iterations; lines that are not whole are passed over.
    """
    points: dict[str, dict[int, float]] = {}
    for file in files:
        first = True
        for event in _events(file):
            iteration, values = _values(event)
            if iteration is None:
                continue
            if first:
                for curve in points.values():
                    for later in [at for at in curve if at >= iteration]:
                        del curve[later]
                first = False
            for name, value in values.items():
                points.setdefault(name, {})[iteration] = value
    rows = [(name, at, value) for name, curve in points.items() for at, value in sorted(curve.items())]
    return pd.DataFrame(rows, columns=COLUMNS)


def _events(file: Path) -> list[dict[str, Any]]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue  # half a line: it is being written
        if isinstance(event, dict):
            found.append(event)
    return found


def _values(event: Mapping[str, Any]) -> tuple[int | None, dict[str, float]]:
    """The iteration of an event, and what it says of each curve."""
    iteration = event.get("iteration")
    if not isinstance(iteration, int):
        return None, {}
    if event.get("event") == "progress":
        terms = event.get("terms")
        said = {LOSS: event.get("loss"), RATE: event.get("lr"), **(terms if isinstance(terms, dict) else {})}
    elif event.get("event") == "validation":
        miou = event.get("miou")
        said = {SCORE: 100 * miou if isinstance(miou, int | float) else None}
    else:
        return None, {}
    return iteration, {str(name): float(value) for name, value in said.items() if isinstance(value, int | float)}


def term_weights(spec: Mapping[str, Any]) -> dict[str, float]:
    """Term -> weight, as a student's or teacher's specification says; the cross-entropy's is one."""
    method = spec.get("method")
    parts = method.get("parts", []) if isinstance(method, Mapping) else []
    weights = {"ce": 1.0}
    for part in parts if isinstance(parts, list) else []:
        said = part.get("weights") if isinstance(part, Mapping) else None
        if isinstance(said, Mapping):
            weights |= {f"{part.get('name')}.{term}": float(value) for term, value in said.items()}
    return weights


def weighted(curves: pd.DataFrame, weights: Mapping[str, float]) -> pd.DataFrame:
    """The same curves, terms multiplied by their weights; those of unknown weight as they are."""
    factors = curves["curve"].map(lambda name: weights.get(name, 1.0))
    return curves.assign(value=curves["value"] * factors)


def smoothed(values: Sequence[float] | pd.Series, percent: float) -> np.ndarray:
    """Exponential moving average with bias correction: 0 leaves values as they are, 90 looks back about ten points."""
    found, keep, sum_, norm = np.asarray(values, dtype=np.float64).copy(), percent / 100, 0.0, 0.0
    for place, value in enumerate(found):
        if np.isfinite(value):
            sum_, norm = keep * sum_ + (1 - keep) * value, keep * norm + (1 - keep)
        found[place] = sum_ / norm if norm else value
    return found


def prepared(curves: pd.DataFrame, percent: float) -> pd.DataFrame:
    """Curves to be drawn: `smooth` beside `value`, thinned to `MOST_POINTS` a line.

    Args:
        curves: `COLUMNS` and `run`.
    """
    parts = []
    for _, part in curves.groupby(["run", "curve"], sort=False):
        line = part.assign(smooth=smoothed(part["value"], 0 if part["curve"].iloc[0] in (RATE, SCORE) else percent))
        step = -(-len(line) // MOST_POINTS)
        kept = line.iloc[np.unique(np.append(np.arange(0, len(line), step), len(line) - 1))]
        parts.append(kept)
    return pd.concat(parts, ignore_index=True) if parts else curves.assign(smooth=[])


def chart(data: pd.DataFrame, curve: str, colours: Mapping[str, str], logarithmic: bool, height: int = 220) -> Any:
    """One curve of every run, over iterations.

    Args:
        data: as `prepared` gives it.
        colours: run -> colour; in this order in the legend.
    """
    part = data[data["curve"] == curve]
    log = logarithmic and len(part) and bool((part[["value", "smooth"]] > 0).all(axis=None))
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False, nice=True)
    x = alt.X("iteration:Q", title="iteration")
    colour = alt.Color("run:N", scale=alt.Scale(domain=list(colours), range=list(colours.values())), legend=None)
    y = alt.Y("smooth:Q", title=None, scale=scale)
    base = alt.Chart(part)
    tips = [
        alt.Tooltip("run:N"),
        alt.Tooltip("iteration:Q"),
        alt.Tooltip("smooth:Q", title=curve, format=".4~g"),
        alt.Tooltip("value:Q", title="not smoothed", format=".4~g"),
    ]
    line = base.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, tooltip=tips)
    layers = [line]
    if curve == SCORE:
        layers.append(base.mark_point(filled=True, size=45).encode(x=x, y=y, color=colour, tooltip=tips))
    elif len(colours) == 1 and len(part) and not np.allclose(part["value"], part["smooth"]):
        layers.insert(0, base.mark_line(strokeWidth=1, opacity=0.3).encode(x=x, y=alt.Y("value:Q"), color=colour))
    return alt.layer(*layers).properties(height=height, title=curve)


def order(names: Sequence[str]) -> list[str]:
    """Curves in the order in which one looks at them: loss, validation, cross-entropy, the method's terms, the rate."""
    place = {LOSS: 0, SCORE: 1, "ce": 2, RATE: 9}
    return sorted(dict.fromkeys(names), key=lambda name: (place.get(name, 5), name))
