"""The contract of supervised losses, which every stage minimises in addition to its method's terms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from harness.data.base import IGNORE

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LossParams(BaseModel):
    """Parameters of a loss. Subclass it inside the loss; each has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_weights: tuple[Weight, ...] | Literal["inverse"] | None = None
    """A weight for each class in order; "inverse": by inverse frequency in the training labels; None for equal ones."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The probability mass of a label that is distributed evenly over all classes (Szegedy et al., CVPR 2016)."""


class Loss(nn.Module, ABC):
    """A loss of a network's logits.

    Args:
        params: an instance of the class's `Params`.
        class_weights: (K,), what `params.class_weights` comes to; None for equal ones.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Params: ClassVar[type[LossParams]] = LossParams
    class_weights: Tensor | None

    def __init__(self, params: LossParams, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.params = params
        self.register_buffer("class_weights", class_weights, persistent=False)

    @abstractmethod
    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """A scalar: a mean over labelled pixels; zero, with zero gradients, if there are none.

        Args:
            logits: (B, K, H, W), float32, at the labels' size.
            labels: (B, H, W), int64, in [0, K), or `IGNORE` for pixels that do not count.
        """

    def amount(self, labels: Tensor) -> Tensor:
        """A scalar: the divisor of the sum over pixels, by which parts of a batch are combined to one mean.

        Exact for losses whose choice of pixels depends on the labels alone; others come close.
        """
        counts = labels != IGNORE
        if self.class_weights is None:
            return counts.sum()
        return torch.where(counts, self.class_weights[torch.where(counts, labels, 0)], 0.0).sum()


def inverse_frequencies(pixels: Sequence[int]) -> Tensor:
    """(K,), float32: N / (K' · n_k) for the n_k of N pixels of each of K' classes that occur; 1 for the others.

    What scikit-learn calls "balanced": the mean weight of a pixel is 1.
    """
    counts = torch.tensor(pixels, dtype=torch.float64)
    occurs = counts > 0
    weights = counts.sum() / (occurs.sum().clamp(min=1) * counts.clamp(min=1))
    return torch.where(occurs, weights, 1.0).float()
