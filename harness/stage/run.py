"""What each kind of stage does: build its networks, train, evaluate, measure, and say all of it in a record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import nn

from backbones.base import Network
from harness.builders.datasets import open_dataset
from harness.builders.distiller import build_distiller
from harness.builders.models import build_model, model_sizes
from harness.data.base import Dataset
from harness.data.loading import training_loader
from harness.errors import HarnessError
from harness.numerics.choose import Decision, choose_numerics
from harness.plugins.method_calls import checked_health
from harness.plugins.registries import METHODS
from harness.stage.context import Context
from harness.stage.parents import (
    first_weights,
    load_teacher,
    load_translators,
    refuse_changed_sources,
    teacher_spec,
    untrained_translator,
)
from harness.stage.record import conclude, evaluate_split, training_record
from harness.system.devices import pick_device
from harness.training.distributed import join
from harness.training.loop import Control, Progress, Trainer, discriminators
from harness.training.objective import SegmentationObjective, TranslatorObjective
from harness.training.randomness import derive_seed, seed_all
from harness.workspace.events import Events
from harness.workspace.files import now
from harness.workspace.folders import AttemptFolder
from harness.workspace.job import Job
from results.record import Best, Record, Training
from results.statistics import miou


def run_stage(job: Job, attempt: AttemptFolder, should_stop: Callable[[], bool]) -> Record | None:
    """Train a stage to its end, from its checkpoint if there is one, and write its record.

    Returns:
        The record; None in a process that only helps another one.

    Raises:
        Interrupted: asked to stop; the checkpoint is saved.
        StageFailed: trying again would not help.
        HarnessError: something the user can mend (data, weights, a parent).
    """
    started = now()
    device = pick_device(job.device)
    processes = join(device)
    _configure_torch(job, device)
    dataset = open_dataset(job.stage.dataset, Path(job.data_root) if job.data_root else None)
    _refuse_broken_data(dataset)
    refuse_changed_sources(job)
    events = Events(attempt.events if processes.main else None)
    context = Context(job, attempt, dataset, device, processes, events, should_stop)
    events.write("start", name=job.name, device=str(device))
    try:
        train = _train_translator if job.stage.kind == "translator" else _train_network
        objective, progress, training = train(context)
        if not processes.main:
            return None
        record = conclude(context, objective, progress, training, started)
        events.write("done", miou=record.metrics.miou if record.metrics else None)
        return record
    finally:
        processes.barrier()
        processes.close()
        events.close()


def _configure_torch(job: Job, device: torch.device) -> None:
    """Threads and determinism, before anything is computed."""
    if job.threads:
        torch.set_num_threads(job.threads)
    deterministic = job.stage.recipe.deterministic
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    if device.type == "cuda":
        torch.cuda.set_device(device)


def _refuse_broken_data(dataset: Dataset) -> None:
    problems = dataset.check(full=False)
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise HarnessError(f"data set {dataset.name}: {problems[0]}{more}", "run harness data check")


def _train_network(context: Context) -> tuple[nn.Module, Progress, Training]:
    spec, device = context.spec, context.device
    seed_all(spec.seed, "weights")
    network = build_model(spec.model, context.classes, first_weights(context.job, spec.model))
    teacher = load_teacher(context) if "teacher" in spec.parents else None
    distiller = build_distiller(
        spec.method,
        model_sizes(spec.model, context.classes),
        model_sizes(teacher_spec(context.job).model, context.classes) if teacher is not None else None,
        load_translators(context, teacher),
        seed=derive_seed(spec.seed, "adapters"),
    )
    objective = SegmentationObjective(network, distiller, teacher, spec.seed, spec.recipe.teacher_norm).to(device)
    decision = _select_precision(context, network)
    if teacher is not None:
        teacher.to(device)
    progress = _fit(context, objective, network, decision, lambda: _validate(context, network, decision))
    weights = {"ce": 1.0, **distiller.weights}
    return network, progress, training_record(context, progress, decision, weights)


def _train_translator(context: Context) -> tuple[nn.Module, Progress, Training]:
    spec, device = context.spec, context.device
    teacher = load_teacher(context)
    translator = untrained_translator(spec, context.classes)
    objective = TranslatorObjective(translator, teacher, spec.seed, spec.recipe.teacher_norm).to(device)
    teacher.to(device)
    # A translator is a handful of convolutions: full precision costs little and keeps a small latent alive.
    decision = Decision(precision="fp32", channels_last=False, note="", findings=())
    progress = _fit(context, objective, teacher, decision, None)
    training = training_record(context, progress, decision, {n: t.weight for n, t in translator.terms.items()})
    training.health = _health(context, objective, teacher)
    return translator, progress, training


def _fit(
    context: Context,
    objective: nn.Module,
    reads: Network,
    decision: Decision,
    validate: Callable[[], Best] | None,
) -> Progress:
    """Train an objective over the data set's training split; `reads` says how its images are normalised."""
    job, processes = context.job, context.processes
    control = Control(
        events=context.events,
        should_stop=lambda: processes.any(context.should_stop(), context.device),
        checkpoint=job.folder.checkpoint_file,
        checkpoint_every=job.checkpoint_every,
        validate=validate if processes.main else None,
        main_process=processes.main,
    )
    recipe = context.spec.recipe
    if decision.channels_last:
        objective.to(memory_format=torch.channels_last)
    if recipe.compile:
        cast(nn.Module, objective.network).compile()
    trainer = Trainer(
        objective,
        recipe,
        context.device,
        decision.precision,
        decision.channels_last,
        control,
        wrapped=processes.wrap(objective, context.device, ignored=synchronised_modules(objective)),
    )
    batches = training_loader(
        context.dataset.split("train"),
        recipe,
        mean=reads.backbone.mean,
        std=reads.backbone.std,
        seed=derive_seed(context.spec.seed, "data"),
        start_iteration=trainer.progress.iteration,
        workers=job.loader_workers,
        device=context.device,
        rank=processes.rank,
        world_size=processes.size,
        classes=context.classes,
    )
    return trainer.run(batches)


def synchronised_modules(objective: nn.Module) -> list[nn.Module]:
    """Discriminators and memories: they stay equal over processes without help."""
    gathered = [part for part in objective.modules() if getattr(part, "gathers", False)]
    return gathered + [module for _, module in discriminators(objective)]


def _select_precision(context: Context, network: Network) -> Decision:
    """Precision and layout in which this network's convolutions are right on this device."""
    recipe = context.spec.recipe
    decision = choose_numerics(
        network,
        recipe.crop,
        recipe.batch_size,
        context.device,
        recipe.precision,
        recipe.channels_last,
        cache=Path(context.job.workspace) / "numerics.json",
    )
    if decision.note:
        context.events.write("note", text=decision.note)
        print(f"numerics: {decision.note}", flush=True)
    return decision


def _validate(context: Context, network: Network, decision: Decision) -> Best:
    found = evaluate_split(context, network, decision, "val")
    return Best(split="val", miou=miou(found.confusion), iteration=0)


def _health(context: Context, objective: TranslatorObjective, teacher: Network) -> dict[str, float]:
    """What the translator says of itself on fresh training batches."""
    recipe = context.spec.recipe
    loader = training_loader(
        context.dataset.split("train"),
        recipe,
        mean=teacher.backbone.mean,
        std=teacher.backbone.std,
        seed=derive_seed(context.spec.seed, "health"),
        iterations=1,
    )
    images = next(iter(loader)).images.to(context.device)
    objective.eval()
    with torch.no_grad():
        maps = objective.maps(images)
        assert context.spec.translator is not None
        health = checked_health(METHODS.get(context.spec.translator.method), lambda: objective.network.health(maps))
    context.events.write("health", **health)
    return health
