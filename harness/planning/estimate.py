"""Multiply-adds and measured times of training and evaluating the stages of a plan, for estimates of time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from harness.planning.plan import Node, Plan
    from harness.workspace.folders import Workspace


class StepTime(NamedTuple):
    """Measured times of a training step: of the student's own part, and of the teacher's, in one unit."""

    own: float
    teacher: float


def own_macs(node: Node) -> float:
    """Multiply-adds of a stage's training, its teacher's excluded: three forward passes per image."""
    spec = node.spec
    return 0.0 if spec.kind == "translator" else 3 * _images(node) * _forward_macs(spec.model.word, spec.recipe.crop)


def teacher_macs(plan: Plan, node: Node) -> float:
    """Multiply-adds of the teacher's forward passes during a stage's training."""
    teacher = node.spec.parents.get("teacher")
    if not teacher:
        return 0.0
    return _images(node) * _forward_macs(plan.nodes[teacher].spec.model.word, node.spec.recipe.crop)


def training_macs(plan: Plan, node: Node) -> float:
    """Multiply-adds of training a stage alone, its teacher's included."""
    return own_macs(node) + teacher_macs(plan, node)


def cohort_macs(plan: Plan, keys: Sequence[str]) -> float:
    """Multiply-adds of training stages together: the teacher runs once for all."""
    nodes = [plan.nodes[key] for key in keys]
    return sum(own_macs(node) for node in nodes) + max(teacher_macs(plan, node) for node in nodes)


def evaluation_macs(plan: Plan, node: Node) -> float:
    """Multiply-adds of a stage's evaluations: on `val` while it is trained, and on the reported split at the end.

    Windows, scales and mirrored images count as often as they go through the network. A pixel costs what it costs in a
    crop.
    """
    spec = node.spec
    if spec.kind == "translator" or plan.evaluated is None:
        return 0.0
    from harness.evaluation.inference import input_sizes

    recipe, data = spec.recipe, plan.evaluated
    validations = recipe.iterations // recipe.validate_every if recipe.validate_every else 0
    sizes = input_sizes(recipe.eval_size or data.size, recipe.evaluation)
    pixels = sum(height * width * count for (height, width), count in sizes.items())
    images = data.images + validations * data.validation_images
    return images * pixels / (recipe.crop[0] * recipe.crop[1]) * _forward_macs(spec.model.word, recipe.crop)


def cohort_work(plan: Plan, keys: Sequence[str]) -> float:
    """Multiply-adds of stages together: their training, and the evaluations of each."""
    return cohort_macs(plan, keys) + sum(evaluation_macs(plan, plan.nodes[key]) for key in keys)


def student_time(plan: Plan, key: str, time: StepTime) -> float:
    """Time of training and evaluating a student without its teacher; an evaluation takes as long as its multiply-adds
    do in training."""
    node = plan.nodes[key]
    training = own_macs(node)
    evaluations = evaluation_macs(plan, node) / training if training else 0.0
    return node.spec.recipe.iterations * time.own * (1 + evaluations)


def cohort_time(plan: Plan, keys: Sequence[str], times: Mapping[str, StepTime]) -> float:
    """Time of training and evaluating students together: the teacher runs once for all."""
    iterations = plan.nodes[keys[0]].spec.recipe.iterations
    shared = iterations * max(times[key].teacher for key in keys)
    return shared + sum(student_time(plan, key, times[key]) for key in keys)


def stage_rates(plan: Plan, workspace: Workspace) -> list[float]:
    """Measured multiply-adds per second of the finished stages of this plan."""
    rates = []
    for node in plan.nodes.values():
        folder = workspace.stage(node.key)
        if folder.done():
            seconds = folder.record().training.seconds
            if seconds > 0 and (macs := training_macs(plan, node)):
                rates.append(macs / seconds)
    return rates


def macs_per_second(plan: Plan, workspace: Workspace) -> float | None:
    """Median training speed of this plan's finished stages, in multiply-adds per second; None if none is finished."""
    rates = stage_rates(plan, workspace)
    return statistics.median(rates) if rates else None


def _images(node: Node) -> int:
    return node.spec.recipe.iterations * node.spec.recipe.batch_size


def _forward_macs(word: str, crop: tuple[int, int]) -> float:
    from harness.cost.forward import forward_macs

    return forward_macs(word, crop)
