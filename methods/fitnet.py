"""Hints: regress the teacher's feature map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from methods.base import Method, Step, Term
from methods.parts.adapters import adapter
from methods.parts.grids import Grid, Source, align, channels, check_same_shape, pick
from methods.parts.logits_kd import KD_TERM, KDFields, kd_term
from methods.parts.precision import full_precision, precise


class FitNet(Method):
    """L = mean (r(S) − T)² over images, channels and positions; r is a 1×1 convolution without bias."""

    name = "fitnet"
    summary = "mean squared error between the teacher's features and the adapted student's"
    paper = (
        "Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets; ICLR 2015; arXiv 1412.6550"
    )
    terms: ClassVar[Mapping[str, Term]] = {
        "hint": Term(10.0, summary="mean squared error of features"),
        "kd": KD_TERM,
    }
    reads = frozenset({"last", "features", "logits", "labels"})

    class Params(KDFields):
        """Options that other implementations fix."""

        source: Source = Field("last", description="map: what the classifier reads, or the backbone's deepest")
        align: Grid = Field("teacher", description="grid on which features are compared; the other's are resized to it")

    params: Params

    def setup(self) -> None:
        """Build the regressor."""
        if "hint" in self.active:
            assert self.teacher is not None
            source = self.params.source
            self.adapter = adapter(channels(self.student, source), channels(self.teacher, source))

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"hint", "kd"}, those active."""
        terms: dict[str, Tensor] = {}
        if "hint" in self.active:
            adapted = self.adapter(pick(step.student, self.params.source))
            student, teacher = align(adapted, pick(step.teacher_maps, self.params.source), self.params.align)
            check_same_shape(student, teacher)
            with full_precision(student):
                terms["hint"] = (precise(student) - precise(teacher)).square().mean()
        if "kd" in self.active:
            terms["kd"] = kd_term(step, self.params)
        return terms
