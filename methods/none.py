"""No distillation: the student learns from the labels alone."""

from __future__ import annotations

from torch import Tensor

from methods.base import Method, Step


class NoDistillation(Method):
    """The baseline of every comparison. It has no terms, so that no trainer needs an `if`."""

    name = "none"
    summary = "cross-entropy alone: what every method is compared with"
    needs_teacher = False

    def forward(self, step: Step) -> dict[str, Tensor]:
        """No terms."""
        return {}
