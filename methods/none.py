"""No distillation: the student learns from the labels alone."""

from __future__ import annotations

from torch import Tensor

from methods.base import Method, Step


class NoDistillation(Method):
    """The baseline of every comparison: a method without terms, so that trainers need no special case."""

    name = "none"
    summary = "cross-entropy alone: the baseline of every comparison"
    needs_teacher = False

    def forward(self, step: Step) -> dict[str, Tensor]:
        """No terms."""
        return {}
