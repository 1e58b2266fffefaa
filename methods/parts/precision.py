"""Norms and square roots with finite values and gradients, in half precision and at zero."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def full_precision(like: Tensor) -> Iterator[None]:
    """Disable autocast on the device of `like`, so that tensors cast to full precision stay there."""
    with torch.autocast(device_type=like.device.type, enabled=False):
        yield


def precise(x: Tensor) -> Tensor:
    """The tensor in float32 at least: half precision is cast to float32, float32 and float64 are unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root of a tensor that is non-negative up to rounding; 0 with gradient 0 (not infinity) at and below 0."""
    positive = x > torch.finfo(x.dtype).tiny
    return torch.where(positive, torch.where(positive, x, torch.ones_like(x)).sqrt(), torch.zeros_like(x))


def unit(x: Tensor, dim: int = 1, eps: float = 1e-6) -> Tensor:
    """x / max(‖x‖₂, eps) along `dim`. A zero vector stays zero, and its gradient stays finite."""
    norm = safe_sqrt((x * x).sum(dim, keepdim=True))
    return x / norm.clamp_min(eps)


def p_norm(x: Tensor, p: float) -> Tensor:
    """‖x‖_p over channels, (B, C, ...) -> (B, ...), p ≥ 1. Its gradient is finite where the norm is zero."""
    if p == 1:
        return x.abs().sum(dim=1)
    if p == 2:
        return safe_sqrt(x.square().sum(dim=1))
    # Relative to the largest entry, so that no power overflows or underflows.
    largest = x.abs().amax(dim=1, keepdim=True).detach()
    ratio = x.abs() / largest.clamp_min(torch.finfo(x.dtype).tiny)
    total = ratio.pow(p).sum(dim=1)
    return torch.where(total > 0, total.clamp_min(1e-30).pow(1 / p), torch.zeros_like(total)) * largest[:, 0]
