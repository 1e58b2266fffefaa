"""Conclude a stage: save weights, evaluate, measure costs, and write the record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import nn

from backbones.base import Network
from harness.cost import measure_cost
from harness.data.base import Dataset
from harness.evaluation.evaluate import Evaluation, Observe, evaluate, save_confusion
from harness.evaluation.samples import choose_samples, save_samples
from harness.numerics.choose import Decision
from harness.plugins.metric_calls import MetricValues
from harness.plugins.registries import METRICS
from harness.specs.spec import Precision, Recipe
from harness.stage.context import Context
from harness.system.devices import environment_record
from harness.training.checkpoint import save_weights
from harness.training.progress import Progress, median
from harness.workspace.files import file_digest, now
from harness.workspace.folders import Workspace
from results.record import Best, Cell, Cost, Metrics, Record, Training
from results.statistics import class_counts, iou, miou, pixel_accuracy, predicted_absent


def evaluate_split(
    context: Context, network: Network, decision: Decision, split: str, observe: Observe | None = None
) -> Evaluation:
    def report(done: int, total: int) -> None:
        if context.events.due():
            context.events.write("evaluating", split=split, done=done, total=total)

    return evaluate_as_planned(
        context.spec.recipe, context.dataset, split, network, decision, context.device, report, observe
    )


def evaluate_as_planned(
    recipe: Recipe,
    dataset: Dataset,
    split: str,
    network: Network,
    decision: Decision,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    observe: Observe | None = None,
) -> Evaluation:
    """A network's confusion matrices over a split, as its recipe says."""
    return evaluate(
        network,
        dataset.split(split),
        classes=len(dataset.classes),
        mean=network.backbone.mean,
        std=network.backbone.std,
        eval_size=recipe.eval_size,
        device=device,
        precision=decision.precision,
        channels_last=decision.channels_last,
        batch_size=recipe.eval_batch,
        progress=progress,
        observe=observe,
        protocol=recipe.evaluation,
    )


def conclude(context: Context, trained: nn.Module, progress: Progress, training: Training, started: str) -> Record:
    """Write weights, evaluate, measure, and finally write the record, which marks the stage as done."""
    job, folder = context.job, context.job.folder
    save_weights(folder.weights_file, trained)
    metrics, cost = None, None
    if isinstance(trained, Network):
        metrics = _metrics(context, trained, training, progress)
        cost = _cost(context, trained, training)
    parents = {role: Workspace(Path(job.workspace)).stage(key) for role, key in context.spec.parents.items()}
    context.attempt.end("done")
    record = Record(
        key=folder.key,
        kind=context.spec.kind,
        name=job.name,
        cell=Cell.model_validate(job.cell) if job.cell else None,
        spec=context.spec.model_dump(mode="json"),
        parents=context.spec.parents,
        parent_weights={role: file_digest(parent.weights_file) for role, parent in parents.items()},
        metrics=metrics,
        training=training,
        cost=cost,
        environment=environment_record(context.device, job.launcher, job.extra.get("job_id", "")),
        attempts=[attempt.summary() for attempt in folder.attempts()],
        artefacts=_artefacts(folder.path),
        reproduce=job.reproduce,
        started=started,
        finished=now(),
    )
    folder.write_record(record)
    folder.checkpoint_file.unlink(missing_ok=True)
    return record


def _metrics(context: Context, network: Network, training: Training, progress: Progress) -> Metrics:
    split = context.dataset.splits[-1]
    decision = Decision(cast(Precision, training.precision), training.channels_last, "", ())
    metrics = MetricValues(METRICS, context.classes)
    found = evaluate_split(context, network, decision, split, metrics.update)
    save_confusion(context.job.folder.path / "confusion.npz", found)
    measured = metrics.finish(found.confusion)
    metrics.save(context.job.folder.path / "metrics.npz", found.names)
    if chosen := choose_samples(found, context.job.samples):
        samples, recipe = context.job.folder.path / "samples", context.spec.recipe
        of = (network, context.dataset, split, found, chosen, context.device)
        save_samples(samples, *of, eval_size=recipe.eval_size, protocol=recipe.evaluation)
    total = found.confusion.sum(0)
    values, names = iou(total), context.dataset.classes
    absent = predicted_absent(class_counts(total))
    return Metrics(
        split=split,
        images=len(found.names),
        eval_batch=found.batch,
        tiled=found.tiled,
        miou=miou(total),
        pixel_accuracy=pixel_accuracy(total),
        per_class_iou={name: None if value != value else float(value) for name, value in zip(names, values)},
        classes=[name for name, value in zip(names, values) if value == value],
        predicted_absent={name: float(share) for name, share in zip(names, absent) if share > 0},
        best=Best.model_validate(progress.best) if progress.best else None,
        values=measured,
    )


def _cost(context: Context, network: Network, training: Training) -> Cost:
    size = context.spec.recipe.eval_size or context.dataset.eval_size
    conditions = f"{context.spec.model.model_dump_json()} {size} {training.precision} {training.channels_last}"
    cost = context.costs[conditions] = measure_cost(
        network,
        size,
        device=context.device,
        precision=cast(Precision, training.precision),
        channels_last=training.channels_last,
        like=context.costs.get(conditions),
    )
    return cost


def training_record(context: Context, progress: Progress, decision: Decision, weights: dict[str, float]) -> Training:
    terms = progress.terms(weights)
    recipe = context.spec.recipe
    total = lambda part: sum(log.weight * getattr(log, part) for log in terms.values())  # noqa: E731
    return Training(
        iterations=progress.iteration,
        samples_seen=progress.samples_seen * context.processes.size,
        seconds=progress.seconds,
        step_ms=progress.median_step_ms(),
        loss_first=total("first"),
        loss_last=total("last"),
        terms=terms,
        precision_asked=recipe.precision,
        precision=decision.precision,
        channels_last=decision.channels_last,
        numerics=decision.note,
        kernels=decision.kernels,
        workers_beside=context.job.workers_beside,
        own_ms=median(progress.own_ms),
        teacher_ms=median(progress.teacher_ms),
        loading_ms=median(progress.loading_ms),
        shared_by=progress.shared_by,
        paid_s=progress.paid_s,
    )


def _artefacts(folder: Path) -> dict[str, str]:
    names = [
        "weights.safetensors",
        "confusion.npz",
        "metrics.npz",
        *(f"samples/{p.name}" for p in (folder / "samples").glob("*")),
    ]
    return {name: file_digest(folder / name) for name in sorted(names) if (folder / name).is_file()}
