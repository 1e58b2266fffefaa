"""1x1 convolutions on a CPU by oneDNN, also where torch would choose a slower kernel.

With one thread and fewer than 16 images, torch computes a 1x1 convolution of stride 1 in float32 as a matrix product of
another library, which takes about twice the time on AMD's processors. Mobile networks consist of these convolutions. A
dilation of 2 means nothing to a 1x1 kernel, but lets torch choose oneDNN: values and gradients are bit for bit those
that torch itself computes with 16 images or several threads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.numerics.convolutions import ConvCase

_FEW = 20480
"""Values of a single image up to which torch never chooses oneDNN, but a slow kernel for dilated convolutions."""


def is_pointwise(case: ConvCase) -> bool:
    """Whether it is a 1x1 convolution of stride 1, without padding and groups."""
    return (
        not case.transposed
        and case.kernel == (1, 1)
        and case.stride == (1, 1)
        and case.padding == (0, 0)
        and case.groups == 1
    )


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution of stride 1 that trains by oneDNN on a CPU; without gradients it is torch's."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not torch.is_grad_enabled():
            return super()._conv_forward(input, weight, bias)
        return pointwise(input, weight, bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The 1x1 convolution of (B, C, h, w) with a weight (C', C, 1, 1) and a bias (C',) or None; see above."""
    faster = (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and (x.shape[0] > 1 or x.numel() > _FEW)
    )
    return F.conv2d(x, weight, bias, dilation=2 if faster else 1)
