"""Structured Knowledge Distillation: similarities of all pairs of nodes, and a discriminator of whole score maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from methods.base import MethodParams, Step, Term
from methods.parts.discriminator import AdversarialMethod, DiscriminatorFields
from methods.parts.grids import Grid, Source, align, pick
from methods.parts.logits_kd import KD_TERM, KDFields, kd_term
from methods.parts.pairwise import squared_distance, unit_columns
from methods.parts.precision import full_precision, precise
from methods.pixel_kd import pixel_cross_entropy

ORIGINAL_DISCRIMINATOR_RECIPE: Mapping[str, Any] = {"name": "sgd", "lr": 4e-5, "momentum": 0.9}
"""The authors' optimiser of the discriminator: a learning rate of 4e-4, times their loss weight of 0.1."""


def pool_nodes(x: Tensor, pool: float) -> Tensor:
    """Max-pool (B, C, h, w) to nodes: windows of `pool` positions, or of that fraction of the map if below 1."""
    height, width = x.shape[-2:]
    window = (max(int(height * pool), 1), max(int(width * pool), 1)) if pool < 1 else (int(pool), int(pool))
    if window == (1, 1):
        return x
    return F.max_pool2d(x, window, window, ceil_mode=True)


def pairwise_similarity(student: Tensor, teacher: Tensor, pool: float) -> Tensor:
    """Mean over images and pairs of nodes of (A_S − A_T)²: (B, C, h, w), (B, C', h, w) -> scalar.

    A contains the cosines of all pairs of nodes. Exact, and linear in the number of nodes (`methods.parts.pairwise`).
    """
    with full_precision(student):
        columns = unit_columns(*(pool_nodes(precise(x), pool) for x in (student, teacher)))
        return squared_distance(*columns).mean() / columns[0].shape[2] ** 2


class SKD(AdversarialMethod):
    """L = λ_pa · mean (A_S − A_T)² + λ_ho · (−E[D(S)]) + per-pixel distillation.

    `variant=cirkd` is the recipe of CIRKD's tables: nodes of 2×2 positions, a hinge discriminator, and `kd`.
    `variant=original` is the authors' own: 2×2 nodes in all, WGAN-GP, and the term of `pixel_kd`.
    """

    name = "skd"
    version = 2
    summary = "similarities of all pairs of nodes, and a discriminator of whole score maps"
    paper = (
        "Liu, Chen, Liu, Qin, Luo, Wang: Structured Knowledge Distillation for Semantic Segmentation; "
        "CVPR 2019; arXiv 1903.04197"
    )
    terms: ClassVar[Mapping[str, Term]] = {
        "pairwise": Term(10.0, "lambda_pa", "squared difference of the nodes' cosine similarities"),
        "holistic": Term(0.001, "lambda_ho", "adversarial: the discriminator's score of the student"),
        "kd": KD_TERM,
        "pixel": Term(0.0, "lambda_pi", "cross-entropy of class distributions, summed over the batch"),
    }
    reads = frozenset({"last", "features", "logits", "images", "labels"})
    adversarial_term = "holistic"

    class Params(KDFields, DiscriminatorFields):
        """The variant and its settings; explicit values override those of the variant."""

        variant: Literal["cirkd", "original"] = Field("cirkd", description="whose recipe: sets pool, adv_loss, weights")
        pool: float = Field(
            2.0, gt=0, description="size of a node: in positions if 1 or more, as a fraction of the map if less"
        )
        pixel_divide_batch: bool = Field(False, description="divide the pixel term by the number of images too")
        pixel_mask_ignored: bool = Field(False, description="leave pixels without a label out of the pixel term")
        source: Source = Field("last", description="map: what the classifier reads, or the backbone's deepest")
        align: Grid = Field("teacher", description="grid on which maps are compared; the other's are resized to it")

        @model_validator(mode="before")
        @classmethod
        def _variant(cls, data: Any) -> Any:
            if isinstance(data, dict) and data.get("variant") == "original":
                return {"pool": 0.5, "adv_loss": "wgan-gp", **data}
            return data

    params: Params

    @classmethod
    def weights(cls, params: MethodParams) -> dict[str, float]:
        """Weights of the variant."""
        assert isinstance(params, cls.Params)
        if params.variant == "original":
            return {"pairwise": 0.5, "holistic": 0.1, "kd": 0.0, "pixel": 10.0}
        return super().weights(params)

    def setup(self) -> None:
        """Build the discriminator, if its term is active."""
        if "holistic" in self.active:
            self.build_discriminator()
            if self.params.variant == "original":
                self.discriminator_recipe = ORIGINAL_DISCRIMINATOR_RECIPE

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"pairwise", "holistic", "kd", "pixel"}, those active."""
        terms: dict[str, Tensor] = {}
        params = self.params
        if "pairwise" in self.active:
            maps = align(pick(step.student, params.source), pick(step.teacher_maps, params.source), params.align)
            terms["pairwise"] = pairwise_similarity(*maps, params.pool)
        if "holistic" in self.active:
            terms["holistic"] = self.adversarial_loss(step)
        if "kd" in self.active:
            terms["kd"] = kd_term(step, params)
        if "pixel" in self.active:
            maps = align(step.student.logits, step.teacher_maps.logits, params.align)
            labels = step.labels if params.pixel_mask_ignored else None
            terms["pixel"] = pixel_cross_entropy(*maps, divide_batch=params.pixel_divide_batch, labels=labels)
        return terms
