"""Build a stage for training from its job: networks, distiller and optimisers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from backbones.base import Backbone, Network
from harness.builders.distiller import Distiller, build_distiller
from harness.builders.losses import build_loss
from harness.builders.models import build_model, model_sizes
from harness.data.frequencies import class_pixels
from harness.errors import HarnessError
from harness.numerics.choose import Decision, choose_numerics
from harness.stage.context import Context
from harness.stage.parents import first_weights, refuse_changed_sources, teacher_spec, untrained_translator
from harness.stage.record import evaluate_split
from harness.stage.shared import Shared
from harness.training.auxiliary import build_auxiliary
from harness.training.learner import Control, Learner
from harness.training.objective import SegmentationObjective, TranslatorObjective
from harness.training.optimizers import discriminators
from harness.training.randomness import derive_seed, seed_all
from results.record import Best
from results.statistics import miou


@dataclass
class Member:
    """A stage of a cohort, ready for training.

    Attributes:
        learner: its learner, at the iteration of its checkpoint.
        trained: the module to train: the network, or the translator.
        weights: weights of the terms, by name.
    """

    context: Context
    learner: Learner
    trained: nn.Module
    decision: Decision
    weights: dict[str, float]


def build_member(context: Context, shared: Shared) -> Member:
    """Build a stage, and load its checkpoint if there is one.

    Raises:
        StageFailed: a retry would not help.
        HarnessError: a problem that the user can fix (weights, a parent, a plugin).
    """
    refuse_changed_sources(context)
    build = _build_translator if context.spec.kind == "translator" else _build_network
    return build(context, shared)


def _build_network(context: Context, shared: Shared) -> Member:
    spec = context.spec
    seed_all(spec.seed, "weights")
    network = build_model(spec.model, context.classes, first_weights(context.job, spec.model))
    shared.normalised_for(network.backbone)
    decision = _select_precision(context, network)
    has_teacher = "teacher" in spec.parents
    distiller = build_distiller(
        spec.method,
        model_sizes(spec.model, context.classes),
        model_sizes(teacher_spec(context).model, context.classes) if has_teacher else None,
        shared.translators(context, decision.channels_last) if has_teacher else None,
        seed=derive_seed(spec.seed, "adapters"),
    )
    objective = _objective(context, network, distiller).to(context.device)
    decision.apply(objective)
    if objective.needs_teacher:
        shared.ask_teacher(context)
    frozen = spec.recipe.freeze == "backbone"
    if frozen:
        _freeze_backbone(network, spec.model.word)
    learner = _learner(context, objective, network.backbone, decision, lambda: _validate(context, network, decision))
    if frozen:
        network.backbone.eval()
    return Member(context, learner, network, decision, objective.weights)


def _freeze_backbone(network: Network, word: str) -> None:
    network.backbone.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise HarnessError(
            f"{word} with a frozen backbone has nothing left to train: its head is a part of it", "set freeze=none"
        )


def _objective(context: Context, network: Network, distiller: Distiller) -> SegmentationObjective:
    """What the stage minimises, by its recipe's loss and its method."""
    spec = context.spec
    asked, workspace = spec.recipe.loss, Path(context.job.workspace)
    loss = build_loss(asked, lambda: class_pixels(context.dataset, spec.dataset, workspace / "checks"))
    auxiliary = None
    if asked.auxiliary:
        sizes, seed = model_sizes(spec.model, context.classes), derive_seed(spec.seed, "auxiliary")
        auxiliary = build_auxiliary(sizes, spec.model.word, seed)
    return SegmentationObjective(network, distiller, spec.seed, loss, auxiliary, asked.auxiliary)


def _build_translator(context: Context, shared: Shared) -> Member:
    teacher = shared.ask_teacher(context)
    shared.normalised_for(teacher.backbone)
    translator = untrained_translator(context.spec, context.classes)
    objective = TranslatorObjective(translator, context.spec.seed).to(context.device)
    # A translator has few convolutions: full precision costs little and preserves a small latent.
    decision = Decision(precision="fp32", channels_last=False, note="", findings=())
    learner = _learner(context, objective, teacher.backbone, decision, None)
    weights = {name: term.weight for name, term in translator.terms.items()}
    return Member(context, learner, translator, decision, weights)


def _learner(
    context: Context,
    objective: nn.Module,
    reads: Backbone,
    decision: Decision,
    validate: Callable[[], Best] | None,
) -> Learner:
    """The learner of an objective; `reads` defines the normalisation of its images."""
    job, processes, recipe = context.job, context.processes, context.spec.recipe
    control = Control(
        events=context.events,
        checkpoint=None if context.stand_ins is not None else job.folder.checkpoint_file,
        checkpoint_every=job.checkpoint_every,
        validate=validate if processes.main else None,
        main_process=processes.main,
        gradients_every=job.gradients_every if processes.size == 1 else 0,
    )
    if decision.channels_last:
        objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.compile:
        cast(nn.Module, objective.network).compile()
    wrapped = processes.wrap(objective, context.device, ignored=synchronised_modules(objective))
    return Learner(
        objective, recipe, context.device, decision.precision, decision.channels_last, control, wrapped, reads
    )


def synchronised_modules(objective: nn.Module) -> list[nn.Module]:
    """Discriminators and memories, which stay equal in all processes without synchronisation."""
    gathered = [part for part in objective.modules() if getattr(part, "gathers", False)]
    return gathered + [module for _, module in discriminators(objective)]


def _select_precision(context: Context, network: Network) -> Decision:
    """Choose a precision and layout in which this network's convolutions are right on this device."""
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
        print(f"numerics: {context.job.name}: {decision.note}", flush=True)
    return decision


def _validate(context: Context, network: Network, decision: Decision) -> Best:
    found = evaluate_split(context, network, decision, "val")
    return Best(split="val", miou=miou(found.confusion), iteration=0)
