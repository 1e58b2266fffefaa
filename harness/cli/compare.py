"""`harness compare`: runs or rows side by side, only what differs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli.compare_families import compare_families
from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Database, Workspace, database
from harness.cli.tables import difference_unit, print_table, wide_console
from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from results.columns import Column
    from results.differences import Differing, Gap, Side
    from results.statistics import SeedScores

IMAGES = 3
"""Images that are named each way; `--json` names all."""


@dataclass(frozen=True)
class _Comparison:
    """All that is said of the sides."""

    sides: Sequence[Side]
    column: Column
    scores: Sequence[SeedScores]
    gaps: Sequence[Gap]
    differing: Sequence[Differing]
    classes: pd.DataFrame
    images: pd.DataFrame | None


def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="A B...", help="Two to six runs or rows: keys, or words such as 'ka @16'.")
    ],
    metric: Annotated[str, typer.Option("--metric", help="What to compare: miou, boundary_iou, ...")] = "miou",
    family: Annotated[
        bool,
        typer.Option("--family", help="A and B are methods: compare them over all data sets, students and strides."),
    ] = False,
    where: Annotated[str, typer.Option("--where", help="With --family, only there: words such as 'camvid @8'.")] = "",
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs, or rows of the leaderboard: what differs in how they were made, and how well they do.

    Differences are paired seed by seed, with interval and Holm's correction over the pairs shown; with one seed they
    are over images, which says nothing of training noise. Quote the words of a row; with seed=0 they mean one run.

    With --family methods are compared over every setting (data set, student, stride, recipe) in which both have two
    seeds or more: the chance that a run of the one beats a run of the other, and the interquartile mean of the gain.

    Examples:

        harness compare 'none @16' 'ka @16'

        harness compare 3f2a91 77b0c4 --json

        harness compare 'none @8' 'kd @16' 'ka @16' --metric boundary_iou

        harness compare none kd ka --family --where 'mobilenetv2_100'
    """
    if family:
        compare_families(database(workspace, db), names, metric, where, as_json)
        return
    if where:
        raise HarnessError("--where restricts families of settings only", "add --family, or leave --where out")
    found = _compared(database(workspace, db), names, metric)
    if as_json:
        from results import sinks

        typer.echo(sinks.json(json.dumps(_facts(found), indent=1, ensure_ascii=False)))
    else:
        _print(found)


def _compared(target: str, names: Sequence[str], metric: str) -> _Comparison:
    from results import differences
    from results.columns import metric_column
    from results.naming import named_sides
    from results.queries import metrics
    from results.store import open_store

    try:
        with open_store(target, readonly=True) as store:
            known = metrics(store)
            if metric not in known:
                raise ValueError(f"no run has the metric '{metric}': there are {', '.join(known)}")
            sides = differences.load_sides(store, named_sides(store, names, metric))
            images = differences.image_gaps(store, sides[1], sides[0], metric) if len(sides) == 2 else None
            return _Comparison(
                sides,
                metric_column(known[metric]),
                [side.scores(metric, {}) for side in sides],
                differences.gaps(store, sides, metric),
                differences.differing(sides),
                differences.class_gaps(store, sides),
                images,
            )
    except ValueError as error:
        raise HarnessError(str(error)) from error


# ----------------------------------------------------------------------------------------------- for programs


def _facts(found: _Comparison) -> dict[str, Any]:
    """Fractions and base units, as in records; null for what is not known."""
    images = found.images.to_dict("records") if found.images is not None else []
    return {
        "metric": found.column.name,
        "sides": [
            {"label": side.label, "keys": side.keys, "scores": {str(s): _known(v) for s, v in scores.scores.items()}}
            for side, scores in zip(found.sides, found.scores)
        ],
        "gaps": [
            {
                "ours": gap.ours,
                "theirs": gap.theirs,
                **{name: _known(getattr(gap.difference, name)) for name in ("value", "low", "high", "p")},
                "p_holm": _known(gap.p_holm),
                "basis": gap.difference.text,
                "verdict": gap.verdict,
                "reason": gap.reason,
                "more_seeds": gap.more,
            }
            for gap in found.gaps
        ],
        "differing": [{"section": d.section, "name": d.name, "values": list(d.values)} for d in found.differing],
        "classes": [
            {"class": row["class"], **{n: [_known(v) for v in row[n]] for n in ("iou", "delta", "low", "high")}}
            for row in found.classes.to_dict("records")
        ],
        "images": [{n: v if isinstance(v, str) else _known(v) for n, v in row.items()} for row in images],
    }


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


# ------------------------------------------------------------------------------------------------- for people


def _print(found: _Comparison) -> None:
    """One block a subject."""
    console = wide_console()
    letters = [chr(ord("A") + place) for place in range(len(found.sides))]
    scores = [_score(found, place) for place in range(len(found.sides))]
    print_table(console, found.column.title, ["", "run or row", "seeds", found.column.title], [
        (letter, side.label, ", ".join(map(str, side.records)), score)
        for letter, side, score in zip(letters, found.sides, scores)
    ])  # fmt: skip
    named = {side.label: letter for side, letter in zip(found.sides, letters)}
    headings = ["", f"Δ [{difference_unit(found.column)}]", "verdict", "p", "p, Holm", "rests on"]
    print_table(console, "differences", headings, [
        (f"{named[gap.ours]} - {named[gap.theirs]}", *_gap(gap, found.column)) for gap in found.gaps
    ])  # fmt: skip
    for gap in found.gaps:
        if gap.more:
            console.print(f"  {named[gap.ours]} - {named[gap.theirs]}: {gap.more}", style="dim")
    if len(found.gaps) > 1:
        console.print("  a verdict is of its pair alone; p after Holm's correction counts all pairs shown", style="dim")
    print_table(console, "what differs", ["", "", *letters], [(d.section, d.name, *d.values) for d in found.differing])
    if not found.differing:
        console.print("  nothing in specification, recipe, environment, plan or training")
    deltas = [f"{letter} - A" for letter in letters[1:]]
    print_table(console, "IoU by class [%]", ["class", *letters, *deltas], [
        _class(row) for row in found.classes.to_dict("records")
    ])  # fmt: skip
    if found.images is not None and len(found.images):
        both_ways = [*found.images.to_dict("records")[:IMAGES], *found.images.to_dict("records")[-IMAGES:]]
        print_table(console, "images that differ most", ["image", "A", "B", "B - A"], [
            (
                row["image"],
                *(_percent(row[name], found.column) for name in ("theirs", "ours")),
                _percent(row["gap"], found.column, "+"),
            )
            for row in {row["image"]: row for row in both_ways}.values()
        ])  # fmt: skip


def _score(found: _Comparison, place: int) -> str:
    """Mean over the seeds."""
    from results import formats

    values = list(found.scores[place].scores.values())
    return formats.cell(found.column, sum(values) / len(values)) if values else ""


def _gap(gap: Gap, column: Column) -> tuple[str, str, str, str, str]:
    if gap.reason:
        return gap.reason, "", "", "", ""
    difference, factor = gap.difference, column.factor
    digits = 1 if column.digits is None else column.digits
    text = f"{factor * difference.value:+.{digits}f}"
    if math.isfinite(difference.low) and math.isfinite(difference.high):
        text += f" ({factor * difference.low:+.{digits}f} to {factor * difference.high:+.{digits}f})"
    return text, gap.verdict, _p(difference.p), _p(gap.p_holm), difference.text


def _p(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _class(row: dict[Any, Any]) -> list[str]:
    percent = [f"{100 * value:.1f}" if math.isfinite(value) else "" for value in row["iou"]]
    gaps = [
        f"{100 * delta:+.1f}" + (f" ({100 * low:+.1f} to {100 * high:+.1f})" if math.isfinite(low) else "")
        if math.isfinite(delta)
        else ""
        for delta, low, high in zip(row["delta"], row["low"], row["high"])
    ]
    return [str(row["class"]), *percent, *gaps]


def _percent(value: float, column: Column, sign: Literal["", "+"] = "") -> str:
    return f"{column.factor * value:{sign}.{1 if column.digits is None else column.digits}f}"
