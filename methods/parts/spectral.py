"""Convolutions under spectral norm, as of `torch.nn.utils.parametrizations.spectral_norm`, at a lower cost.

    y = conv(x, W / σ) + b,   σ = uᵀ W v,   in training after one power iteration: u ← W v / ‖·‖, v ← Wᵀ u / ‖·‖

Torch divides the weight by σ, and its gradient again. Here the output is divided, which is the same and takes less
where the weight is larger than the map. Several maps can be passed at once, each with its own iteration, as if one
after the other: that is one convolution for all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SpectralConv2d(nn.Module):
    """A convolution whose weight, as a matrix, is divided by an estimate of its largest singular value.

    Attributes:
        weight: (C', C·rows·columns).
        u, v: estimates of the singular vectors, (C',) and (C·rows·columns,).
    """

    u: Tensor
    v: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        drawn = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        assert drawn.bias is not None
        self.shape, self.stride, self.padding = drawn.weight.shape, stride, padding
        self.weight, self.bias = nn.Parameter(drawn.weight.detach().flatten(1)), drawn.bias
        for name, size in zip("uv", self.weight.shape):
            self.register_buffer(name, F.normalize(self.weight.new_empty(size).normal_(), dim=0, eps=_EPS))
        for _ in range(_FIRST):
            self._iterate()

    def forward(self, x: Tensor, parts: int = 1) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w'); the batch consists of so many equal parts, each with its own iteration."""
        found = F.conv2d(x, self.weight.view(self.shape), None, self.stride, self.padding)
        scaled = found.view(parts, -1, *found.shape[1:]) / self._norms(parts).view(-1, 1, 1, 1, 1)
        return scaled.view(found.shape) + self.bias.view(-1, 1, 1)

    def _norms(self, parts: int) -> Tensor:
        """σ of each part, (parts,)."""
        vectors = []
        for _ in range(parts):
            if self.training:
                self._iterate()
            vectors.append((self.u.clone(), self.v.clone()))
        u, v = (torch.stack(each) for each in zip(*vectors))
        return (u * (self.weight @ v.mT).mT).sum(dim=1)

    @torch.no_grad()
    def _iterate(self) -> None:
        F.normalize(torch.mv(self.weight, self.v), dim=0, eps=_EPS, out=self.u)
        F.normalize(torch.mv(self.weight.mT, self.u), dim=0, eps=_EPS, out=self.v)


_EPS, _FIRST = 1e-12, 16
"""Torch's: the smallest norm that is divided by, and the iterations before the first map."""
