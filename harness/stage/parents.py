"""Load what a stage takes from other stages (teacher, translators) and its initial weights; refuse changed ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from backbones.base import Network
from harness.builders.distiller import build_translator
from harness.builders.models import build_model, model_sizes, model_source
from harness.errors import ChangedSincePlanned, HarnessError
from harness.plugins.registries import DATASETS, LOSSES, METHODS
from harness.specs.spec import ModelSpec, StageSpec, WeightsSpec
from harness.stage.context import Context
from harness.training.checkpoint import load_weights
from harness.training.randomness import derive_seed
from harness.training.teacher import freeze
from harness.workspace.files import file_digest
from harness.workspace.folders import Workspace
from harness.workspace.job import Job
from methods.base import Translator


def refuse_changed_sources(context: Context) -> None:
    """Check that data set, models and translator come from the plugins and packages of the plan.

    Methods are checked when they are built.
    """
    spec = context.spec
    found = {f"data set '{spec.dataset.name}'": (spec.dataset.source, DATASETS.entry(spec.dataset.name).source)}
    models = [spec.model]
    if "teacher" in spec.parents:
        models.append(teacher_spec(context).model)
    found |= {f"model {model.word}": (model.source, model_source(model)) for model in models}
    if spec.kind != "translator":
        loss = spec.recipe.loss
        found[f"loss '{loss.name}'"] = (loss.source, LOSSES.entry(loss.name).source)
    if spec.translator is not None:
        method = spec.translator.method
        found[f"method '{method}'"] = (spec.translator.source, METHODS.entry(method).source)
    for what, (planned, current) in found.items():
        if planned != current:
            raise ChangedSincePlanned(f"the plugin or package of {what}", planned, current)


def teacher_spec(context: Context) -> StageSpec:
    return _parent_spec(context, context.spec.parents["teacher"])


def _parent_spec(context: Context, key: str) -> StageSpec:
    if context.stand_ins is not None:
        return context.stand_ins[key]
    return StageSpec.model_validate(Workspace(Path(context.job.workspace)).stage(key).record().spec)


def load_teacher(context: Context) -> Network:
    """The trained teacher, with its weights verified against its record."""
    key = context.spec.parents["teacher"]
    model = _parent_spec(context, key).model
    teacher = build_model(model.model_copy(update={"weights": WeightsSpec()}), context.classes, None)
    _load_parent(context, key, teacher)
    return teacher


def _load_parent(context: Context, key: str, module: nn.Module) -> None:
    """Load a parent's weights; in a rehearsal it stays untrained."""
    if context.stand_ins is None:
        parent = Workspace(Path(context.job.workspace)).stage(key)
        _check_artefact(parent)
        load_weights(parent.weights_file, module)


def _check_artefact(parent: Any) -> None:
    """Check that the parent is finished and its weights match its record."""
    expected = parent.record().artefacts.get("weights.safetensors")
    if not parent.weights_file.is_file() or file_digest(parent.weights_file) != expected:
        raise HarnessError(
            f"parent stage {parent.key}: its weights are missing or do not match its record",
            f"delete {parent.path} and run the sweep again",
        )


def untrained_translator(spec: StageSpec, classes: int) -> Translator:
    assert spec.translator is not None
    return build_translator(
        spec.translator, model_sizes(spec.model, classes), derive_seed(spec.seed, "translator weights")
    )


def load_translators(context: Context, loaded: dict[str, Translator]) -> dict[str, Translator]:
    """The trained translators that the stage's methods need, by method.

    Args:
        loaded: key -> translator, loaded by other stages; translators loaded here are added.
    """
    found: dict[str, Translator] = {}
    for role, key in context.spec.parents.items():
        kind, _, method = role.partition(":")
        if kind != "translator":
            continue
        if key not in loaded:
            loaded[key] = _load_translator(context, key)
        found[method] = loaded[key]
    return found


def _load_translator(context: Context, key: str) -> Translator:
    translator = untrained_translator(_parent_spec(context, key), context.classes)
    _load_parent(context, key, translator)
    freeze(translator)
    return translator.to(context.device)


def first_weights(job: Job, model: ModelSpec) -> Path | None:
    if not model.weights.sha256:
        return None
    file = Path(job.weights.get(model.weights.sha256, ""))
    if not file.is_file() or file_digest(file) != model.weights.sha256:
        raise HarnessError(
            f"the initial weights of {model.word} (sha256 {model.weights.sha256[:12]}) are not at {file}",
            "run the sweep again with --weights or --weights-dir",
        )
    return file
