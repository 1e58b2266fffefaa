"""Seconds to plan sweeps of many cells: a grid over one method, and seeds of four methods.

python benchmarks/plan.py
"""

from __future__ import annotations

import time
from typing import Any

from harness.planning.parse_sweep import sweep_spec
from harness.planning.plan import make_plan

SMALL = {"students": "timm:test_efficientnet", "teachers": "timm:test_resnet/linear@8", "strides": "16"}


def seconds(**words: Any) -> tuple[int, float]:
    """(cells, seconds from the words to the plan)."""
    began = time.perf_counter()
    plan = make_plan(sweep_spec({**SMALL, **words}, None))
    return plan.cells, time.perf_counter() - began


def main() -> None:
    """Print one line a sweep, after one that pays for the imports."""
    seconds(methods="ka")
    for points in (250, 1000, 3000):
        cells, took = seconds(methods=f"ka[beta={'|'.join(str(number + 1) for number in range(points))}]")
        print(f"grid   {cells:6} cells {took:7.2f} s")
    for number in (250, 2500):
        cells, took = seconds(methods="none,kd,cwd,ka", seeds=",".join(str(seed) for seed in range(number)))
        print(f"seeds  {cells:6} cells {took:7.2f} s")


if __name__ == "__main__":
    main()
