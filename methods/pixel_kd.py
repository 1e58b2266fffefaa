"""The pixel-wise term of Structured Knowledge Distillation, as a method of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from methods.base import IGNORE, Method, MethodParams, Step, Term, resize_labels
from methods.parts.grids import Grid, align, check_same_shape
from methods.parts.precision import full_precision, precise


def pixel_cross_entropy(
    student: Tensor, teacher: Tensor, *, divide_batch: bool = False, labels: Tensor | None = None
) -> Tensor:
    """−Σ softmax(T) · log softmax(S) over images, pixels and classes, divided by h·w.

    Args:
        student, teacher: logits (B, K, h, w) on one grid.
        divide_batch: divide by B as well; the reference does not.
        labels: (B, H, W); pixels labelled `IGNORE` add nothing. None to keep all.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(student, teacher)
    with full_precision(student):
        target = F.softmax(precise(teacher), dim=1)
        entropy = -(target * F.log_softmax(precise(student), dim=1)).sum(dim=1)
        if labels is not None:
            entropy = entropy * (resize_labels(labels, student) != IGNORE)
        batch, _, height, width = student.shape
        return entropy.sum() / (height * width * (batch if divide_batch else 1))


class PixelKD(Method):
    """L_pi = −1/(h·w) · Σ softmax(T) · log softmax(S), over images, pixels and classes; not divided by B."""

    name = "pixel_kd"
    summary = "cross-entropy of class distributions at every pixel, as SKD reduces it"
    paper = (
        "Liu, Chen, Liu, Qin, Luo, Wang: Structured Knowledge Distillation for Semantic Segmentation; "
        "CVPR 2019; arXiv 1903.04197"
    )
    terms: ClassVar[Mapping[str, Term]] = {
        "pixel": Term(10.0, summary="cross-entropy of class distributions, summed over the batch")
    }
    reads = frozenset({"logits", "labels"})

    class Params(MethodParams):
        """Options that other implementations fix."""

        divide_batch: bool = Field(False, description="divide by the number of images too, unlike the reference")
        align: Grid = Field("teacher", description="grid on which logits are compared; the other's are resized to it")
        mask_ignored: bool = Field(False, description="leave pixels without a label out of the sum")

    params: Params

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"pixel": cross-entropy}, if active."""
        if "pixel" not in self.active:
            return {}
        student, teacher = align(step.student.logits, step.teacher_maps.logits, self.params.align)
        labels = step.labels if self.params.mask_ignored else None
        return {"pixel": pixel_cross_entropy(student, teacher, divide_batch=self.params.divide_batch, labels=labels)}
