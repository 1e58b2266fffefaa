"""Progress of a run: iterations done, terms of the loss, times; part of the checkpoint."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from harness.training.timing import Share
from results.record import TermLog

STEPS_KEPT = 400
"""Number of latest iterations whose median time is recorded."""


@dataclass
class Progress:
    """Progress of a run; part of the checkpoint.

    Attributes:
        seconds: training time as if the run had been alone; in `paid_s`, shared parts are divided among the students.
        step_ms, own_ms, teacher_ms, loading_ms: times of the latest iterations, as if the run had been alone.
        shared_by: maximum number of students that were trained together.
    """

    iteration: int = 0
    samples_seen: int = 0
    seconds: float = 0.0
    step_ms: list[float] = field(default_factory=list)
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    first_count: int = 0
    last_count: int = 0
    best: dict[str, Any] | None = None
    paid_s: float = 0.0
    own_ms: list[float] = field(default_factory=list)
    teacher_ms: list[float] = field(default_factory=list)
    loading_ms: list[float] = field(default_factory=list)
    shared_by: int = 1

    def terms(self, weights: dict[str, float]) -> dict[str, TermLog]:
        """Mean of each term over the first and the last tenth of the iterations."""
        return {
            name: TermLog(
                weight=weights.get(name, 1.0),
                first=self.first[name] / max(1, self.first_count),
                last=self.last.get(name, 0.0) / max(1, self.last_count),
            )
            for name in self.first
        }

    def median_step_ms(self) -> float:
        """Median milliseconds of an iteration, data loading and the teacher included."""
        return median(self.step_ms)

    def took(self, share: Share, iterations: int) -> None:
        """Add the time of a number of iterations."""
        self.seconds += share.alone
        self.paid_s += share.paid
        self.shared_by = max(self.shared_by, share.students)
        for name, seconds in (
            ("step_ms", share.alone),
            ("own_ms", share.own),
            ("teacher_ms", share.teacher),
            ("loading_ms", share.loading),
        ):
            setattr(self, name, [*getattr(self, name), 1000 * seconds / iterations][-STEPS_KEPT:])


def median(values: list[float]) -> float:
    """The median; 0 for an empty list."""
    return statistics.median(values) if values else 0.0
