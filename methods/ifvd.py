"""Intra-class feature variation: how far each pixel's feature vector is from the mean of its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from methods.base import IGNORE, MethodParams, Step, Term, resize_labels
from methods.parts.discriminator import AdversarialMethod, DiscriminatorFields
from methods.parts.grids import Grid, Source, align, from_teacher, pick
from methods.parts.logits_kd import KD_TERM, KDFields, kd_term
from methods.parts.precision import full_precision, precise, unit


def variation(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Cosine of every feature vector with the mean vector of its class in its image.

    Args:
        features: (B, C, h, w).
        labels: (B, h, w); pixels labelled `IGNORE` or with an unknown class belong to no class.
        classes: K.

    Returns:
        (B, h, w); 1 where the pixel belongs to no class.
    """
    with full_precision(features):
        x = precise(features).flatten(2)
        label = labels.flatten(1)
        valid = (label != IGNORE) & (label >= 0) & (label < classes)
        member = F.one_hot(label.masked_fill(~valid, classes), classes + 1)[..., :classes].to(x.dtype)
        means = (x @ member) / member.sum(dim=1, keepdim=True).clamp_min(1)
        cosine = (unit(x) * unit(means @ member.mT)).sum(dim=1)
        return torch.where(valid, cosine, torch.ones_like(cosine)).reshape(labels.shape)


def variation_distance(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    classes: int,
    *,
    divide_by: Literal["all", "labelled"] = "all",
    target: Tensor | None = None,
) -> Tensor:
    """Mean squared difference of the variations of student and teacher.

    Args:
        student, teacher: (B, C, h, w) and (B, C', h, w); channels may differ.
        labels: (B, H, W), resized by nearest neighbour. Pixels of no class add nothing.
        classes: K.
        divide_by: average over all positions, as the reference does, or over labelled ones.
        target: `variation` of the teacher, if already computed.

    Raises:
        ValueError: batch or grid differ.
    """
    if student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(f"variations of {tuple(student.shape)} and {tuple(teacher.shape)} cannot be compared")
    label = resize_labels(labels, student)
    target = variation(teacher, label, classes) if target is None else target
    difference = (variation(student, label, classes) - target).square()
    if divide_by == "all":
        return difference.mean()
    valid = (label != IGNORE) & (label >= 0) & (label < classes)
    return difference.sum() / valid.sum().clamp_min(1)


class IFVD(AdversarialMethod):
    """L = λ · mean_i (V_S(i) − V_T(i))² + adversarial term + kd,  V(i) = cos(f_i, mean of f over i's class).

    Classes come from the labels; means are per image. Only cosines are compared, so channels may differ.
    `variant=cirkd` is the recipe of CIRKD's tables: weight 20, a hinge discriminator, and `kd`.
    `variant=original` is the authors' own: weight 200, WGAN-GP, and a kd term that is divided by the number of
    elements (weight 10).
    """

    name = "ifvd"
    version = 2
    summary = "cosine of each pixel's features with the mean of its class"
    paper = (
        "Wang, Zhou, Jiang, Bai, Xu: Intra-class Feature Variation Distillation for Semantic Segmentation; ECCV 2020"
    )
    terms: ClassVar[Mapping[str, Term]] = {
        "ifv": Term(20.0, "lambda_ifv", "squared difference of the cosines with the class means"),
        "adversarial": Term(0.001, "lambda_adv", "the discriminator's score of the student"),
        "kd": KD_TERM,
    }
    reads = frozenset({"last", "features", "logits", "images", "labels"})

    class Params(KDFields, DiscriminatorFields):
        """The variant and its settings; explicit values override those of the variant."""

        variant: Literal["cirkd", "original"] = Field(
            "cirkd", description="whose recipe: sets weights, adv_loss, kd_reduction"
        )
        source: Source = Field("last", description="map: what the classifier reads, or the backbone's deepest")
        align: Grid = Field("teacher", description="grid on which maps are compared; the other's are resized to it")
        divide_by: Literal["all", "labelled"] = Field(
            "all", description="positions that the mean is over: all, as in the reference, or those with a label"
        )

        @model_validator(mode="before")
        @classmethod
        def _variant(cls, data: Any) -> Any:
            if isinstance(data, dict) and data.get("variant") == "original":
                return {"adv_loss": "wgan-gp", "kd_reduction": "elements", **data}
            return data

    params: Params

    @classmethod
    def weights(cls, params: MethodParams) -> dict[str, float]:
        """Weights of the variant."""
        assert isinstance(params, cls.Params)
        if params.variant == "original":
            return {"ifv": 200.0, "adversarial": 0.001, "kd": 10.0}
        return super().weights(params)

    def setup(self) -> None:
        """Build the discriminator, if its term is active."""
        if "adversarial" in self.active:
            self.build_discriminator()

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"ifv", "adversarial", "kd"}, those active."""
        terms: dict[str, Tensor] = {}
        params = self.params
        if "ifv" in self.active:
            terms["ifv"] = self._variation(step)
        if "adversarial" in self.active:
            terms["adversarial"] = self.adversarial_loss(step)
        if "kd" in self.active:
            terms["kd"] = kd_term(step, params)
        return terms

    def _variation(self, step: Step) -> Tensor:
        params, classes, labels = self.params, self.student.classes, step.labels
        theirs = pick(step.teacher_maps, params.source)
        student, teacher = align(pick(step.student, params.source), theirs, params.align)
        target = from_teacher(
            step.teacher_maps,
            f"variation of {params.source}",
            teacher,
            params.align,
            lambda x: variation(x, resize_labels(labels, x), classes),
            classes,
        )
        return variation_distance(student, teacher, labels, classes, divide_by=params.divide_by, target=target)
