"""Learning rate as a pure function of the iteration, without state."""

from __future__ import annotations

import math

from harness.specs.spec import Schedule


def lr_factor(schedule: Schedule, iteration: int, iterations: int) -> float:
    """Learning rate of an iteration, as a fraction of the maximum.

    Args:
        schedule: warm-up, shape and floor.
        iteration: counts from 0.
        iterations: total number of iterations.
    """
    if iteration < schedule.warmup:
        return (iteration + 1) / (schedule.warmup + 1)
    progress = (iteration - schedule.warmup) / max(1, iterations - schedule.warmup)
    return schedule.floor + (1 - schedule.floor) * _SHAPES[schedule.name](progress, schedule.power)


def _one_cycle(progress: float, _: float) -> float:
    """Cosine from 1/25 up to 1 over the first 30 %, then cosine down to 0 (Smith and Topin, 2018)."""
    if progress < 0.3:
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * progress / 0.3)) / 2
    return (1 + math.cos(math.pi * (progress - 0.3) / 0.7)) / 2


_SHAPES = {
    "poly": lambda progress, power: (1 - progress) ** power,
    "cosine": lambda progress, _: (1 + math.cos(math.pi * progress)) / 2,
    "onecycle": _one_cycle,
    "constant": lambda progress, _: 1.0,
}
