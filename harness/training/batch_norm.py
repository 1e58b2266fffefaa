"""Batch norm over the global batch of all processes on any device; torch's SyncBatchNorm supports GPUs only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """The sum over all processes, in the forward and in the backward pass."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _Sum.apply(gradient.contiguous())  # type: ignore[no-any-return, no-untyped-call]


class SharedBatchNorm(_BatchNorm):
    """A batch norm over the global batch, followed by timm's dropout and activation if the original has them.

    Statistics are sums over processes in float32; values, gradients and running averages are those of one process with
    the whole batch, to rounding.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"(B, C, ...) is expected, not {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        normalised = self._by_batch(input) if self.training else super().forward(input)
        for name in ("drop", "act"):
            normalised = getattr(self, name)(normalised) if hasattr(self, name) else normalised
        return normalised

    def _by_batch(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        shape, axes = (1, -1, *(1,) * (input.ndim - 2)), (0, *range(2, input.ndim))
        values = input.float()
        count = torch.full((1,), values.numel() / values.shape[1])
        sums = _Sum.apply(torch.cat([count, values.sum(axes)]))  # type: ignore[no-untyped-call]
        total = sums[0].detach()
        mean = sums[1:] / total
        centred = values - mean.view(shape)
        variance = _Sum.apply((centred * centred).sum(axes)) / total  # type: ignore[no-untyped-call]
        self._follow(mean.detach(), variance.detach(), total)
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Update the running averages, as torch does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        pace = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, pace)
        self.running_var.lerp_(variance * (count / (count - 1)), pace)


def share_batch_norms(module: nn.Module) -> None:
    """Replace the batch norms of a module in place; parameters, buffers and their names are unchanged."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, SharedBatchNorm):
            setattr(module, name, _shared(child))
        else:
            share_batch_norms(child)


def _shared(norm: _BatchNorm) -> SharedBatchNorm:
    made = SharedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    made.weight, made.bias = norm.weight, norm.bias
    made.running_mean, made.running_var = norm.running_mean, norm.running_var
    made.num_batches_tracked = norm.num_batches_tracked
    for name in ("drop", "act"):
        if isinstance(part := getattr(norm, name, None), nn.Module):
            made.add_module(name, part)
    return made.train(norm.training)
