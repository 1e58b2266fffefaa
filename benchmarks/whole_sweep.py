"""A whole sweep in lock-step, the same one by one, and `none` alone: three commands, from the shell to the leaderboard.

    python benchmarks/whole_sweep.py [--methods all] [--strides 16,32] [--iterations 40] [--only lock-step]

Elapsed and processor time hold everything: planning, teacher, translators, students, loading, evaluation,
records, the leaderboard. The students' own training (forward and backward pass, terms, optimisers) comes from the
records. Workspaces are temporary; weights are random; nothing is downloaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from commands import Run, sweep, sweep_parser

KINDS = ("lock-step", "one by one", "none")


def words(asked: argparse.Namespace, kind: str) -> list[str]:
    """The flags of one of the three sweeps."""
    methods = "none" if kind == "none" else asked.methods
    changes = {
        "crop": f"[{asked.crop},{asked.crop}]",
        "batch_size": asked.batch,
        "iterations": asked.iterations,
        "teacher.iterations": asked.teacher_iterations,
        "translator.iterations": asked.teacher_iterations,
    }
    flags = {
        "methods": methods,
        "strides": asked.strides,
        "students": asked.student,
        "teachers": asked.teacher,
        "dataset": asked.dataset,
        "cohort": "off" if kind == "one by one" else "auto",
        "device": "cpu",
    }
    found = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return [*found, *(word for name, value in changes.items() for word in ("--set", f"{name}={value}"))]


def main() -> None:
    """Parse the flags, measure, print a table."""
    parser = sweep_parser(__doc__)
    parser.add_argument("--teacher-iterations", type=int, default=10)
    parser.add_argument("--only", choices=KINDS, nargs="+", default=KINDS)
    asked = parser.parse_args()
    runs = {}
    for kind in asked.only:
        runs[kind] = sweep(words(asked, kind))
        print(f"{kind}: {runs[kind].elapsed:.0f} s, processor {runs[kind].processor:.0f} s", flush=True)
    _print(runs)


def _students(run: Run) -> Sequence[dict[str, object]]:
    return [record for record in run.records if record["kind"] == "student"]


def _own_s(run: Run) -> float:
    """Seconds of the students' own training."""
    return sum(record["training"]["own_ms"] * record["training"]["iterations"] for record in _students(run)) / 1000  # type: ignore[index]


def _print(runs: dict[str, Run]) -> None:
    first = next(iter(runs.values()))
    count = max(len(_students(run)) for run in runs.values())
    print(f"\n{count} students, {len(first.records) - len(_students(first))} teachers and translators\n")
    print("| sweep | elapsed, s | processor, s | own training, s | processor / own | weights as in the first |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind, run in runs.items():
        equal = sum(first.weights.get(name) == digest for name, digest in run.weights.items())
        own = _own_s(run)
        print(
            f"| {kind} | {run.elapsed:.0f} | {run.processor:.0f} | {own:.0f} | {run.processor / own:.2f} "
            f"| {equal} of {len(run.records)} |"
        )
    for kind in ("one by one", "none"):
        if "lock-step" in runs and kind in runs:
            times = len(_students(runs["lock-step"])) / len(_students(runs[kind]))
            elapsed, processor = (
                getattr(runs["lock-step"], name) / (times * getattr(runs[kind], name))
                for name in ("elapsed", "processor")
            )
            print(f"\nlock-step / {times:g} × {kind}: {elapsed:.2f} elapsed, {processor:.2f} processor time")


if __name__ == "__main__":
    main()
