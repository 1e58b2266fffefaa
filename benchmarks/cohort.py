"""What the students of a sweep take in lock-step and one by one, from their jobs to their records.

    python benchmarks/cohort.py [--methods all] [--strides 16,32] [--iterations 40] [--crop 128] [--batch 4]

The teacher and the translators are trained first, once. Then the students of one seed are trained twice, turn about,
each time in processes forked from this one as the local launcher does it: one process a student, and one a cohort.
A process's time is its processor time (user and system, on one thread), so that what else the machine does hardly
matters: networks built, training, evaluation, costs and record are all in it. Weights are compared, file by file. From
the records of the cohort come the students' own training (forward and backward pass, terms, optimisers) and what the
training would have been alone. Nothing is downloaded: weights are random.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from commands import sweep_parser

from harness.launch.base import Options, make_job
from harness.planning.cohorts import make_cohorts
from harness.planning.plan import Plan, make_plan
from harness.specs.spec import SweepSpec
from harness.worker import main as work
from harness.workspace.folders import Workspace
from results.record import Record


def run(plan: Plan, keys: Sequence[str], root: Path) -> float:
    """Train some stages in one forked process; its processor time in seconds."""
    options = Options(Workspace(root), "", device="cpu", threads=1)
    files = [make_job(plan, plan.nodes[key], options).write(durable=False) for key in keys]
    process = os.fork()
    if process == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os._exit(work(files))
    _, status, used = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{[plan.nodes[key].name for key in keys]} ended with status {status}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Parse the flags, measure, print a table."""
    parser = sweep_parser(__doc__)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    recipe = {"crop": [asked.crop] * 2, "batch_size": asked.batch, "iterations": asked.iterations}
    plan = make_plan(
        SweepSpec(
            methods=("none", *asked.methods.split(",")),
            strides=tuple(int(stride) for stride in asked.strides.split(",")),
            students=(asked.student,),
            teachers=(asked.teacher,),
            dataset=asked.dataset,
            recipe="quick",
            set={**recipe, "teacher.iterations": 2, "translator.iterations": 2},
        )
    )
    students = [key for key, node in plan.nodes.items() if node.spec.kind == "student"]
    with tempfile.TemporaryDirectory() as folder:
        base, alone, together = (Path(folder) / name for name in ("base", "alone", "together"))
        for key in (key for key in plan.nodes if key not in students):
            run(plan, [key], base)
        shutil.copytree(base, alone)
        shutil.copytree(base, together)
        cohorts = make_cohorts(plan, students)
        one_by_one = lock_step = 0.0
        for cohort in cohorts:
            lock_step += run(plan, cohort, together)
            one_by_one += sum(run(plan, [key], alone) for key in cohort)
        found, other = ([Workspace(root).stage(key).record() for key in students] for root in (together, alone))
    _print(asked, [len(cohort) for cohort in cohorts], found, other, lock_step, one_by_one)


def _print(
    asked: argparse.Namespace,
    sizes: list[int],
    found: list[Record],
    other: list[Record],
    lock_step: float,
    one_by_one: float,
) -> None:
    equal = sum(a.artefacts["weights.safetensors"] == b.artefacts["weights.safetensors"] for a, b in zip(found, other))
    print(f"{len(found)} students ({asked.methods}; strides {asked.strides}) of {asked.student} in cohorts of {sizes}")
    print(f"teacher {asked.teacher}; {asked.iterations} iterations of {asked.batch} crops of {asked.crop}²")
    print(f"cpu, {platform.machine()}, torch {torch.__version__}; weights equal: {equal} of {len(found)}\n")
    print("| jobs to records, processor time | s | of one by one |\n|---|---:|---:|")
    print(
        f"| one by one | {one_by_one:.0f} | 1.00 |\n| in lock-step | {lock_step:.0f} | {lock_step / one_by_one:.2f} |"
    )
    alone = sum(record.training.seconds for record in found)
    rows = {
        "as if each were alone": alone,
        "in lock-step": sum(record.training.paid_s or 0 for record in found),
        "the students' own part": sum((r.training.own_ms or 0) * r.training.iterations / 1000 for r in found),
    }
    print("\n| training alone, from the records of the cohorts | s | of alone |\n|---|---:|---:|")
    for name, value in rows.items():
        print(f"| {name} | {value:.0f} | {value / alone:.2f} |")


if __name__ == "__main__":
    main()
