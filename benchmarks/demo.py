"""The sweep of `make demo` in several checkouts, in turn: elapsed time, processor time, whether weights are equal.

    git worktree add /tmp/before REVISION
    python benchmarks/demo.py /tmp/before . [--rounds 2] [--set iterations=6]

Whole commands are timed, from the shell to the leaderboard; processor time is that of the command and of all processes
that it starts. The workspaces are temporary.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SWEEP = ("sweep", "--methods", "none,kd,pixel_kd,ka", "--strides", "8,16,32")
_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2): processes whose parents have ended are waited for here."""


@dataclass
class Run:
    """Seconds of one command, and the sha256 of the weights of each stage."""

    elapsed: float
    processor: float
    weights: dict[str, str]


def run(tree: Path, changes: list[str]) -> Run:
    """The sweep of a checkout.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "harness", *SWEEP, "--workspace", folder]
        words += [word for change in changes for word in ("--set", change)]
        before, began = _processor_s(), time.perf_counter()
        process = os.fork()
        if process == 0:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.execve(words[0], words, {**os.environ, "PYTHONPATH": str(tree.resolve())})
        status, elapsed = os.waitpid(process, 0)[1], time.perf_counter() - began
        _wait_for_all()
        if status:
            raise SystemExit(f"the sweep of {tree} ended with status {status}")
        records = [json.loads(file.read_bytes()) for file in Path(folder).glob("stages/*/record.json")]
        weights = {record["name"]: record["artefacts"]["weights.safetensors"] for record in records}
        return Run(elapsed, _processor_s() - before, weights)


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait_for_all() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def main() -> None:
    """Parse the flags, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="+", type=Path, help="checkouts; all are compared with the first")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="as of harness sweep")
    asked = parser.parse_args()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    found: dict[Path, list[Run]] = {tree: [] for tree in asked.trees}
    for _ in range(asked.rounds):
        for tree in asked.trees:
            found[tree].append(run(tree, asked.set))
    first = found[asked.trees[0]]
    print("| checkout | elapsed, s | of the first | processor, s | of the first | weights equal |")
    print("|---|---:|---:|---:|---:|---:|")
    for tree, runs in found.items():
        columns = [str(tree)]
        for name in ("elapsed", "processor"):
            ours, theirs = (statistics.median(getattr(each, name) for each in part) for part in (runs, first))
            columns += [f"{ours:.0f}", f"{ours / theirs:.2f}"]
        equal = sum(first[0].weights.get(name) == digest for name, digest in runs[0].weights.items())
        print("| " + " | ".join([*columns, f"{equal} of {len(runs[0].weights)}"]) + " |")


if __name__ == "__main__":
    main()
