"""Cross-entropy, with optional class weights and label smoothing."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from harness.data.base import IGNORE
from harness.losses.base import Loss


class CrossEntropy(Loss):
    """The mean over labelled pixels; with class weights the weighted mean, as in torch."""

    name: ClassVar[str] = "cross_entropy"
    summary: ClassVar[str] = "the mean over labelled pixels; class weights and label smoothing"

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        total = F.cross_entropy(
            logits,
            labels,
            weight=self.class_weights,
            ignore_index=IGNORE,
            reduction="sum",
            label_smoothing=self.params.label_smoothing,
        )
        amount = self.amount(labels)
        return total / (amount.clamp(min=1) if self.class_weights is None else amount.where(amount > 0, 1.0))
