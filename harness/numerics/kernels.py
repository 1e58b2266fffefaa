"""The harness's own kernels on a CPU: gradients of dilated depthwise convolutions, oneDNN for 1x1 convolutions
(`harness.numerics.pointwise`), and weight gradients of large dense convolutions (`harness.numerics.dense`).

Output strides below 32 use these convolutions, and a training step on a CPU spends a quarter of its time in them:
torch's gradients are slow there, and wrong in bf16 channels_last (`harness.numerics.check`). With stride 1, both
gradients are convolutions that torch computes fast and correctly:

** input gradient: the convolution of the output's gradient with the kernel rotated by 180°;
* weight gradient: only pixels with equal row and column modulo the dilation d interact, so the map is split into d×d
  small maps that become additional images of a convolution without dilation. Where that pads too much, or the kernel
  is large, the products of shifted maps are summed tap by tap. In contiguous float32, torch's is fast enough.

The forward pass is torch's, bit for bit. The choice depends on shapes, never on timing, so a resumed run computes the
same; the numerics guard compares these gradients like torch's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from harness.numerics.convolutions import ConvCase, torch_convolve
from harness.numerics.dense import DenseConv2d, dense, has_large_weight
from harness.numerics.modes import full_precision
from harness.numerics.pointwise import PointwiseConv2d, is_pointwise, pointwise

Pair = tuple[int, int]

_LARGEST_CUT = 3
"""Up to this kernel size the map is split into phases; larger kernels are summed tap by tap, which is faster."""
_MOST_PADDING = 2.0
"""Ratio of padded to original area up to which splitting is faster than summing tap by tap."""


def has_own_gradients(case: ConvCase) -> bool:
    """Whether a convolution on a CPU has them: depthwise, dilated, stride 1, one output channel per input channel."""
    reach = [d * (k - 1) for d, k in zip(case.dilation, case.kernel)]
    return (
        not case.transposed
        and case.groups == case.in_channels == case.out_channels > 1
        and case.stride == (1, 1)
        and max(case.dilation) > 1
        and all(padding <= most for padding, most in zip(case.padding, reach))
    )


def kernel_name(case: ConvCase) -> str:
    """What the harness uses on a CPU for a convolution instead of torch's choice; empty if nothing."""
    if has_own_gradients(case):
        return "own gradients"
    if is_pointwise(case):
        return "oneDNN"
    return "own weight gradient" if has_large_weight(case) else ""


def own_convolve(case: ConvCase, x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of a case as a network computes it after `use_own_kernels`."""
    if has_own_gradients(case):
        return depthwise(x, weight, None, case.padding, case.dilation)
    if is_pointwise(case):
        return pointwise(x, weight, None)
    if has_large_weight(case):
        return dense(x, weight, None, case.stride, case.padding, case.dilation)
    return torch_convolve(case, x, weight)


def use_own_kernels(network: nn.Module) -> None:
    """Install them in a network's convolutions; names and weights stay, and without gradients outputs too."""
    for module in _suitable(network):
        smallest = _case(module, (1, 1), 1)
        depthwise = DepthwiseConv2d if has_own_gradients(smallest) else DenseConv2d
        module.__class__ = PointwiseConv2d if is_pointwise(smallest) else depthwise


@contextmanager
def counting_own(network: nn.Module, batch: int) -> Iterator[Counter[ConvCase]]:
    """Count the convolutions that run in this context and would have these kernels; `batch` as in `ConvCase`."""
    counts: Counter[ConvCase] = Counter()

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        case = _case(module, _pair(inputs[0].shape[2:]), batch)
        if kernel_name(case):
            counts[case] += 1

    handles = [module.register_forward_pre_hook(note) for module in _suitable(network)]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _suitable(network: nn.Module) -> list[nn.Conv2d]:
    """The convolutions that have a kernel of the harness's own on some maps, on the smallest at least."""
    return [
        module
        for module in network.modules()
        if type(module) in (nn.Conv2d, DepthwiseConv2d, PointwiseConv2d, DenseConv2d)
        and isinstance(module, nn.Conv2d)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and kernel_name(_case(module, (1, 1), 1))
    ]


def _case(module: nn.Conv2d, size: Pair, batch: int) -> ConvCase:
    assert not isinstance(module.padding, str)
    return ConvCase(
        kernel=_pair(module.kernel_size),
        stride=_pair(module.stride),
        padding=_pair(module.padding),
        dilation=_pair(module.dilation),
        groups=module.groups,
        in_channels=module.in_channels,
        out_channels=module.out_channels,
        size=size,
        batch=batch,
    )


def _pair(values: Sequence[int]) -> Pair:
    return values[0], values[-1]


class DepthwiseConv2d(nn.Conv2d):
    """A dilated depthwise convolution with the harness's own gradients on a CPU."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super()._conv_forward(input, weight, bias)
        assert not isinstance(self.padding, str)
        return depthwise(input, weight, bias, _pair(self.padding), _pair(self.dilation))


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Pair, dilation: Pair) -> Tensor:
    """A depthwise convolution of stride 1, in autocast's precision if autocast is enabled.

    Args:
        x: (B, C, h, w), on a CPU.
        weight: (C, 1, rows, columns).
        bias: (C,) or None.
        padding, dilation: (rows, columns).
    """
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
        with full_precision(x.device):
            return _Depthwise.apply(x, weight, bias, padding, dilation)  # type: ignore[no-untyped-call,no-any-return]
    return _Depthwise.apply(x, weight, bias, padding, dilation)  # type: ignore[no-untyped-call,no-any-return]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: Pair, dilation: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dilation = padding, dilation
        return F.conv2d(x, weight, bias, 1, padding, dilation, x.shape[1])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        last = x.is_contiguous(memory_format=torch.channels_last)
        gradient = gradient.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        to_x, to_weight, to_bias = ctx.needs_input_grad[:3]
        with full_precision(x.device):
            return (
                _input_gradient(gradient, weight, ctx.padding, ctx.dilation) if to_x else None,
                weight_gradient(x, gradient, weight, ctx.padding, ctx.dilation) if to_weight else None,
                gradient.sum(dim=(0, 2, 3)) if to_bias else None,
                None,
                None,
            )


def _input_gradient(gradient: Tensor, weight: Tensor, padding: Pair, dilation: Pair) -> Tensor:
    turned = weight.flip(2, 3)
    rows, columns = (d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], padding))
    return F.conv2d(gradient, turned, None, 1, (rows, columns), dilation, gradient.shape[1])


def weight_gradient(x: Tensor, gradient: Tensor, weight: Tensor, padding: Pair, dilation: Pair) -> Tensor:
    """The gradient with respect to the weight, with the weight's shape and type.

    Args:
        x: (B, C, h, w), the input.
        gradient: (B, C, h', w'), gradient of the output, in the layout of the input.
        weight: (C, 1, rows, columns); only its shape and type are used.
        padding, dilation: (rows, columns).
    """
    last = gradient.is_contiguous(memory_format=torch.channels_last)
    if gradient.dtype == torch.float32 and not last:
        return _torch_weight_gradient(x, gradient, weight, padding, dilation)
    # Both maps are padded to a multiple of the dilation.
    sides = [-(-(n + 2 * p) // d) * d for n, p, d in zip(x.shape[2:], padding, dilation)]
    area = sides[0] * sides[1] / (x.shape[2] * x.shape[3])
    if max(weight.shape[2:]) > _LARGEST_CUT or area > _MOST_PADDING:
        return _tap_by_tap(x, gradient, weight, padding, dilation)
    (top, left), (height, width) = padding, sides
    x = F.pad(x, (left, width - x.shape[3] - left, top, height - x.shape[2] - top))
    rows, columns = (n - d * (k - 1) for n, d, k in zip(sides, dilation, weight.shape[2:]))
    gradient = F.pad(gradient, (0, columns - gradient.shape[3], 0, rows - gradient.shape[2]))
    return _torch_weight_gradient(_phases(x, dilation), _phases(gradient, dilation), weight, (0, 0), (1, 1))


def _torch_weight_gradient(x: Tensor, gradient: Tensor, weight: Tensor, padding: Pair, dilation: Pair) -> Tensor:
    found: Tensor = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, (1, 1), padding, dilation, False, (0, 0), x.shape[1], (False, True, False)
    )[1]
    return found


def _phases(x: Tensor, dilation: Pair) -> Tensor:
    """(B, C, H·r, W·c) with a dilation of (r, c) -> (B·r·c, C, H, W), in the same layout."""
    batch, channels, height, width = x.shape
    rows, columns = dilation
    cut = (height // rows, rows, width // columns, columns)
    if x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1).reshape(batch, *cut, channels).permute(0, 2, 4, 1, 3, 5)
        return x.reshape(batch * rows * columns, cut[0], cut[2], channels).permute(0, 3, 1, 2)
    x = x.reshape(batch, channels, *cut).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(batch * rows * columns, channels, cut[0], cut[2])


def _tap_by_tap(x: Tensor, gradient: Tensor, weight: Tensor, padding: Pair, dilation: Pair) -> Tensor:
    # In float32 at least: products are not rounded before summation, and half precision would be slower.
    precise = torch.promote_types(weight.dtype, torch.float32)
    x, gradient, found = x.to(precise), gradient.to(precise), torch.zeros_like(weight, dtype=precise)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            (inside, rows), (across, columns) = (
                _overlap(tap * d - p, n, m)
                for tap, d, p, n, m in zip((i, j), dilation, padding, x.shape[2:], gradient.shape[2:])
            )
            found[:, 0, i, j] = (x[:, :, inside, across] * gradient[:, :, rows, columns]).sum(dim=(0, 2, 3))
    return found.to(weight.dtype)


def _overlap(shift: int, inputs: int, outputs: int) -> tuple[slice, slice]:
    """Slices of input and output that a tap connects, where output y reads input y + shift."""
    first, last = max(0, -shift), min(outputs, inputs - shift)
    last = max(first, last)
    return slice(first + shift, last + shift), slice(first, last)
