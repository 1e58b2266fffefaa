"""Online hard example mining: cross-entropy of hard pixels (Shrivastava et al., CVPR 2016)."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.data.base import IGNORE
from harness.losses.base import Loss, LossParams


class Ohem(Loss):
    """The mean over hard pixels: those whose class has a probability below `threshold`, or the hardest `least` part.

    As the real-time networks of the field use it (BiSeNet, DDRNet). Hard pixels are chosen among those of all images
    that are seen at once: of each part of a batch that is computed in parts.
    """

    name: ClassVar[str] = "ohem"
    summary: ClassVar[str] = "the mean over hard pixels only (online hard example mining)"

    class Params(LossParams):
        threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
        """Pixels whose class has a lower probability are hard."""
        least: Annotated[float, Field(ge=0, le=1)] = 1 / 16
        """Minimum fraction of labelled pixels to select, the hardest first."""

    params: Params

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        pixels = F.cross_entropy(
            logits,
            labels,
            weight=self.class_weights,
            ignore_index=IGNORE,
            reduction="none",
            label_smoothing=self.params.label_smoothing,
        )
        kept = self._hard(logits.detach(), labels)
        amount = self.amount(torch.where(kept, labels, IGNORE))
        return torch.where(kept, pixels, 0.0).sum() / amount.where(amount > 0, 1)

    def _hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, H, W), bool."""
        counts = labels != IGNORE
        chosen = torch.where(counts, labels, 0)[:, None]
        probability = torch.where(counts, logits.softmax(1).gather(1, chosen)[:, 0], math.inf)
        least = (counts.sum() * self.params.least).ceil().long().clamp(min=1)
        hardest = probability.flatten().sort().values.take(least - 1)
        return counts & ((probability < self.params.threshold) | (probability <= hardest))
