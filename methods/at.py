"""Attention transfer: where a feature map has large energy, independent of its channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from methods.base import Method, Step, Term
from methods.parts.grids import Grid, Source, align, from_teacher, pick
from methods.parts.logits_kd import KD_TERM, KDFields, kd_term
from methods.parts.precision import full_precision, precise, unit


def energy(x: Tensor) -> Tensor:
    """Mean of squares over channels: (B, C, h, w) -> (B, 1, h, w)."""
    return precise(x).square().mean(dim=1, keepdim=True)


class AttentionTransfer(Method):
    """L = mean over images and positions of (a_S − a_T)²,  a = v/‖v‖₂,  v = mean of squares over channels, flattened.

    Channels may differ, so no adapter is needed. Attention maps, not features, are resized where grids differ.
    """

    name = "at"
    summary = "squared distance of normalised maps of feature energy"
    paper = (
        "Zagoruyko, Komodakis: Paying More Attention to Attention: Improving the Performance of Convolutional Neural "
        "Networks via Attention Transfer; ICLR 2017; arXiv 1612.03928"
    )
    terms: ClassVar[Mapping[str, Term]] = {
        "attention": Term(1e4, summary="squared distance of attention maps"),
        "kd": KD_TERM,
    }
    reads = frozenset({"last", "features", "logits", "labels"})

    class Params(KDFields):
        """Options that other implementations fix."""

        source: Source = Field("last", description="map: what the classifier reads, or the backbone's deepest")
        align: Grid = Field("teacher", description="grid on which attention maps are compared")

    params: Params

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"attention", "kd"}, those active."""
        terms: dict[str, Tensor] = {}
        if "attention" in self.active:
            student, teacher = pick(step.student, self.params.source), pick(step.teacher_maps, self.params.source)
            with full_precision(student):
                target = from_teacher(step.teacher_maps, f"energy of {self.params.source}", teacher, "teacher", energy)
                ours, theirs = align(energy(student), target, self.params.align)
                terms["attention"] = (unit(ours.flatten(1)) - unit(theirs.flatten(1))).square().mean()
        if "kd" in self.active:
            terms["kd"] = kd_term(step, self.params)
        return terms
