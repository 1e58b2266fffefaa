"""The smallest sweep that is still whole: generated pictures of 32 pixels, a few iterations, real encoders."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

from harness.launch.base import Options, make_job
from harness.planning.plan import Node, Plan, make_plan
from harness.specs.spec import SweepSpec
from harness.worker import main
from harness.workspace.folders import StageFolder, Workspace
from harness.workspace.job import Job

DATASET = "shapes[size=32,train=12,val=3,test=4]"
STUDENT = "timm:test_efficientnet"
TEACHER = "timm:test_resnet/linear@8"
CHANGES = {"crop": [32, 32], "batch_size": 4, "iterations": 8, "validate_every": 4}


def tiny_sweep(**changes: object) -> SweepSpec:
    """A sweep of tiny networks on tiny pictures."""
    values = {
        "methods": ("none",), "students": (STUDENT,), "strides": (16,), "teachers": (TEACHER,),
        "dataset": DATASET, "recipe": "quick", "set": CHANGES, **changes,
    }  # fmt: skip
    return SweepSpec.model_validate(values)


def tiny_flags(workspace: Path, **changes: str) -> list[str]:
    """The same sweep as flags of `harness sweep`."""
    words = {
        "methods": "none,kd", "students": STUDENT, "strides": "16", "teachers": TEACHER, "dataset": DATASET,
        "recipe": "quick", "workspace": str(workspace), **changes,
    }  # fmt: skip
    flags = [part for name, value in words.items() for part in (f"--{name.replace('_', '-')}", value)]
    return [*flags, *(part for name, value in CHANGES.items() for part in ("--set", f"{name}={value}"))]


def job_of(plan: Plan, node: Node, root: Path, **changes: object) -> Job:
    """The job of a node in a workspace of the test's own."""
    options = Options(Workspace(root), "", device="cpu", threads=1, checkpoint_every=2)
    return make_job(plan, node, options, **changes)


def stage_folders(root: Path) -> list[StageFolder]:
    """Every stage of a workspace, sorted by key."""
    return [StageFolder(path) for path in sorted((root / "stages").iterdir())]


def run_all(plan: Plan, root: Path) -> None:
    """Run every stage of a plan in this process, parents first."""
    order = {"teacher": 0, "translator": 1, "student": 2}
    for node in sorted(plan.nodes.values(), key=lambda n: order[n.spec.kind]):
        assert main(job_of(plan, node, root).write(), stop=Never()) == 0


class Never:
    """Never asks a run to stop."""

    reason = ""

    def __call__(self) -> bool:
        return False


class After:
    """Asks a run to stop when it was asked often enough."""

    reason = "the test"

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def in_a_process(work: Callable[[], object]) -> int | None:
    """Run something in a forked process; its exit code, negative for a signal."""
    process = multiprocessing.get_context("fork").Process(target=_quietly, args=(work,))
    process.start()
    process.join()
    return process.exitcode


def _quietly(work: Callable[[], object]) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    raise SystemExit(work())


def only_student(plan: Plan) -> Node:
    """The one student of a plan."""
    (node,) = [n for n in plan.nodes.values() if n.spec.kind == "student"]
    return node


__all__ = [
    "After",
    "Never",
    "in_a_process",
    "job_of",
    "make_plan",
    "only_student",
    "run_all",
    "stage_folders",
    "tiny_flags",
    "tiny_sweep",
]
