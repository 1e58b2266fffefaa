"""Multiply-adds of one forward pass, by fvcore, and parameters.

fvcore counts multiply-adds (MACs) and calls them flops; one MAC is two FLOPs. The headline sums the operators that are
made of multiply-adds: convolutions and matrix products. What else fvcore counts (normalisation, pooling, resizing:
elementary operations rather than multiply-adds) stands beside it, and what it cannot count is listed with how often it
ran. A dilated convolution costs what its output grid says, so the output stride shows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from backbones.base import Network
from backbones.probe import meta_copy
from harness.numerics.modes import evaluation_mode

if TYPE_CHECKING:
    from fvcore.nn import FlopCountAnalysis

HEADLINE = frozenset(
    {"conv", "linear", "addmm", "mm", "matmul", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention"}
)
"""fvcore's names of the operators that make the headline."""


@dataclass(frozen=True)
class Macs:
    """What one forward pass of one image costs.

    Attributes:
        headline: multiply-adds of convolutions and matrix products.
        by_operator: everything counted, headline operators included.
        uncounted: operators without a count -> how often they ran.
    """

    headline: float
    by_operator: dict[str, float]
    uncounted: dict[str, int]


class _Logits(nn.Module):
    """A network that gives a tensor: a trace can return nothing else."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


def count_macs(network: Network, size: tuple[int, int]) -> Macs:
    """Multiply-adds of one image of `size` (height, width), in evaluation mode, by fvcore.

    It traces one real forward pass on the device where the network lies; the network is left as it was.
    """
    reference = next(network.parameters())
    images = torch.zeros(1, 3, *size, device=reference.device, dtype=reference.dtype)
    with evaluation_mode(network), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about shapes that it takes for constants: here they are
        analysis = _analysis(_Logits(network).eval(), images)
        counted = {name: float(value) for name, value in analysis.by_operator().items() if value}
        uncounted = {name: int(times) for name, times in analysis.unsupported_ops().items()}
    headline = sum(value for name, value in counted.items() if name in HEADLINE)
    return Macs(headline, dict(sorted(counted.items())), dict(sorted(uncounted.items())))


def _analysis(module: nn.Module, images: Tensor) -> FlopCountAnalysis:
    # Not before it is needed: importing fvcore compiles functions that nobody here calls, with warnings.
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, images)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention)
    analysis.set_op_handle("aten::baddbmm", _baddbmm)
    return analysis


def _shape(value: Any) -> Sequence[int]:
    sizes: Sequence[int] = value.type().sizes()
    return sizes


def _attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> float:
    """softmax(Q K^T) V with Q (..., n, d), K (..., m, d), V (..., m, e): n m (d + e) multiply-adds a head."""
    query, key, value = (_shape(x) for x in inputs[:3])
    return float(math.prod(query[:-2]) * query[-2] * key[-2] * (query[-1] + value[-1]))


def _baddbmm(inputs: Sequence[Any], outputs: Sequence[Any]) -> float:
    """(b, n, d) times (b, d, m): b n d m multiply-adds."""
    left, right = _shape(inputs[1]), _shape(inputs[2])
    return float(math.prod(left) * right[-1])


def shape_macs(network: Network, size: tuple[int, int]) -> float:
    """Multiply-adds of convolutions and matrix products from shapes alone: for estimates before anything runs.

    Counted by torch.utils.flop_counter (which counts FLOPs, two a MAC) on a copy without content; it agrees with the
    headline of `count_macs`, which is what records hold.
    """
    twin = meta_copy(network).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(torch.empty(1, 3, *size, device="meta"))
    return float(counter.get_total_flops()) / 2


def parameters(network: nn.Module) -> int:
    """How many parameters a module has, trained or not."""
    return sum(parameter.numel() for parameter in network.parameters())
