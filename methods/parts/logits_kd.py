"""Pixel-wise distillation of logits."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from methods.base import IGNORE, Params, Step, Term, resize_labels
from methods.parts.grids import Grid, align, check_same_shape, from_teacher
from methods.parts.precision import full_precision, precise

Reduction = Literal["pixels", "elements", "batch"]


def log_probabilities(logits: Tensor, tau: float) -> Tensor:
    """log softmax over classes of logits/τ, in full precision: (B, K, h, w) -> (B, K, h, w)."""
    with full_precision(logits):
        return F.log_softmax(precise(logits) / tau, dim=1)


def logits_kl(step: Step, *, grid: Grid, tau: float, reduction: Reduction, mask_ignored: bool) -> Tensor:
    """`pixel_kl` of a step's logits on a grid; the teacher's part is computed once per batch for all students."""
    student, teacher = align(step.student.logits, step.teacher_maps.logits, grid)
    target = from_teacher(
        step.teacher_maps, "log-probabilities", teacher, grid, lambda logits: log_probabilities(logits, tau), tau
    )
    labels = step.labels if mask_ignored else None
    return pixel_kl(student, teacher, tau=tau, reduction=reduction, labels=labels, target=target)


def pixel_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    tau: float = 1.0,
    reduction: Reduction = "pixels",
    labels: Tensor | None = None,
    target: Tensor | None = None,
) -> Tensor:
    """τ² · KL(softmax(T/τ) ‖ softmax(S/τ)) over classes, at every pixel (Hinton et al., 2015).

    Args:
        student, teacher: logits (B, K, h, w) on one grid.
        tau: temperature τ.
        reduction: divide the sum by the number of pixels ("pixels": B·h·w), of elements ("elements": B·K·h·w), or of
            images ("batch": B).
        labels: (B, H, W); pixels labelled `IGNORE` (after nearest resizing) are left out of the sum and of the count.
            None to keep all.
        target: `log_probabilities` of the teacher, if already computed.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(student, teacher)
    with full_precision(student):
        target = log_probabilities(teacher, tau) if target is None else target
        log_student = F.log_softmax(precise(student) / tau, dim=1)
        kl = (target.exp() * (target - log_student)).sum(dim=1)
        batch, classes, height, width = student.shape
        count = torch.full((), batch * height * width, dtype=kl.dtype, device=kl.device)
        if labels is not None:
            valid = resize_labels(labels, student) != IGNORE
            kl = kl * valid
            count = valid.sum().to(kl.dtype)
        divisor = {"pixels": count, "elements": count * classes, "batch": torch.full_like(count, batch)}[reduction]
        return kl.sum() / divisor.clamp_min(1) * tau**2


KD_TERM = Term(weight=1.0, summary="KL of the teacher's and the student's class distributions at every pixel")
"""The term `kd` that CIRKD's recipes add to every method. Remove it with `-kd`."""


class KDFields(Params):
    """Fields of a method that adds the term `kd`, which `kd_term` computes."""

    kd_tau: float = Field(1.0, gt=0, description="temperature of the kd term")
    kd_align: Grid = Field("teacher", description="grid on which the kd term compares logits")
    kd_mask_ignored: bool = Field(False, description="leave ignored pixels out of the kd term")
    kd_reduction: Reduction = Field("pixels", description="the kd term's sum is divided by the number of these")


def kd_term(step: Step, params: KDFields) -> Tensor:
    """The term `kd`: `pixel_kl` of a step's logits, under the method's fields."""
    return logits_kl(
        step,
        grid=params.kd_align,
        tau=params.kd_tau,
        reduction=params.kd_reduction,
        mask_ignored=params.kd_mask_ignored,
    )
