"""Norm of each loss term's gradient, and its cosine with the cross-entropy's gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Pull:
    """The gradient of one weighted term with respect to the student's parameters.

    Attributes:
        norm: its Euclidean norm.
        cosine: cosine with the gradient of the cross-entropy; nan if either is zero.
    """

    norm: float
    cosine: float


def pulls(
    terms: Mapping[str, Tensor], weights: Mapping[str, float], parameters: Iterable[nn.Parameter]
) -> dict[str, Pull]:
    """The gradient of every weighted term, `ce` among them, before clipping and before the optimiser.

    One backward pass per term; the graph is kept, and no `.grad` is written.

    Args:
        terms: unweighted scalars with their graph, by name.
        weights: their weights; 1 for missing names.
        parameters: the student's parameters, without adapters and discriminators.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = {name: _flat_gradient(weights.get(name, 1.0) * value, trained) for name, value in terms.items()}
    reference = gradients["ce"]
    return {name: Pull(float(gradient.norm()), _cosine(gradient, reference)) for name, gradient in gradients.items()}


def _flat_gradient(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """(P,), float64: zeros for parameters that the loss does not reach."""
    if not loss.requires_grad:
        return torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64, device=loss.device)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten().double() for gradient in found])


def _cosine(one: Tensor, other: Tensor) -> float:
    lengths = float(one.norm() * other.norm())
    return float(one @ other) / lengths if lengths > 0 else float("nan")
