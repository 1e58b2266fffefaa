"""Seconds to plan sweeps of many cells: a grid over one method, and seeds of four methods.

python benchmarks/plan.py
"""

from __future__ import annotations

import time
from typing import Any

from harness.planning.parse_sweep import sweep_spec
from harness.planning.plan import make_plan

SMALL = {"students": "timm:test_efficientnet", "teachers": "timm:test_resnet/linear@8", "strides": "16"}


def seconds(**words: Any) -> str:
    """Cells, seconds and seconds of processor time from the words to the plan."""
    began, worked = time.perf_counter(), time.process_time()
    plan = make_plan(sweep_spec({**SMALL, **words}, None))
    return (
        f"{plan.cells:6} cells {time.perf_counter() - began:7.2f} s {time.process_time() - worked:7.2f} s of processor"
    )


def main() -> None:
    """Print one line a sweep, after one that pays for the imports."""
    seconds(methods="ka")
    for points in (1000, 10000):
        print("grid  ", seconds(methods=f"ka[beta={'|'.join(str(number + 1) for number in range(points))}]"))
    for number in (250, 2500):
        print("seeds ", seconds(methods="none,kd,cwd,ka", seeds=",".join(str(seed) for seed in range(number))))


if __name__ == "__main__":
    main()
