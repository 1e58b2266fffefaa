"""Count multiply-adds of one forward pass (with fvcore) and parameters.

fvcore counts multiply-adds (MACs) and calls them flops; one MAC is two FLOPs. The headline is the sum over convolutions
and matrix products. Other operators that fvcore counts (normalisation, pooling, resizing, in elementary operations) are
listed separately, and those that it cannot count with their number of calls. The cost of a dilated convolution follows
its output grid, so the output stride affects it.
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
from backbones.probe import ShapesOnly, meta_copy
from harness.numerics.modes import evaluation_mode

if TYPE_CHECKING:
    from fvcore.nn import FlopCountAnalysis

HEADLINE = frozenset(
    {"conv", "linear", "addmm", "mm", "matmul", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention"}
)
"""fvcore's names of the operators in the headline."""


@dataclass(frozen=True)
class Macs:
    """The cost of one forward pass of one image.

    Attributes:
        headline: multiply-adds of convolutions and matrix products.
        by_operator: counts of all operators, headline operators included.
        uncounted: operators that cannot be counted -> number of calls.
    """

    headline: float
    by_operator: dict[str, float]
    uncounted: dict[str, int]


class _Logits(nn.Module):
    """Wraps a network to return the logits only, because a trace must return a tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


def count_macs(network: Network, size: tuple[int, int]) -> Macs:
    """Multiply-adds of one image of `size` (height, width), in evaluation mode, by fvcore.

    Traces one forward pass on the network's device; the network is not modified.
    """
    reference = next(network.parameters())
    images = torch.zeros(1, 3, *size, device=reference.device, dtype=reference.dtype)
    with evaluation_mode(network), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns about shapes taken as constants, which they are here
        analysis = _analysis(_Logits(network).eval(), images)
        counted = {name: float(value) for name, value in analysis.by_operator().items() if value}
        uncounted = {name: int(times) for name, times in analysis.unsupported_ops().items()}
    headline = sum(value for name, value in counted.items() if name in HEADLINE)
    return Macs(headline, dict(sorted(counted.items())), dict(sorted(uncounted.items())))


def _analysis(module: nn.Module, images: Tensor) -> FlopCountAnalysis:
    # Imported lazily: importing fvcore compiles unused functions, with warnings.
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
    """softmax(Q K^T) V with Q (..., n, d), K (..., m, d), V (..., m, e): n m (d + e) multiply-adds per head."""
    query, key, value = (_shape(x) for x in inputs[:3])
    return float(math.prod(query[:-2]) * query[-2] * key[-2] * (query[-1] + value[-1]))


def _baddbmm(inputs: Sequence[Any], outputs: Sequence[Any]) -> float:
    """(b, n, d) times (b, d, m): b n d m multiply-adds."""
    left, right = _shape(inputs[1]), _shape(inputs[2])
    return float(math.prod(left) * right[-1])


def shape_macs(network: Network, size: tuple[int, int]) -> float:
    """Multiply-adds of convolutions and matrix products from shapes alone, for estimates before a run.

    Counted by torch.utils.flop_counter (in FLOPs, two per MAC) on a copy on the meta device. Agrees with the headline
    of `count_macs`, which records contain.
    """
    twin = meta_copy(network).eval()
    with torch.no_grad(), ShapesOnly(), FlopCounterMode(display=False) as counter:
        twin(torch.empty(1, 3, *size, device="meta"))
    return float(counter.get_total_flops()) / 2


def parameters(network: nn.Module) -> int:
    """The number of parameters of a module, trainable or not."""
    return sum(parameter.numel() for parameter in network.parameters())
