"""Multiply-adds of training the stages of a plan, for estimates of time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.planning.plan import Node, Plan
    from harness.workspace.folders import Workspace


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
