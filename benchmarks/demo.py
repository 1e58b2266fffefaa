"""The sweep of `make demo` in several checkouts, in turn: elapsed time, processor time, whether weights are equal.

    git worktree add /tmp/before REVISION
    python benchmarks/demo.py /tmp/before . [--rounds 2] [--set iterations=6]

Whole commands are timed, from the shell to the leaderboard; processor time is that of the command and of all processes
that it starts. The workspaces are temporary.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from commands import Run, sweep

DEMO = ("--methods", "none,kd,pixel_kd,ka", "--strides", "8,16,32")


def main() -> None:
    """Parse the flags, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="+", type=Path, help="checkouts; all are compared with the first")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="as of harness sweep")
    asked = parser.parse_args()
    words = [*DEMO, *(word for change in asked.set for word in ("--set", change))]
    found: dict[Path, list[Run]] = {tree: [] for tree in asked.trees}
    for _ in range(asked.rounds):
        for tree in asked.trees:
            found[tree].append(sweep(words, tree))
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
