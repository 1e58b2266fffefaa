"""`harness data check`: content, errors and suspicious properties of a data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import AsJson, Plugins, Workspace
from harness.errors import Exit

if TYPE_CHECKING:
    from harness.data.base import Dataset
    from harness.data.survey import Finding, Report, SplitReport

DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="HARNESS_DATA", help="Folder that contains the data set, or its parent."),
]

SHOWN = 50
"""Maximum number of findings printed; --json prints all."""
SHOWN_VALUES = 16
_COLOURS = {"error": "red", "warning": "yellow", "note": "bright_black"}


def data_check(
    dataset: Annotated[str, typer.Argument(help="A data set: camvid, shapes[size=96], DIR/dataset.yaml.")],
    data_root: DataRoot = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Check presence and pairing of files only; decode nothing.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Save sample images with labels and legend to this PNG file.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Ignore cached results.")] = False,
    workspace: Workspace = Path("runs"),
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Decode every file of a data set, count its classes, and report errors and warnings.

    Errors must be fixed before a run: missing, unpaired, unreadable or damaged files, label values out of range, image
    and label of different sizes, labels that are empty or have a single class, images of `train` in another split.
    Warnings should be looked at: absent classes, different palettes, rotated images, near-duplicates. Exit code 1 if
    there is an error. Results are cached in the workspace until a file changes.

    Examples:

        harness data check camvid --data-root ~/data

        harness data check camvid --data-root ~/data --sheet camvid.png

        harness data check 'shapes[size=96]' --json
    """
    from harness.builders.datasets import open_dataset
    from harness.plugins.load import load_plugins

    load_plugins(plugin or [])
    opened = open_dataset(dataset, data_root)
    samples = {name: len(opened.split(name)) for name in opened.splits}
    report = _quick(opened) if quick else _survey(opened, dataset, data_root, None if again else workspace, as_json)
    if as_json:
        typer.echo(json.dumps(_as_data(opened.name, samples, report), indent=1))
    else:
        _tell(opened.label, samples, report)
    if sheet is not None:
        from harness.data.survey.sheet import draw_sheet

        drawn = draw_sheet(opened, sheet)
        typer.echo(f"wrote {sheet}: look at it" if drawn else "no sheet: no sample can be read", err=as_json)
    if report.of("error"):
        raise typer.Exit(Exit.FAILED)


def _quick(dataset: Dataset) -> Report:
    from harness.data.survey import Finding, Report

    problems = dataset.check(full=False)
    findings = [Finding(level="error", kind="file", where=p.file, what=p.what) for p in problems]
    return Report(dataset=dataset.name, splits={}, findings=findings)


def _survey(dataset: Dataset, word: str, data_root: Path | None, workspace: Path | None, quiet: bool) -> Report:
    """The report, with a progress bar; cached if the content has a digest."""
    from harness.builders.datasets import parse_dataset
    from harness.data.survey import Memory, survey
    from harness.errors import HarnessError
    from harness.launch.progress import counting

    try:
        spec = parse_dataset(word, data_root)
    except (HarnessError, OSError):  # the survey reports the error
        spec = None
    memory = Memory(workspace / "checks") if workspace else None
    with counting("decoding", quiet) as progress:
        return survey(dataset, spec, memory, progress)


def _as_data(name: str, samples: Mapping[str, int], report: Report) -> dict[str, object]:
    errors = [{"file": finding.where, "what": finding.what} for finding in report.of("error")]
    data = report.model_dump(mode="json", exclude={"dataset", "version"})
    return {"dataset": name, "samples": samples, "problems": errors, **data}


def _tell(name: str, samples: Mapping[str, int], report: Report) -> None:
    from results import sinks

    if report.splits:
        _tell_classes(report.splits)
        for split, counted in report.splits.items():
            _tell_split(split, counted)
        typer.echo()
    for finding in report.findings[:SHOWN]:
        typer.secho(f"{finding.level:8}{sinks.terminal(finding)}", fg=_COLOURS[finding.level])
    if len(report.findings) > SHOWN:
        typer.echo(f"... and {len(report.findings) - SHOWN} more: --json prints all")
    counts = ", ".join(f"{split} {count}" for split, count in samples.items())
    typer.echo(f"{sinks.terminal(name)}: {counts}; {_verdict(report.findings)}")


def _verdict(findings: list[Finding]) -> str:
    errors, warnings = (sum(f.level == level for f in findings) for level in ("error", "warning"))
    said = f"{errors} problem{'s' if errors != 1 else ''}" if errors else "nothing wrong"
    return f"{said}, {warnings} warning{'s' if warnings != 1 else ''}" if warnings else said


def _tell_classes(splits: Mapping[str, SplitReport]) -> None:
    """Print the share of pixels and the number of images of every class in every split."""
    from results import sinks

    classes = list(next(iter(splits.values())).classes)
    width = max(len(name) for name in (*classes, "class"))
    typer.echo(" " * width + "".join(f"{split:>19}" for split in splits))
    typer.echo(f"{'class':{width}}" + f"{'pixels':>11}{'images':>8}" * len(splits))
    totals = {name: sum(c.pixels for c in s.classes.values()) + s.void.pixels for name, s in splits.items()}
    for cls in classes:
        cells = [
            (split.classes[cls].pixels / (totals[name] or 1), split.classes[cls].images)
            for name, split in splits.items()
        ]
        typer.echo(f"{sinks.terminal(cls):{width}}" + "".join(f"{share:>11.2%}{images:>8}" for share, images in cells))
    voids = (f"{split.void.pixels / (totals[name] or 1):>11.2%}{'':>8}" for name, split in splits.items())
    typer.echo(f"{'void':{width}}" + "".join(voids).rstrip())


def _tell_split(name: str, split: SplitReport) -> None:
    sizes = ", ".join(f"{size} ({count})" for size, count in list(split.sizes.items())[:4])
    more = f" and {len(split.sizes) - 4} other sizes" if len(split.sizes) > 4 else ""
    typer.echo(f"{name}: sizes {sizes or 'none'}{more}")
    if split.mean and split.std:
        mean, std = (" ".join(f"{value:.3f}" for value in values) for values in (split.mean, split.std))
        typer.echo(f"{name}: mean {mean}, deviation {std}")
    if split.stored:
        total = sum(found.pixels for found in split.stored.values()) or 1
        values = list(split.stored)[:SHOWN_VALUES]
        values.sort(key=lambda value: (len(value), value))  # numeric order
        shown = [f"{value} {split.stored[value].pixels / total:.1%}" for value in values]
        more = f" and {len(split.stored) - SHOWN_VALUES} more" if len(split.stored) > SHOWN_VALUES else ""
        typer.echo(f"{name}: stored in the label files {', '.join(shown)}{more}")
