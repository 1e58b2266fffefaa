"""`harness compare --family`: methods over many settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

import typer

from harness.cli.tables import difference_unit, print_table, wide_console
from harness.errors import HarnessError

if TYPE_CHECKING:
    from results.statistics import Estimate


def compare_families(target: str, methods: Sequence[str], metric: str, where: str, as_json: bool) -> None:
    """Compare methods over the settings in which both have two seeds or more, and print the result."""
    from results import families, sinks
    from results.columns import metric_column
    from results.naming import filters_of
    from results.queries import metrics
    from results.store import open_store

    if not 2 <= len(set(methods)) == len(methods):
        raise HarnessError("two or more methods are compared, each named once", "harness compare none ka --family")
    try:
        with open_store(target, readonly=True) as store:
            known = [method for name in methods for method in filters_of(store, f"method={name}")["method"]]
            scores = families.scores_by_setting(store, known, filters_of(store, where), metric)
            info = metrics(store)[metric]
        gaps = families.family_gaps(scores, known, info)
    except ValueError as error:
        raise HarnessError(str(error)) from error
    if as_json:
        facts = [{**asdict(gap), "verdict": gap.verdict} for gap in gaps]
        typer.echo(sinks.json(json.dumps({"metric": metric, "gaps": facts}, indent=1, ensure_ascii=False)))
        return
    console, column = wide_console(), metric_column(info)
    headings = [
        "ours",
        "theirs",
        "settings",
        "P(a run of ours is better)",
        f"gain [{difference_unit(column)}], IQM",
        "verdict",
    ]
    print_table(console, f"{column.heading} over {where or 'all settings'}", headings, [
        (
            gap.ours, gap.theirs, str(gap.settings), _with_ends(gap.improvement, 1, 2, ""),
            _with_ends(gap.gain, column.factor, 1 if column.digits is None else column.digits, "+"), gap.verdict,
        )
        for gap in gaps
    ])  # fmt: skip
    if single := max(gap.left_out for gap in gaps):
        console.print(f"  up to {single} settings are left out: a method has one seed there", style="dim")
    console.print(
        "  95 % intervals of a bootstrap of the runs within each setting (Agarwal et al., NeurIPS 2021). A verdict is "
        "said where that of P leaves out one half.",
        style="dim",
    )


def _with_ends(found: Estimate, factor: float, digits: int, sign: Literal["", "+"]) -> str:
    value, low, high = (f"{factor * number:{sign}.{digits}f}" for number in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"
