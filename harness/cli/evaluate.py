"""`harness evaluate`: all metrics of stored weights, on any split of their data set."""

from __future__ import annotations

import json
import math
from statistics import mean
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    DEFAULT_WORKSPACE,
    AsJson,
    Database,
    OriginalData,
    Plugins,
    RecordedDevice,
    Workspace,
    database,
    load_given,
    named_runs,
)
from harness.cli.tables import print_table, wide_console
from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.stage.stored import SplitScores
    from results.record import MetricValue


def evaluate(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Runs or rows: keys, or words in quotes such as 'ka @16'.")
    ],
    split: Annotated[
        str, typer.Option("--split", help="Split of the data set; by default the one that the leaderboard reports.")
    ] = "",
    device: RecordedDevice = "auto",
    data_root: OriginalData = None,
    plugin: Plugins = None,
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate the stored weights of runs on a split of their data set, with all metrics; nothing is written.

    To choose a setting without looking at the split that the leaderboard reports, or to see a metric that did not exist
    when a run was trained. A row stands for all its runs, and its mean is shown below them.

    Examples:

        harness evaluate 'ka @16' 'ka[beta=10] @16' --split val

        harness evaluate 3f2a91 --plugin my_metric.py

        harness evaluate 'none @8' --split train --json
    """
    from harness.launch.progress import counting
    from harness.stage.stored import scores_on
    from harness.workspace.folders import Workspace as Folder

    sides = named_runs(database(workspace, db), names)
    folder = Folder(workspace)
    for key in (key for keys in sides.values() for key in keys):
        if not folder.stage(key).path.is_dir():
            raise HarnessError(f"run {key} is not in {workspace}", "name its workspace with --workspace")
    load_given(plugin)
    found: dict[str, list[SplitScores]] = {}
    for label, keys in sides.items():
        for key in keys:
            with counting(f"evaluating {folder.stage(key).record().name}", quiet=as_json) as progress:
                found.setdefault(label, []).append(scores_on(folder.stage(key), split, device, data_root, progress))
    if as_json:
        from results import sinks

        typer.echo(sinks.json(json.dumps(_facts(found), indent=1, ensure_ascii=False)))
    else:
        _print(found)


def _facts(found: Mapping[str, Sequence[SplitScores]]) -> dict[str, object]:
    """Name -> runs with their scores, and the mean of each metric over them."""
    return {
        label: {
            "runs": [
                vars(one) | {"values": {name: value.value for name, value in one.values.items()}} for one in scores
            ],
            "mean": {name: _mean(scores, name) for name in scores[0].values},
        }
        for label, scores in found.items()
    }


def _print(found: Mapping[str, Sequence[SplitScores]]) -> None:
    from results.metrics import HEADLINE

    every = [one for scores in found.values() for one in scores]
    metrics = {name: value for one in every for name, value in one.values.items()}
    metrics = {HEADLINE: metrics.pop(HEADLINE)} | metrics
    headings = ["run", "key", "images", *(_heading(value) for value in metrics.values())]
    rows = []
    for label, scores in found.items():
        rows += [
            [one.name, one.key[:8], str(one.images), *(_shown(one.values.get(name)) for name in metrics)]
            for one in scores
        ]
        if len(scores) > 1:
            means = {name: value.model_copy(update={"value": _mean(scores, name)}) for name, value in metrics.items()}
            rows.append([f"{label}: mean of {len(scores)}", "", "", *map(_shown, means.values())])
    splits = sorted({one.split for one in every})
    print_table(wide_console(), f"on {', '.join(splits)}", headings, rows)


def _heading(value: MetricValue) -> str:
    return f"{value.heading} [{value.unit}]" if value.unit else value.heading


def _shown(value: MetricValue | None) -> str:
    if value is None or value.value is None:
        return ""
    return f"{value.value * (100 if value.unit == '%' else 1):.{value.digits}f}"


def _mean(scores: Sequence[SplitScores], metric: str) -> float | None:
    """Mean over the runs; None where a run has no value."""
    values = [one.values[metric].value if metric in one.values else None for one in scores]
    there = [value for value in values if value is not None and not math.isnan(value)]
    return mean(there) if len(there) == len(values) else None
