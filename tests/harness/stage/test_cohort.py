"""Students that are trained together end, bit for bit, as each would have alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.planning.plan import Node, Plan
from harness.plugins.registries import METHODS
from harness.stage.context import Context
from harness.stage.member import Member, build_member
from harness.stage.run import make_batches
from harness.stage.shared import open_shared
from harness.training.loop import CohortLoop
from harness.worker import main
from harness.workspace.events import Events
from tests.end_to_end.tiny import CHANGES, Never, job_of, make_plan, tiny_sweep

SMALL = {"cirkd": "cirkd[pixel_memory=40,region_memory=10,anchors=16]"}
ALL = tuple(SMALL.get(name, name) for name in METHODS.names())
STRIDES = (8, 16, 32)
ITERATIONS = 2


def prepared(root: Path, **changes: Any) -> Plan:
    """A plan whose teacher and translators are trained."""
    recipe = {**CHANGES, "batch_size": 2, "iterations": ITERATIONS, "validate_every": 0, **changes.pop("set", {})}
    plan = make_plan(tiny_sweep(set=recipe, **changes))
    for kind in ("teacher", "translator"):
        for node in plan.nodes.values():
            if node.spec.kind == kind:
                assert main(job_of(plan, node, root).write(), stop=Never()) == 0
    return plan


def students(plan: Plan) -> list[Node]:
    return [node for node in plan.nodes.values() if node.spec.kind == "student"]


def members(plan: Plan, nodes: Sequence[Node], root: Path) -> tuple[list[Member], CohortLoop, Any]:
    """Stages of a cohort, as they are built from their jobs; the loop, and its batches."""
    jobs = [job_of(plan, node, root, checkpoint_every=0) for node in nodes]
    shared = open_shared(jobs[0])
    built = []
    for job in jobs:
        attempt = job.folder.new_attempt()
        context = Context(job, attempt, shared.dataset, shared.device, shared.processes, Events(None))
        built.append(build_member(context, shared))
    loop = CohortLoop([member.learner for member in built], shared.teacher)
    return built, loop, make_batches(shared, jobs[0], loop.start)


def trained(plan: Plan, nodes: Sequence[Node], root: Path) -> list[dict[str, Any]]:
    """What each stage holds after they were trained together."""
    for node in nodes:
        job_of(plan, node, root).folder.checkpoint_file.unlink(missing_ok=True)
    built, loop, batches = members(plan, nodes, root)
    loop.run(batches)
    assert not loop.failed, loop.failed
    return [flat(member.learner.state()) for member in built]


TIMES = ("seconds", "paid_s", "step_ms", "own_ms", "teacher_ms", "loading_ms", "shared_by")


def flat(state: Any, name: str = "") -> dict[str, Any]:
    """Every tensor and number of a state, by its place; times left out."""
    if isinstance(state, dict):
        return {
            k: v for key, value in state.items() if key not in TIMES for k, v in flat(value, f"{name}.{key}").items()
        }
    if isinstance(state, list | tuple):
        return {k: v for key, value in enumerate(state) for k, v in flat(value, f"{name}.{key}").items()}
    return {name: state.detach().clone() if isinstance(state, Tensor) else state}


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Places at which two states are not the same, bit for bit."""
    assert one.keys() == other.keys()
    same = lambda a, b: torch.equal(a, b) if isinstance(a, Tensor) else a == b  # noqa: E731
    return [name for name, value in one.items() if not same(value, other[name])]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_method_at_every_stride_ends_as_it_would_alone(tmp_path: Path, precision: str) -> None:
    """Any two of a method, a stride and a precision meet: along strides, a method's precisions take turns."""
    plan = prepared(tmp_path, methods=ALL, strides=STRIDES, set={"precision": precision})
    assert len(students(plan)) == len(STRIDES) * len(ALL), plan.skips
    nodes = []
    for turn, stride in enumerate(STRIDES, precision == "bf16"):
        nodes += [node for node in students(plan) if f"@{stride} " in node.name][turn % 2 :: 2]
    together = trained(plan, nodes, tmp_path)
    tensors = 0
    for node, state in zip(nodes, together, strict=True):
        (alone,) = trained(plan, [node], tmp_path)
        assert not differing(alone, state), node.name
        tensors += sum(isinstance(value, Tensor) for value in state.values())
    assert tensors > 100 * len(nodes)


def test_students_whose_batches_come_in_parts_end_as_they_would_alone(tmp_path: Path) -> None:
    """With a loss of its own, an auxiliary head, a discriminator and a translator among them."""
    changes = {"batch_size": 3, "student.accumulate": 2, "student.loss.name": "ohem", "student.loss.auxiliary": 0.4}
    plan = prepared(tmp_path, methods=("none", "kd", "skd", "ka"), set=changes)
    nodes = students(plan)
    for node, state in zip(nodes, trained(plan, nodes, tmp_path), strict=True):
        (alone,) = trained(plan, [node], tmp_path)
        assert any("auxiliary" in name for name in state)
        assert not differing(alone, state), node.name
