"""Double similarity distillation: differences of layers' attention maps, and co-occurrence of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from methods import base
from methods.base import Maps, Method, Step, Term
from methods.parts.grids import Grid, align, check_same_shape, regrid
from methods.parts.precision import full_precision, precise, unit


def attention(features: Tensor, like: Tensor) -> Tensor:
    """Mean over channels of f², on the grid of `like`, flattened to unit length: (B, C, h, w) -> (B, h'·w')."""
    energy = precise(features).square().mean(dim=1, keepdim=True)
    return unit(regrid(energy, like).flatten(1))


def residuals(maps: Sequence[Tensor], like: Tensor) -> list[Tensor]:
    """unit(a_m − a_n) of the attention maps of every pair of layers n < m, each (B, h·w)."""
    attentions = [attention(features, like) for features in maps]
    return [unit(deeper - shallower) for shallower, deeper in combinations(attentions, 2)]


def pixel_similarity(student: Sequence[Tensor], teacher: Sequence[Tensor], like: Tensor) -> Tensor:
    """PSD: mean over pairs of layers of the mean squared difference of their residual attention maps.

    Args:
        student, teacher: equally many maps (B, C_i, h_i, w_i), shallow to deep; channels and grids may differ.
        like: (B, C, h, w); all attention maps are resized to its grid.

    Raises:
        ValueError: the numbers of maps differ or are below two.
    """
    if len(student) != len(teacher) or len(student) < 2:
        raise ValueError(f"{len(student)} and {len(teacher)} layers cannot be compared: give two or more of each")
    with full_precision(like):
        pairs = zip(residuals(student, like), residuals(teacher, like), strict=True)
        return torch.stack([(s - t).square().mean() for s, t in pairs]).mean()


def class_similarity(student: Tensor, teacher: Tensor, tau: float = 4.0, pool: int = 2) -> Tensor:
    """CSD: mean squared difference of Pᵀ P, with P the softmax over positions of each class's pooled logits / τ.

    Args:
        student, teacher: logits (B, K, h, w) on one grid.
        tau: temperature.
        pool: side of the average pooling of the logits; windows at the border may be smaller.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(student, teacher)
    with full_precision(student):
        difference = _class_affinity(student, tau, pool) - _class_affinity(teacher, tau, pool)
        return difference.square().mean()


def _class_affinity(logits: Tensor, tau: float, pool: int) -> Tensor:
    """(B, K, h, w) -> (B, K, K)."""
    pooled = F.avg_pool2d(precise(logits), pool, ceil_mode=True)
    where = F.softmax(pooled.flatten(2) / tau, dim=-1)
    return where @ where.mT


class DSD(Method):
    """L = λ_p·L_psd + λ_c·L_csd.

        a_l   = vec(mean_c f_l²) / ‖·‖₂                    the attention map of layer l
        r_nm  = (a_m − a_n) / ‖·‖₂                         for every pair of layers n < m
        L_psd = mean over pairs, images and positions of (r_nm(S) − r_nm(T))²
        L_csd = mean of (P_S P_Sᵀ − P_T P_Tᵀ)²             P = softmax over positions of pooled logits / τ: (K, h·w)

    The layers are the deepest `taps` maps of the backbone, then the logits. Where student and teacher have different
    numbers of maps they are matched from the deep end. The recipe has no kd term.
    """

    name = "dsd"
    summary = "differences between layers' attention maps, and co-occurrence of classes over positions"
    paper = (
        "Feng, Sun, Diao, Li, Gao: Double Similarity Distillation for Semantic Image Segmentation; "
        "IEEE TIP 2021; arXiv 2107.08591"
    )
    terms: ClassVar[Mapping[str, Term]] = {
        "psd": Term(1000.0, "lambda_p", "residual attention maps between pairs of layers"),
        "csd": Term(10.0, "lambda_c", "similarity of the classes' spatial distributions"),
    }
    reads = frozenset({"features", "logits"})

    class Params(base.Params):
        """Options that other implementations fix."""

        taps: int = Field(
            2, ge=1, description="number of the backbone's deepest maps that psd reads, in addition to the logits"
        )
        tau: float = Field(4.0, gt=0, description="temperature of csd's softmax over positions")
        pool: int = Field(2, ge=1, description="side of the average pooling of the logits before csd")
        align: Grid = Field("teacher", description="all maps are compared on the grid of these logits")

    params: Params

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"psd", "csd"}, those active."""
        if not self.active:
            return {}
        student, teacher = align(step.student.logits, step.teacher_maps.logits, self.params.align)
        terms: dict[str, Tensor] = {}
        if "psd" in self.active:
            taps = min(self.params.taps, len(step.student.features), len(step.teacher_maps.features))
            layers = [*_deepest(step.student, taps), student], [*_deepest(step.teacher_maps, taps), teacher]
            terms["psd"] = pixel_similarity(*layers, like=student)
        if "csd" in self.active:
            terms["csd"] = class_similarity(student, teacher, self.params.tau, self.params.pool)
        return terms


def _deepest(maps: Maps, count: int) -> list[Tensor]:
    """The deepest `count` maps of the backbone, shallow to deep."""
    return list(maps.features)[-count:]
