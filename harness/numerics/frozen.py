"""Convolutions of a frozen network on a CPU: weights in the layout of oneDNN's kernel once, not at every call.

A convolution whose weights may change has them brought to the kernel's own layout at every call, a twentieth to a tenth
of its time. Those of a frozen teacher never change: they are packed once, with the same bits as torch's. 1x1
convolutions are computed by oneDNN as well, in half the time (`harness.numerics.pointwise`), and large 3x3 convolutions
by Winograd's algorithm, in half to two thirds of it (`harness.numerics.winograd`); both are right to rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.numerics.check import TOLERANCE
from harness.numerics.convolutions import ConvCase
from harness.numerics.modes import full_precision
from harness.numerics.reference import relative_error
from harness.numerics.winograd import Winograd, is_faster

Way = Callable[[Tensor, Tensor | None], Tensor]
"""A convolution of an input, with a bias (O,) or None."""


def pack_convolutions(network: nn.Module) -> None:
    """Prepare a frozen network's convolutions in place; names and weights stay.

    It takes effect without gradients, in float32 and channels_last, on a CPU; elsewhere convolutions are torch's. It
    costs the memory of the weights again, and four times that of those that are computed by Winograd's algorithm.
    """
    if torch.backends.mkldnn.is_available():
        for module in network.modules():
            if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
                module.__class__ = FrozenConv2d


class FrozenConv2d(nn.Conv2d):
    """A convolution whose weights do not change; the first input of each shape decides how it is computed.

    A way other than torch's is used only if it gives torch's result on an input of that shape.
    """

    _ways: dict[torch.Size, Way | None] | None = None
    """By shape of the input, because the kernels' layouts of weights depend on it; None for torch's way."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        plain = input.device.type != "cpu" or input.dtype != torch.float32 or weight.dtype != torch.float32
        if plain or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return super()._conv_forward(input, weight, bias)
        if self._ways is None:
            self._ways = {}
        if input.shape not in self._ways:
            self._ways[input.shape] = self._choose(input, weight)
        way = self._ways[input.shape]
        return super()._conv_forward(input, weight, bias) if way is None else way(input, bias)

    def _choose(self, like: Tensor, weight: Tensor) -> Way | None:
        """The fastest way that gives torch's result, in its layout, on inputs like (B, C, h, w)."""
        x = torch.empty_like(like).copy_(torch.linspace(-1, 1, like.numel()).square().view(like.shape))
        with full_precision(x.device):
            expected = super()._conv_forward(x, weight, None)
            for make in (_winograd, _packed):
                try:
                    way = make(self, like)
                    found = None if way is None else way(x, None)
                except (AttributeError, RuntimeError, TypeError):  # another version of torch
                    continue
                if found is not None and found.stride() == expected.stride() and _same(found, expected):
                    return way
        return None


def _same(found: Tensor, expected: Tensor) -> bool:
    if not expected.any():
        return not found.any()
    return relative_error(found, expected.double()) < TOLERANCE["fp32"]


def _winograd(module: nn.Conv2d, like: Tensor) -> Way | None:
    stride, padding, dilation, kernel = (
        (values[0], values[-1])
        for values in (module.stride, module.padding, module.dilation, module.kernel_size)
        if not isinstance(values, str)
    )
    batch, channels, height, width = like.shape
    size = (height, width)
    case = ConvCase(kernel, stride, padding, dilation, module.groups, channels, module.out_channels, size, batch)
    return Winograd(module.weight, dilation, (batch, height, width)) if is_faster(case) else None


def _packed(module: nn.Conv2d, like: Tensor) -> Way:
    steps = (module.padding, module.stride, module.dilation, module.groups)
    weight: Tensor = torch.ops.aten.mkldnn_reorder_conv2d_weight(module.weight.to_mkldnn(), *steps, list(like.shape))

    def way(x: Tensor, bias: Tensor | None) -> Tensor:
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *steps, "none", [], "")
        return found

    return way
