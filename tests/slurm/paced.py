"""A plugin for the tests: a method that takes its time, so that something can happen to a run while it trains."""

from __future__ import annotations

import os
import time

from torch import Tensor

from methods.base import Method, Step, Term


class Paced(Method):
    """The mean square of the logits, computed slowly. The pace is the environment's and changes no number."""

    name = "paced"
    summary = "mean square of the student's logits, at a pace set by PACE_S"
    terms = {"size": Term(0.1, summary="mean square of the logits")}  # noqa: RUF012
    reads = frozenset({"logits"})
    needs_teacher = False

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The term, after a pause."""
        time.sleep(float(os.environ.get("PACE_S", "0")))
        if step.iteration >= int(os.environ.get("PACE_NAN_AT", "1000000")):
            return {"size": step.student.logits.mean() * float("nan")}
        return {"size": step.student.logits.square().mean()}
