"""`harness show`: all details of one run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Database, Workspace, database
from harness.errors import HarnessError

if TYPE_CHECKING:
    from results.queries import Run
    from results.record import Attempt

Words = Annotated[list[str], typer.Argument(metavar="RUN", help="Beginning of its key, or words of its cell.")]


def show(words: Words, workspace: Workspace = DEFAULT_WORKSPACE, db: Database = None, as_json: AsJson = False) -> None:
    """Show all details of a run: accuracy per class, cost, terms, attempts, environment, command to reproduce it.

    Examples:

        harness show 3f2a91

        harness show ka @16 seed=0

        harness show teacher shapes --json
    """
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.tags import by_run, read_tags
    from results.queries import run
    from results.store import open_store

    try:
        with open_store(database(workspace, db), readonly=True) as store:
            found = run(store, *words)
    except ValueError as error:
        raise HarnessError(str(error)) from error
    tags = by_run(read_tags(Folder(workspace))).get(found.record.key, [])
    if as_json:
        parents = {role: {"key": key, "name": name} for role, (key, name) in found.parents.items()}
        record = found.record.model_dump(mode="json")
        shown = {"record": record, "parents": parents, "workspace": found.row["workspace"], "tags": tags}
        typer.echo(json.dumps(shown, indent=1))
    else:
        _print(found, tags)


Pairs = Iterable[tuple[str, Any]]


def _print(run: Run, tags: Sequence[str]) -> None:
    """Print one block per subject."""
    from rich.console import Console

    from results import sinks

    console = Console(highlight=False, soft_wrap=True)
    record = run.record
    console.print(f"[bold]{sinks.markup(record.name)}[/bold]  {record.kind} {record.key}")
    if tags:
        console.print(f"tags: {sinks.markup(', '.join(tags))}")
    for title, pairs in (
        ("cell", record.cell.model_dump().items() if record.cell else ()),
        ("accuracy", _accuracy(run)),
        ("IoU by class [%]", _classes(run)),
        ("cost per image", _cost(run)),
        ("training", _training(run)),
        ("attempts", _attempts(record.attempts)),
        ("environment", _environment(run)),
        ("parents", ((role, f"{key} {name or '(not collected)'}") for role, (key, name) in run.parents.items())),
        ("artefacts, sha256", record.artefacts.items()),
        ("files", [("folder", f"{run.row['workspace']}/stages/{record.key}")]),
    ):
        _block(console, title, pairs)
    console.print("\n[bold]reproduce it[/bold]")
    console.print("  " + sinks.markup(record.reproduce))
    if record.environment.dirty:
        console.print("  [yellow]the code had uncommitted changes[/yellow]")
    if run.row["problem"]:
        console.print(f"\n[yellow]confusion.npz: {sinks.markup(run.row['problem'])}[/yellow]")


def _block(console: Any, title: str, pairs: Pairs) -> None:
    from results import sinks

    rows = [(name, str(value)) for name, value in pairs if value not in ("", None)]
    if not rows:
        return
    width = max(len(name) for name, _ in rows)
    console.print(f"\n[bold]{title}[/bold]")
    for name, value in rows:
        console.print(f"  [dim]{sinks.markup(name.ljust(width))}[/dim]  {sinks.markup(value)}")


def _accuracy(run: Run) -> Pairs:
    from dataclasses import replace

    from results.formats import cell

    metrics = run.record.metrics
    if not metrics:
        return
    yield "of", f"the last checkpoint, {metrics.images} images of {metrics.split}"
    tiled = f"; {metrics.tiled} too large for memory, in tiles" if metrics.tiled else ""
    at_once = f"; {metrics.eval_batch} at once{tiled}" if metrics.eval_batch else ""
    yield "evaluated", f"{run.row['evaluation']}{at_once}"
    for name, column in run.metrics.items():
        yield column.title, cell(replace(column, digits=(column.digits or 0) + 1), run.row[name])
    if metrics.classes and (absent := [name for name in metrics.per_class_iou if name not in metrics.classes]):
        yield "classes", f"{len(metrics.classes)} of {len(metrics.per_class_iou)}; no label has {', '.join(absent)}"
        for name, share in metrics.predicted_absent.items():
            yield f"called {name}", f"{share:.2%} of the labelled pixels"
    if best := metrics.best:
        where = f"best during training, at iteration {best.iteration} on {best.split}: optimistic, never the headline"
        yield "best mIoU [%]", f"{100 * best.miou:.2f}  {where}"


def _classes(run: Run) -> Pairs:
    values = run.record.metrics.per_class_iou if run.record.metrics else {}
    for name, value in values.items():
        yield name, "in no label" if value is None else f"{100 * value:5.1f}  {'█' * round(30 * value)}"


def _cost(run: Run) -> Pairs:
    cost = run.record.cost
    if not cost:
        return
    yield "input", f"{cost.input_size[0]} x {cost.input_size[1]}"
    yield "GMACs", f"{cost.macs / 1e9:.3f}  convolutions and matrix products; 1 MAC = 2 FLOPs"
    for name, macs in sorted(cost.macs_by_operator.items(), key=lambda item: -item[1]):
        yield f"  {name}", f"{macs / 1e9:.4f}"
    if cost.uncounted:
        yield "not counted", ", ".join(f"{name} x {times}" for name, times in cost.uncounted.items())
    yield "parameters [M]", f"{cost.parameters / 1e6:.3f}"
    if latency := cost.latency:
        how = f"{latency.runs} runs, batch {latency.batch}, {latency.precision}, {latency.device}"
        yield "latency [ms]", f"{latency.median_ms:.2f} median, {latency.p95_ms:.2f} p95  {how}"
    if cost.peak_memory_bytes is not None:
        yield "peak memory [MiB]", f"{cost.peak_memory_bytes / 2**20:.0f}"
    yield "stride built by", cost.dilation


def _training(run: Run) -> Pairs:
    training = run.record.training
    yield "iterations", f"{training.iterations}  ({training.samples_seen} samples seen)"
    yield "time [s]", f"{training.seconds:.1f}  ({training.step_ms:.1f} ms per step, median)"
    if training.loading_ms is not None and training.step_ms:
        share = training.loading_ms / training.step_ms
        yield "loading", f"{training.loading_ms:.1f} ms per step, median ({share:.0%}): waiting for batches, above all"
    if training.shared_by > 1 and training.paid_s is not None:
        others = f"shared costs divided among {training.shared_by} students"
        yield "paid [s]", f"{training.paid_s:.1f}  ({others}; {training.own_ms or 0:.1f} ms per step are its own)"
    yield "loss", f"{training.loss_first:.4g} -> {training.loss_last:.4g}"
    for name, log in training.terms.items():
        yield f"  {name}", f"{log.first:.4g} -> {log.last:.4g}, unweighted; weight {log.weight:g}"
    for name, value in training.health.items():
        yield f"  {name}", f"{value:.4g}"
    yield "precision", f"{training.precision}{', channels last' if training.channels_last else ''}"
    if training.numerics:
        yield "numerics", f"{training.numerics} (requested: {training.precision_asked})"
    if training.kernels:
        yield "kernels", training.kernels
    if training.workers_beside:
        yield "other load", f"{training.workers_beside} other workers on the machine: timings are noisier"


def _attempts(attempts: Sequence[Attempt]) -> Pairs:
    from results.record import codes_behind

    for attempt in attempts:
        yield str(attempt.number), _attempt(attempt)
    if len(codes := codes_behind(attempts)) > 1:
        yield "code", f"changed in between: {', '.join(code[:12] for code in codes)} (digests of the harness's files)"


def _attempt(attempt: Attempt) -> str:
    begun = f", resumed at iteration {attempt.resumed_at}" if attempt.resumed_at else ""
    reason = f": {attempt.reason}" if attempt.reason else ""
    return f"{attempt.started} to {attempt.ended or '?'}{begun}, {attempt.outcome}{reason}"


def _environment(run: Run) -> Pairs:
    environment = run.record.environment
    yield "revision", environment.revision + (" with changes" if environment.dirty else "")
    yield "host", environment.host
    yield "device", f"{environment.device}, {environment.threads} threads"
    yield "launcher", f"{environment.launcher} {environment.job}".strip()
    yield "versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    yield "finished", run.record.finished
