"""Margin distillation: the student learns by how much the teacher prefers its best class over the second best."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from methods.base import IGNORE, Method, MethodParams, Step, Term, resize, resize_labels
from methods.parts.precision import precise


class Margin(Method):
    """L = mean over labelled pixels of |m_T − m_S|,  m = score of the teacher's best class − of its second best."""

    name = "margin"
    summary = "difference of the margins between the teacher's two best classes"
    terms: ClassVar[dict[str, Term]] = {"margin": Term(1.0, symbol="mu", summary="difference at labelled pixels")}
    reads = frozenset({"logits", "labels"})

    class Params(MethodParams):
        """Choices of the method."""

        beta: float = Field(1.0, gt=0, description="differences below this count squared (smooth L1)")

    params: Params

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"margin": scalar}, if active."""
        if "margin" not in self.active:
            return {}
        teacher = step.teacher_maps.logits
        best = teacher.topk(2, dim=1).indices
        ours, theirs = (x.gather(1, best) for x in (resize(step.student.logits, teacher), teacher))
        valid = resize_labels(step.labels, teacher) != IGNORE
        gaps = [precise(pair[:, 0] - pair[:, 1])[valid] for pair in (ours, theirs)]
        loss = F.smooth_l1_loss(*gaps, reduction="sum", beta=self.params.beta)
        return {"margin": loss / valid.sum().clamp(min=1)}
