"""MasKD: compare logits region by region; the regions are masks from tokens learned on the teacher alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from methods import base
from methods.base import Maps, Method, MethodParams, Sizes, Step, Term, Translator, memo
from methods.parts.grids import Grid, align, check_same_shape, regrid
from methods.parts.logits_kd import pixel_kl
from methods.parts.precision import full_precision, precise


def receptive_masks(tokens: Tensor, logits: Tensor) -> Tensor:
    """sigmoid(token · T) at every position: (N, K) tokens and (B, K, h, w) logits -> (B, N, h·w)."""
    with full_precision(logits):
        return (tokens.to(precise(logits).dtype) @ precise(logits).flatten(2)).sigmoid()


def mask_overlap(masks: Tensor) -> Tensor:
    """Mean over images and pairs of different masks of Dice 2⟨a, b⟩ / (⟨a, a⟩ + ⟨b, b⟩): (B, N, m) -> scalar.

    0 when no two masks overlap, 1 when all are equal; 0 for a single mask.
    """
    with full_precision(masks):
        count = masks.shape[1]
        products = masks @ masks.mT
        own = products.diagonal(dim1=-2, dim2=-1)
        dice = 2 * products / (own.unsqueeze(-1) + own.unsqueeze(-2) + 1e-12)
        others = 1 - torch.eye(count, dtype=dice.dtype, device=dice.device)
        return (dice * others).sum() / (masks.shape[0] * max(count * (count - 1), 1))


def masked_distance(student: Tensor, teacher: Tensor, masks: Tensor, eps: float = 1e-5) -> Tensor:
    """½ · mean over images, masks and classes of Σ_i ((S − T)_i m_i)² / (Σ_i m_i + ε).

    Args:
        student, teacher: logits (B, K, h, w) on one grid.
        masks: (B, N, h·w).
        eps: ε.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(student, teacher)
    with full_precision(student):
        squared = (precise(student) - precise(teacher)).square().flatten(2)
        masked = masks.square() @ squared.mT
        return 0.5 * (masked / (masks.sum(dim=-1, keepdim=True) + eps)).mean()


class ReceptiveTokens(Translator):
    """Tokens learned on a frozen teacher: L = L_task + L_dice.

        m_n(i) = sigmoid(token_n · T_i)                                a mask for every token
        L_task = mean over pixels of KL( softmax(T) ‖ softmax(Σ_n m_n ⊙ T) )
        L_dice = mean Dice of all pairs of different masks

    The paper uses cross-entropy with the labels as L_task; this reading uses the teacher's class distribution instead,
    so that the tokens depend on the teacher alone: the masked logits, summed over masks, must give the teacher's
    prediction. L_task is smallest where the masks of a position add up to one; L_dice penalises their overlap.

    Args:
        classes: K, channels of the logits.
        count: number of tokens.
        task_tau: temperature of both softmaxes of L_task.
    """

    terms: ClassVar[Mapping[str, Term]] = {
        "task": Term(1.0, summary="KL of the masked logits' class distribution to the teacher's"),
        "dice": Term(1.0, summary="overlap of different masks"),
    }
    recipe: ClassVar[Mapping[str, Any]] = {
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}
    }

    def __init__(self, classes: int, count: int = 8, task_tau: float = 1.0) -> None:
        super().__init__()
        self.task_tau = task_tau
        self.tokens = nn.Parameter(torch.randn(count, classes) * 0.01)

    def masks(self, logits: Tensor) -> Tensor:
        """(B, K, h, w) teacher logits -> (B, N, h·w)."""
        return receptive_masks(self.tokens, logits)

    def forward(self, teacher: Maps) -> dict[str, Tensor]:
        """{"task", "dice"}, unweighted."""
        logits = precise(teacher.logits)
        masks = self.masks(logits)
        masked = logits * masks.sum(dim=1).reshape(-1, 1, *logits.shape[-2:])
        return {"task": pixel_kl(masked, logits, tau=self.task_tau), "dice": mask_overlap(masks)}

    @torch.no_grad()
    def health(self, teacher: Maps) -> dict[str, float]:
        """Statistics of the learned masks, on a batch.

        Returns:
            mask_overlap: mean Dice of pairs of different masks.
            mask_area: mean value of all masks.
            mask_sum: mean over positions of the sum of all masks; 1 for a partition.
            mask_variation: mean standard deviation of a mask over positions.
            dead_masks: fraction of the masks that stay below 1e-3 everywhere.
            agreement: fraction of the pixels at which masking changes the probability of the teacher's class by at
                most 0.1.

        Raises:
            ValueError: tokens are not finite, all masks are dead, or none varies over positions.
        """
        if not bool(torch.isfinite(self.tokens).all()):
            raise ValueError("the receptive tokens are not finite: their training diverged (lower the learning rate)")
        logits = precise(teacher.logits)
        masks = self.masks(logits)
        dead = masks.amax(dim=(0, 2)) < 1e-3
        if bool(dead.all()):
            raise ValueError(
                "the receptive tokens are dead: every mask is zero everywhere, so a student would learn nothing "
                "(lower the translator's learning rate)"
            )
        variation = masks.std(dim=(0, 2), unbiased=False)
        if bool((variation < 1e-4).all()):
            raise ValueError(
                "the receptive tokens collapsed: every mask is constant over positions, so the term would be a plain "
                "squared error (train the translator longer, or change its learning rate)"
            )
        total = masks.sum(dim=1).reshape(-1, 1, *logits.shape[-2:])
        before, after = F.softmax(logits, dim=1), F.softmax(logits * total, dim=1)
        best = before.argmax(dim=1, keepdim=True)
        kept = (before.gather(1, best) - after.gather(1, best)).abs() <= 0.1
        return {
            "mask_overlap": float(mask_overlap(masks)),
            "mask_area": float(masks.mean()),
            "mask_sum": float(total.mean()),
            "mask_variation": float(variation.mean()),
            "dead_masks": float(dead.float().mean()),
            "agreement": float(kept.float().mean()),
        }


class MasKD(Method):
    """L_mask = ½ · mean over images, masks n and classes of Σ_i ((S − T)_i m_n(i))² / (Σ_i m_n(i) + 1e-5).

    S and T are logits; m_n are the masks of the translator's tokens on the teacher's logits (`ReceptiveTokens`).
    """

    name = "maskd"
    summary = "squared difference of logits inside masks that tokens learned from the teacher"
    paper = (
        "Huang, Zhang, You, Wang, Qian, Cao, Xu: Masked Distillation with Receptive Tokens; ICLR 2023; arXiv 2205.14589"
    )
    terms: ClassVar[Mapping[str, Term]] = {
        "mask": Term(1.0, summary="squared difference of logits, averaged inside each mask")
    }
    reads = frozenset({"logits"})

    class Params(base.Params):
        """Options that other implementations fix."""

        tokens: int = Field(8, ge=1, description="number of receptive tokens")
        task_tau: float = Field(1.0, gt=0, description="temperature of the task term in the tokens' training")
        align: Grid = Field("teacher", description="grid on which logits are compared; the other's are resized to it")

    params: Params

    def setup(self) -> None:
        """Check that the translator's tokens are there.

        Raises:
            ValueError: the translator is missing.
        """
        if self.active and not isinstance(self.translator, ReceptiveTokens):
            raise ValueError("maskd needs the receptive tokens that were learned from its teacher")

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"mask": distance}, if active."""
        if not self.active:
            return {}
        assert isinstance(self.translator, ReceptiveTokens)
        student, teacher = align(step.student.logits, step.teacher_maps.logits, self.params.align)
        # The masks belong to the teacher's own logits; a coarser grid takes their area averages.
        logits, translator = step.teacher_maps.logits, self.translator
        masks = memo(
            step.teacher_maps,
            ("masks", translator),
            lambda: translator.masks(logits).reshape(logits.shape[0], -1, *logits.shape[-2:]),
        )
        masks = regrid(masks, student).flatten(2)
        return {"mask": masked_distance(student, teacher, masks)}

    @classmethod
    def translator_key(
        cls, params: MethodParams, active: frozenset[str], student: Sizes, teacher: Sizes
    ) -> dict[str, Any] | None:
        """Number of tokens and temperature of the task term."""
        assert isinstance(params, cls.Params)
        return {"tokens": params.tokens, "task_tau": params.task_tau} if active else None

    @classmethod
    def build_translator(cls, key: Mapping[str, Any], teacher: Sizes) -> Translator:
        """The untrained tokens."""
        return ReceptiveTokens(teacher.classes, key["tokens"], key["task_tau"])
