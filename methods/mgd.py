"""Masked generative distillation: generate the teacher's whole map from a masked map of the student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from methods import base
from methods.base import Method, Step, Term
from methods.cwd import logits_divergence
from methods.parts.adapters import Adapter, adapter
from methods.parts.grids import Grid, Source, align, channels, check_same_shape, pick
from methods.parts.precision import full_precision, precise


def generator(width: int) -> Adapter:
    """3×3 convolution, ReLU, 3×3 convolution: (B, C, h, w) -> (B, C, h, w)."""
    return Adapter(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))


def random_mask(like: Tensor, ratio: float) -> Tensor:
    """(B, 1, h, w) of zeros and ones; a position is 0 with probability `ratio`. Uses torch's global generator."""
    batch, _, height, width = like.shape
    return (torch.rand((batch, 1, height, width), device=like.device) >= ratio).to(like.dtype)


def squared_error(generated: Tensor, teacher: Tensor, per: Literal["image", "element"] = "image") -> Tensor:
    """Σ (G − T)² over a batch of (B, C, h, w) maps, divided by the number of images, or of elements.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(generated, teacher)
    with full_precision(generated):
        total = (precise(generated) - precise(teacher)).square().sum()
        return total / (teacher.shape[0] if per == "image" else teacher.numel())


class MGD(Method):
    """L = α · 1/B Σ (G(mask ⊙ f(S)) − T)² + λ · channel-wise distillation of the logits.

    f is a 1×1 convolution (only where channels differ), `mask` sets random positions to zero, and G is a 3×3
    convolution, ReLU, 3×3 convolution. The maps are the backbones' deepest.
    """

    name = "mgd"
    summary = "generate the teacher's map from a randomly masked student's"
    paper = "Yang, Li, Shao, Shi, Yuan, Yuan: Masked Generative Distillation; ECCV 2022; arXiv 2205.01529"
    terms: ClassVar[Mapping[str, Term]] = {
        "generate": Term(2e-5, "alpha", "squared error of the generated map, summed over an image"),
        "cwd": Term(3.0, "lambda_cwd", "KL over positions of each class's scores"),
    }
    reads = frozenset({"features", "last", "logits"})
    permutable = False

    class Params(base.Params):
        """Options that other implementations fix."""

        mask_ratio: float = Field(0.75, ge=0, le=1, description="probability that a position is masked")
        divide_by: Literal["image", "element"] = Field(
            "image", description="the squared error's sum is divided by the number of these"
        )
        tau: float = Field(4.0, gt=0, description="temperature of the cwd term")
        source: Source = Field("deep", description="map: what the classifier reads, or the backbone's deepest")
        align: Grid = Field("teacher", description="grid on which maps are compared; the other's are resized to it")

    params: Params

    def setup(self) -> None:
        """Build the 1×1 convolution where channels differ, and the generator."""
        if "generate" not in self.active:
            return
        assert self.teacher is not None
        ours, theirs = channels(self.student, self.params.source), channels(self.teacher, self.params.source)
        self.adapter = adapter(ours, theirs, bias=True) if ours != theirs else None
        self.generator = generator(theirs)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"generate", "cwd"}, those active."""
        terms: dict[str, Tensor] = {}
        params = self.params
        if "generate" in self.active:
            ours = pick(step.student, params.source)
            adapted = self.adapter(ours) if self.adapter is not None else ours
            student, teacher = align(adapted, pick(step.teacher_maps, params.source), params.align)
            generated = self.generator(student * random_mask(student, params.mask_ratio))
            terms["generate"] = squared_error(generated, teacher, params.divide_by)
        if "cwd" in self.active:
            terms["cwd"] = logits_divergence(step, params.align, params.tau)
        return terms
