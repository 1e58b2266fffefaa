"""DIST: match relations between predictions by Pearson correlation, not the predictions themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from methods import base
from methods.base import IGNORE, Method, Step, Term, resize_labels
from methods.parts.grids import Grid, align, check_same_shape, from_teacher
from methods.parts.precision import full_precision, precise, safe_sqrt


def pearson(a: Tensor, b: Tensor, dim: int, eps: float = 1e-8) -> Tensor:
    """Pearson correlation of `a` and `b` along `dim`, which is reduced; 0 where one of them is constant."""
    a = a - a.mean(dim, keepdim=True)
    b = b - b.mean(dim, keepdim=True)
    lengths = safe_sqrt(a.square().sum(dim)) * safe_sqrt(b.square().sum(dim))
    return (a * b).sum(dim) / (lengths + eps)


def probabilities(logits: Tensor, tau: float) -> Tensor:
    """softmax over classes of logits/τ, one row per pixel: (B, K, h, w) -> (B·h·w, K)."""
    return F.softmax(precise(logits) / tau, dim=1).movedim(1, -1).flatten(0, 2)


class DIST(Method):
    """L = β·L_inter + γ·L_intra on P = softmax(S/τ), Q = softmax(T/τ), both (N, K) with N = B·h·w pixels.

        L_inter = τ² (1 − 1/N Σ_n ρ(P_n:, Q_n:))       the classes of a pixel
        L_intra = τ² (1 − 1/K Σ_k ρ(P_:k, Q_:k))       the pixels of a class, over the whole batch

    with ρ Pearson's correlation.
    """

    name = "dist"
    summary = "Pearson correlation of class probabilities, over the classes of a pixel and the pixels of a class"
    paper = "Huang, You, Wang, Qian, Xu: Knowledge Distillation from A Stronger Teacher; NeurIPS 2022; arXiv 2205.10536"
    terms: ClassVar[Mapping[str, Term]] = {
        "inter": Term(1.0, "beta", "1 − mean correlation over the classes of each pixel"),
        "intra": Term(1.0, "gamma", "1 − mean correlation over the pixels of each class"),
    }
    reads = frozenset({"logits", "labels"})

    class Params(base.Params):
        """Options that other implementations fix."""

        tau: float = Field(1.0, gt=0, description="temperature of both softmaxes; the terms are multiplied by τ²")
        align: Grid = Field("teacher", description="grid on which logits are compared; the other's are resized to it")
        mask_ignored: bool = Field(False, description="leave pixels without a label out")

    params: Params

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"inter", "intra"}, those active."""
        if not self.active:
            return {}
        student, teacher = align(step.student.logits, step.teacher_maps.logits, self.params.align)
        check_same_shape(student, teacher)
        with full_precision(student):
            tau = self.params.tau
            p = probabilities(student, tau)
            q = from_teacher(
                step.teacher_maps, "probabilities", teacher, self.params.align, lambda x: probabilities(x, tau), tau
            )
            if self.params.mask_ignored:
                valid = (resize_labels(step.labels, student) != IGNORE).flatten()
                if not bool(valid.any()):
                    return {name: p.sum() * 0 for name in self.terms if name in self.active}
                p, q = p[valid], q[valid]
            scale = self.params.tau**2
            terms: dict[str, Tensor] = {}
            if "inter" in self.active:
                terms["inter"] = (1 - pearson(p, q, dim=1).mean()) * scale
            if "intra" in self.active:
                terms["intra"] = (1 - pearson(p, q, dim=0).mean()) * scale
        return terms
