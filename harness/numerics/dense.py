"""Weight gradients of large dense convolutions on small maps, on a CPU in channels_last.

Torch computes them in its own layout and brings both the weight and the result from one layout to the other, which
takes longer than a small map's gradient itself. Here only the maps, which are smaller, change their layout. Forward
pass and input gradient are torch's, bit for bit; the weight gradient is right to rounding. Deep stages of dense
networks with small crops are of this kind, and generators of a teacher's features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from harness.numerics.convolutions import ConvCase
from harness.numerics.modes import full_precision

Pair = tuple[int, int]

_RATIO = 4
"""A weight with this many times the values of the input map is large."""


def has_large_weight(case: ConvCase) -> bool:
    """Whether it is a dense convolution, larger than 1x1, whose weight is much larger than its input."""
    values = case.batch * case.in_channels * case.size[0] * case.size[1]
    weights = case.in_channels * case.out_channels * case.kernel[0] * case.kernel[1]
    return not case.transposed and case.groups == 1 and case.kernel != (1, 1) and weights > _RATIO * values


class DenseConv2d(nn.Conv2d):
    """A dense convolution whose weight gradient is computed in this way where its weight is large."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not torch.is_grad_enabled():
            return super()._conv_forward(input, weight, bias)
        pairs = [(values[0], values[-1]) for values in (self.stride, self.padding, self.dilation)]
        return dense(input, weight, bias, *pairs)  # type: ignore[arg-type]


def dense(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """A dense convolution of (B, C, h, w) with a weight (C', C, rows, columns) and a bias (C',) or None."""
    large = weight.numel() > _RATIO * x.numel() and weight.requires_grad
    last = x.is_contiguous(memory_format=torch.channels_last) and weight.is_contiguous(
        memory_format=torch.channels_last
    )
    exact = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if x.device.type == "cpu" and large and last and exact:
        return _Dense.apply(x, weight, bias, stride, padding, dilation)  # type: ignore[no-untyped-call,no-any-return]
    return F.conv2d(x, weight, bias, stride, padding, dilation)


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.steps = (stride, padding, dilation)
        return F.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad[:3]
        with full_precision(x.device):
            return (
                _gradient(gradient, x, weight, ctx.steps, 0) if to_x else None,
                _weight_gradient(gradient, x, weight, ctx.steps) if to_weight else None,
                gradient.sum(dim=(0, 2, 3)) if to_bias else None,
                None,
                None,
                None,
            )


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, steps: tuple[Pair, Pair, Pair]) -> Tensor:
    shape = weight.new_empty(weight.shape)  # contiguous; torch reads its shape only
    found = _gradient(gradient.contiguous(), x.contiguous(), shape, steps, 1)
    return found.contiguous(memory_format=torch.channels_last)


def _gradient(gradient: Tensor, x: Tensor, weight: Tensor, steps: tuple[Pair, Pair, Pair], which: int) -> Tensor:
    """Of the input (0) or of the weight (1)."""
    wanted = (which == 0, which == 1, False)
    found: Tensor = torch.ops.aten.convolution_backward(gradient, x, weight, None, *steps, False, (0, 0), 1, wanted)[
        which
    ]
    return found
