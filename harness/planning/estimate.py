"""How much arithmetic a plan's training is: multiply-adds, a stage's own and its teacher's."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.planning.plan import Node, Plan
    from harness.workspace.folders import Workspace


def own_macs(node: Node) -> float:
    """Of a stage's training without its teacher: three forward passes' worth an image."""
    spec = node.spec
    return 0.0 if spec.kind == "translator" else 3 * _images(node) * _forward_macs(spec.model.word, spec.recipe.crop)


def teacher_macs(plan: Plan, node: Node) -> float:
    """Of the forward passes of a stage's teacher while the stage is trained."""
    teacher = node.spec.parents.get("teacher")
    if not teacher:
        return 0.0
    return _images(node) * _forward_macs(plan.nodes[teacher].spec.model.word, node.spec.recipe.crop)


def training_macs(plan: Plan, node: Node) -> float:
    """Of a stage that is trained alone."""
    return own_macs(node) + teacher_macs(plan, node)


def cohort_macs(plan: Plan, keys: Sequence[str]) -> float:
    """Of stages that are trained together: the teacher is asked once."""
    nodes = [plan.nodes[key] for key in keys]
    return sum(own_macs(node) for node in nodes) + max(teacher_macs(plan, node) for node in nodes)


def stage_rates(plan: Plan, workspace: Workspace) -> list[float]:
    """Multiply-adds a second of stages of this plan that are done."""
    rates = []
    for node in plan.nodes.values():
        folder = workspace.stage(node.key)
        if folder.done():
            seconds = folder.record().training.seconds
            if seconds > 0 and (macs := training_macs(plan, node)):
                rates.append(macs / seconds)
    return rates


def macs_per_second(plan: Plan, workspace: Workspace) -> float | None:
    """How fast stages of this plan were trained here; None if none is done."""
    rates = stage_rates(plan, workspace)
    return statistics.median(rates) if rates else None


def _images(node: Node) -> int:
    return node.spec.recipe.iterations * node.spec.recipe.batch_size


def _forward_macs(word: str, crop: tuple[int, int]) -> float:
    from harness.cost.forward import forward_macs

    return forward_macs(word, crop)
