"""What each kind of stage does: build its networks, train, evaluate, measure, and say all of it in a record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from backbones.base import Network
from harness.cost import measure_cost
from harness.data.access import open_dataset
from harness.data.base import Dataset
from harness.data.loading import training_loader
from harness.distiller import build_translator, checked_health, instantiate
from harness.environment import environment_record, pick_device
from harness.errors import HarnessError
from harness.evaluation.evaluate import Evaluation, evaluate, save_confusion
from harness.evaluation.samples import save_samples
from harness.job import Job
from harness.models import build_model, model_sizes, model_source
from harness.registries import DATASETS, METHODS
from harness.spec import ModelSpec, Precision, StageSpec
from harness.training.checkpoint import load_weights, save_weights
from harness.training.distributed import Processes, join
from harness.training.events import Events
from harness.training.loop import Control, Progress, Trainer, adversaries
from harness.training.numerics import Decision, choose
from harness.training.objective import SegmentationObjective, TranslatorObjective, freeze
from harness.training.randomness import mix, reseed
from harness.workspace import AttemptFolder, Workspace, file_digest, now, write_atomic
from methods.base import Translator
from results.record import Best, Cell, Cost, Metrics, Record, Training
from results.statistics import iou, miou, pixel_accuracy


@dataclass
class Context:
    """What all the steps of a stage share."""

    job: Job
    attempt: AttemptFolder
    dataset: Dataset
    device: torch.device
    processes: Processes
    events: Events
    should_stop: Callable[[], bool]

    @property
    def spec(self) -> StageSpec:
        """The stage."""
        return self.job.stage

    @property
    def classes(self) -> int:
        """Number of classes of the data set."""
        return len(self.dataset.classes)


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
    _settle(job, device)
    dataset = open_dataset(job.stage.dataset, Path(job.data_root) if job.data_root else None)
    _refuse_broken_data(dataset)
    _refuse_changed_sources(job)
    events = Events(attempt.events if processes.main else None)
    context = Context(job, attempt, dataset, device, processes, events, should_stop)
    events.write("start", name=job.name, device=str(device))
    try:
        train = _train_translator if job.stage.kind == "translator" else _train_network
        objective, progress, training = train(context)
        if not processes.main:
            return None
        record = _conclude(context, objective, progress, training, started)
        events.write("done", miou=record.metrics.miou if record.metrics else None)
        return record
    finally:
        processes.barrier()
        processes.close()
        events.close()


def _settle(job: Job, device: torch.device) -> None:
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


def _refuse_changed_sources(job: Job) -> None:
    """Data set, models and translator must come from the plugins and packages that the stage was planned with.

    Methods see to it themselves, when they are instantiated.
    """
    spec = job.stage
    found = {f"data set '{spec.dataset.name}'": (spec.dataset.source, DATASETS.entry(spec.dataset.name).source)}
    models = [spec.model]
    if "teacher" in spec.parents:
        models.append(_teacher_spec(job).model)
    found |= {f"model {model.word}": (model.source, model_source(model)) for model in models}
    if spec.translator is not None:
        method = spec.translator.method
        found[f"method '{method}'"] = (spec.translator.source, METHODS.entry(method).source)
    for what, (planned, current) in found.items():
        if planned != current:
            raise HarnessError(
                f"the plugin or package of {what} changed since the stage was planned "
                f"(sha256 {planned[:12] or 'none'} then, {current[:12] or 'none'} now)",
                "plan the sweep again",
            )


def _train_network(context: Context) -> tuple[nn.Module, Progress, Training]:
    spec, device = context.spec, context.device
    reseed(spec.seed, "weights")
    network = build_model(spec.model, context.classes, _first_weights(context.job, spec.model))
    teacher = _teacher(context) if "teacher" in spec.parents else None
    distiller = instantiate(
        spec.method,
        model_sizes(spec.model, context.classes),
        model_sizes(_teacher_spec(context.job).model, context.classes) if teacher is not None else None,
        _translators(context, teacher),
        seed=mix(spec.seed, "adapters"),
    )
    objective = SegmentationObjective(network, distiller, teacher, spec.seed, spec.recipe.teacher_norm).to(device)
    decision = _guard(context, network)
    if teacher is not None:
        teacher.to(device)
    progress = _fit(context, objective, network, decision, lambda: _validate(context, network, decision))
    weights = {"ce": 1.0, **distiller.weights}
    return network, progress, _training(context, progress, decision, weights)


def _train_translator(context: Context) -> tuple[nn.Module, Progress, Training]:
    spec, device = context.spec, context.device
    teacher = _teacher(context)
    translator = _build_translator(spec, context.classes)
    objective = TranslatorObjective(translator, teacher, spec.seed, spec.recipe.teacher_norm).to(device)
    teacher.to(device)
    # A translator is a handful of convolutions: full precision costs little and keeps a small latent alive.
    decision = Decision(precision="fp32", channels_last=False, note="", findings=())
    progress = _fit(context, objective, teacher, decision, None)
    training = _training(context, progress, decision, {n: t.weight for n, t in translator.terms.items()})
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
        wrapped=processes.wrap(objective, context.device, apart=apart(objective)),
    )
    batches = training_loader(
        context.dataset.split("train"),
        recipe,
        mean=reads.backbone.mean,
        std=reads.backbone.std,
        seed=mix(context.spec.seed, "data"),
        start_iteration=trainer.progress.iteration,
        workers=job.loader_workers,
        device=context.device,
        rank=processes.rank,
        world_size=processes.size,
        classes=context.classes,
    )
    return trainer.run(batches)


def apart(objective: nn.Module) -> list[nn.Module]:
    """Discriminators and memories: they stay equal over processes without help."""
    gathered = [part for part in objective.modules() if getattr(part, "gathers", False)]
    return gathered + [module for _, module in adversaries(objective)]


def _guard(context: Context, network: Network) -> Decision:
    """Precision and layout in which this network's convolutions are right on this device."""
    recipe = context.spec.recipe
    decision = choose(
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
    found = _evaluate(context, network, decision, "val")
    return Best(split="val", miou=miou(found.confusion), iteration=0)


def _evaluate(context: Context, network: Network, decision: Decision, split: str) -> Evaluation:
    def report(done: int, total: int) -> None:
        if context.events.due():
            context.events.write("evaluating", split=split, done=done, total=total)

    return evaluate(
        network,
        context.dataset.split(split),
        classes=context.classes,
        mean=network.backbone.mean,
        std=network.backbone.std,
        eval_size=context.spec.recipe.eval_size,
        device=context.device,
        precision=decision.precision,
        channels_last=decision.channels_last,
        progress=report,
    )


def _conclude(context: Context, trained: nn.Module, progress: Progress, training: Training, started: str) -> Record:
    """Write weights, evaluate, measure, and write the record last: with it, the stage is done."""
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
    write_atomic(folder.record_file, record.model_dump_json(indent=1))
    folder.checkpoint_file.unlink(missing_ok=True)
    return record


def _metrics(context: Context, network: Network, training: Training, progress: Progress) -> Metrics:
    split = context.dataset.splits[-1]
    decision = Decision(cast(Precision, training.precision), training.channels_last, "", ())
    found = _evaluate(context, network, decision, split)
    save_confusion(context.job.folder.path / "confusion.npz", found)
    samples, eval_size = context.job.folder.path / "samples", context.spec.recipe.eval_size
    save_samples(samples, network, context.dataset, split, context.device, eval_size=eval_size)
    total = found.confusion.sum(0)
    values = iou(total)
    return Metrics(
        split=split,
        images=len(found.names),
        miou=miou(total),
        pixel_accuracy=pixel_accuracy(total),
        per_class_iou={
            name: None if value != value else float(value) for name, value in zip(context.dataset.classes, values)
        },
        best=Best.model_validate(progress.best) if progress.best else None,
    )


def _cost(context: Context, network: Network, training: Training) -> Cost:
    size = context.spec.recipe.eval_size or context.dataset.eval_size
    return measure_cost(
        network,
        size,
        device=context.device,
        precision=cast(Precision, training.precision),
        channels_last=training.channels_last,
    )


def _training(context: Context, progress: Progress, decision: Decision, weights: dict[str, float]) -> Training:
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
        workers_beside=context.job.workers_beside,
    )


def _health(context: Context, objective: TranslatorObjective, teacher: Network) -> dict[str, float]:
    """What the translator says of itself on fresh training batches."""
    recipe = context.spec.recipe
    loader = training_loader(
        context.dataset.split("train"),
        recipe,
        mean=teacher.backbone.mean,
        std=teacher.backbone.std,
        seed=mix(context.spec.seed, "health"),
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


def _teacher_spec(job: Job) -> StageSpec:
    parent = Workspace(Path(job.workspace)).stage(job.stage.parents["teacher"])
    return StageSpec.model_validate(parent.record().spec)


def _teacher(context: Context) -> Network:
    """The trained teacher, frozen, its weights checked against its record."""
    parent = Workspace(Path(context.job.workspace)).stage(context.spec.parents["teacher"])
    _check_artefact(parent)
    spec = StageSpec.model_validate(parent.record().spec)
    model = spec.model.model_copy(update={"weights": type(spec.model.weights)()})
    teacher = build_model(model, context.classes, None)
    load_weights(parent.weights_file, teacher)
    freeze(teacher)
    return teacher


def _check_artefact(parent: Any) -> None:
    """The parent is finished, and its weights are those its record speaks of."""
    expected = parent.record().artefacts.get("weights.safetensors")
    if not parent.weights_file.is_file() or file_digest(parent.weights_file) != expected:
        raise HarnessError(
            f"parent stage {parent.key}: its weights are missing or not those of its record",
            f"delete {parent.path} and run the sweep again",
        )


def _build_translator(spec: StageSpec, classes: int) -> Translator:
    assert spec.translator is not None
    return build_translator(spec.translator, model_sizes(spec.model, classes), mix(spec.seed, "translator weights"))


def _translators(context: Context, teacher: Network | None) -> dict[str, Translator]:
    """The trained translators that the stage's methods ask for, by method."""
    found: dict[str, Translator] = {}
    for role, key in context.spec.parents.items():
        kind, _, method = role.partition(":")
        if kind != "translator":
            continue
        parent = Workspace(Path(context.job.workspace)).stage(key)
        _check_artefact(parent)
        translator = _build_translator(StageSpec.model_validate(parent.record().spec), context.classes)
        load_weights(parent.weights_file, translator)
        freeze(translator)
        found[method] = translator.to(context.device)
    return found


def _first_weights(job: Job, model: ModelSpec) -> Path | None:
    if not model.weights.sha256:
        return None
    file = Path(job.weights.get(model.weights.sha256, ""))
    if not file.is_file() or file_digest(file) != model.weights.sha256:
        raise HarnessError(
            f"the first weights of {model.word} (sha256 {model.weights.sha256[:12]}) are not at {file}",
            "run the sweep again with --weights or --weights-dir",
        )
    return file


def _artefacts(folder: Path) -> dict[str, str]:
    names = ["weights.safetensors", "confusion.npz", *(f"samples/{p.name}" for p in (folder / "samples").glob("*"))]
    return {name: file_digest(folder / name) for name in sorted(names) if (folder / name).is_file()}
