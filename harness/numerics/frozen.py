"""Convolutions of a frozen network on a CPU: weights in the layout of oneDNN's kernel once, not at every call.

A convolution whose weights may change has them brought to the kernel's own layout at every call, a twentieth to a tenth
of its time. Those of a frozen teacher never change. 1x1 convolutions are computed by oneDNN as well, in half the time
(`harness.numerics.pointwise`). All others give the same bits as torch's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.numerics.modes import full_precision

_TOLERANCE = 1e-5
"""Largest difference from torch's result, relative to its largest value; 1x1 convolutions differ by about 1e-7."""


def pack_convolutions(network: nn.Module) -> None:
    """Prepare a frozen network's convolutions in place; names and weights stay. Costs the memory of its weights again.

    It takes effect without gradients, in float32 and channels_last, on a CPU; elsewhere convolutions are torch's.
    """
    if torch.backends.mkldnn.is_available():
        for module in network.modules():
            if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
                module.__class__ = FrozenConv2d


class FrozenConv2d(nn.Conv2d):
    """A convolution whose weights do not change; they are packed for the first input.

    Its first input also decides whether the packed weights are used: only if they give torch's result.
    """

    _packed: Tensor | None = None
    _decided = False

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        plain = input.device.type != "cpu" or input.dtype != torch.float32 or weight.dtype != torch.float32
        if plain or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return super()._conv_forward(input, weight, bias)
        if not self._decided:
            self._decide(input, weight)
        if self._packed is None:
            return super()._conv_forward(input, weight, bias)
        return self._by_onednn(input, self._packed, bias)

    def _by_onednn(self, input: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(
            input, packed, bias, self.padding, self.stride, self.dilation, self.groups, "none", [], ""
        )
        return found

    def _decide(self, like: Tensor, weight: Tensor) -> None:
        """Pack the weights, and keep them if they give torch's result, in its layout, on inputs like (B, C, h, w)."""
        self._decided = True
        x = torch.empty_like(like).copy_(torch.linspace(-1, 1, like.numel()).square().view(like.shape))
        try:
            packed = torch.ops.aten.mkldnn_reorder_conv2d_weight(
                weight.to_mkldnn(), self.padding, self.stride, self.dilation, self.groups, list(like.shape)
            )
            with full_precision(x.device):
                found, expected = self._by_onednn(x, packed, None), super()._conv_forward(x, weight, None)
        except (AttributeError, RuntimeError, TypeError):  # another version of torch
            return
        same = (found.shape, found.stride()) == (expected.shape, expected.stride())
        if same and bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max()):
            self._packed = packed
