"""Distillation of class probabilities at every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from methods.base import Method, MethodParams, Step, Term
from methods.parts.grids import Grid
from methods.parts.logits_kd import Reduction, logits_kl


class KD(Method):
    """L_kd = τ² / (B·h·w) · Σ_pixels KL( softmax(T/τ) ‖ softmax(S/τ) ), summed over classes.

    The Knowledge Adaptation paper compares with it at τ = 2, 4, 6, on logits resized to the teacher's grid.
    """

    name = "kd"
    summary = "KL of class distributions at every pixel of the logits"
    paper = "Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network; NIPS workshop 2014; arXiv 1503.02531"
    terms: ClassVar[Mapping[str, Term]] = {"kd": Term(1.0, summary="KL of class distributions at every pixel")}
    reads = frozenset({"logits", "labels"})

    class Params(MethodParams):
        """Options that other implementations fix."""

        tau: float = Field(1.0, gt=0, description="temperature of both softmaxes; the term is multiplied by its square")
        align: Grid = Field("teacher", description="grid on which logits are compared; the other's are resized to it")
        reduction: Reduction = Field("pixels", description="the sum is divided by the number of these")
        mask_ignored: bool = Field(False, description="leave pixels without a label out")

    params: Params

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"kd": KL}, if active."""
        if "kd" not in self.active:
            return {}
        p = self.params
        return {
            "kd": logits_kl(step, grid=p.align, tau=p.tau, reduction=p.reduction, mask_ignored=p.mask_ignored),
        }
