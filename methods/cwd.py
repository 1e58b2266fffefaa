"""Channel-wise distillation: each channel as a distribution over positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from methods.base import MethodParams, Step, Term
from methods.parts.adapters import adapter
from methods.parts.discriminator import AdversarialMethod, DiscriminatorFields
from methods.parts.grids import Grid, Source, align, channels, check_same_shape, from_teacher, pick
from methods.parts.logits_kd import KD_TERM, KDFields, kd_term
from methods.parts.precision import full_precision, precise


def log_positions(x: Tensor, tau: float) -> Tensor:
    """log softmax over positions of x/τ, in full precision: (B, C, h, w) -> (B, C, h·w)."""
    with full_precision(x):
        return F.log_softmax(precise(x).flatten(2) / tau, dim=-1)


def channel_divergence(student: Tensor, teacher: Tensor, tau: float, target: Tensor | None = None) -> Tensor:
    """τ²/(B·C) · Σ_channels KL( φ(T) ‖ φ(S) ),  φ = softmax over positions of x/τ: (B, C, h, w) twice -> scalar.

    Args:
        target: `log_positions` of the teacher, if already computed.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(student, teacher)
    with full_precision(student):
        target = log_positions(teacher, tau) if target is None else target
        ours = log_positions(student, tau)
        kl = (target.exp() * (target - ours)).sum(dim=-1)
        return kl.mean() * tau**2


def logits_divergence(step: Step, grid: Grid, tau: float) -> Tensor:
    """`channel_divergence` of a step's logits; the teacher's part is computed once per batch for all students."""
    student, teacher = align(step.student.logits, step.teacher_maps.logits, grid)
    target = from_teacher(step.teacher_maps, "positions of logits", teacher, grid, lambda x: log_positions(x, tau), tau)
    return channel_divergence(student, teacher, tau, target)


class CWD(AdversarialMethod):
    """L = α · KL over positions of each class's scores + β · the same on features + adversarial term + kd.

    `variant=cirkd` is the recipe of CIRKD's tables: scores, features, a hinge discriminator, and `kd`.
    `variant=original` is the authors' headline command: scores alone.
    """

    name = "cwd"
    version = 2
    summary = "KL of each channel's distribution over positions, on scores and features"
    paper = (
        "Shu, Liu, Gao, Yan, Shen: Channel-wise Knowledge Distillation for Dense Prediction; "
        "ICCV 2021; arXiv 2011.13256"
    )
    terms: ClassVar[Mapping[str, Term]] = {
        "logits": Term(3.0, "alpha", "KL over positions of each class's scores"),
        "feature": Term(50.0, "beta", "KL over positions of each feature channel"),
        "adversarial": Term(0.001, "lambda_adv", "the discriminator's score of the student"),
        "kd": KD_TERM,
    }
    reads = frozenset({"last", "features", "logits", "images", "labels"})

    class Params(KDFields, DiscriminatorFields):
        """The variant, and options that other implementations fix."""

        variant: Literal["cirkd", "original"] = Field("cirkd", description="whose recipe: sets the weights")
        tau: float = Field(4.0, gt=0, description="temperature of the scores")
        feature_tau: float = Field(4.0, gt=0, description="temperature of the features")
        source: Source = Field("last", description="map: what the classifier reads, or the backbone's deepest")
        align: Grid = Field("teacher", description="grid on which maps are compared; the other's are resized to it")

    params: Params

    @classmethod
    def weights(cls, params: MethodParams) -> dict[str, float]:
        """Weights of the variant."""
        assert isinstance(params, cls.Params)
        if params.variant == "original":
            return {"logits": 3.0, "feature": 0.0, "adversarial": 0.0, "kd": 0.0}
        return super().weights(params)

    def setup(self) -> None:
        """Build a 1×1 adapter where channels differ, and the discriminator, if their terms are active."""
        if "feature" in self.active:
            assert self.teacher is not None
            ours, theirs = channels(self.student, self.params.source), channels(self.teacher, self.params.source)
            self.adapter = adapter(ours, theirs) if ours != theirs else None
        if "adversarial" in self.active:
            self.build_discriminator()

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"logits", "feature", "adversarial", "kd"}, those active."""
        terms: dict[str, Tensor] = {}
        params = self.params
        if "logits" in self.active:
            terms["logits"] = logits_divergence(step, params.align, params.tau)
        if "feature" in self.active:
            ours = pick(step.student, params.source)
            adapted = self.adapter(ours) if self.adapter is not None else ours
            student, teacher = align(adapted, pick(step.teacher_maps, params.source), params.align)
            what, tau = f"positions of {params.source}", params.feature_tau
            target = from_teacher(step.teacher_maps, what, teacher, params.align, lambda x: log_positions(x, tau), tau)
            terms["feature"] = channel_divergence(student, teacher, tau, target)
        if "adversarial" in self.active:
            terms["adversarial"] = self.adversarial_loss(step)
        if "kd" in self.active:
            terms["kd"] = kd_term(step, params)
        return terms
