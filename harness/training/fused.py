"""Torch's fused optimisers, without the copy that they make of every gradient in channels_last on a CPU.

A fused step on a CPU walks through the memory of parameter, gradient and state alike, whatever their layout; yet it
first copies each gradient that is not contiguous. Here such tensors are shown to it as (O, h, w, C) views, which are
contiguous: the same memory, the same bits. Where the layouts of a parameter and its state differ, its walk would be
wrong: `match_layouts` makes them equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class FusedSGD(torch.optim.SGD):
    """SGD by torch's fused step."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        with _contiguous_views(self):
            return super().step(closure)


class FusedAdamW(torch.optim.AdamW):
    """AdamW by torch's fused step."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        with _contiguous_views(self):
            return super().step(closure)


def match_layouts(optimizer: torch.optim.Optimizer) -> None:
    """Bring the state to the memory layout of its parameters, which a checkpoint of another device may not have."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


@contextmanager
def _contiguous_views(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Show the parameters in channels_last on a CPU, with gradient and state, as contiguous views in this context."""
    turned = [
        parameter
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.device.type == "cpu" and all(map(_in_channels_last, _tensors(optimizer, parameter)))
    ]
    try:
        for parameter in turned:
            _permute(optimizer.state[parameter], parameter, (0, 2, 3, 1))
        yield
    finally:
        for parameter in turned:
            _permute(optimizer.state[parameter], parameter, (0, 3, 1, 2))


def _tensors(optimizer: torch.optim.Optimizer, parameter: Tensor) -> list[Tensor | None]:
    """The parameter, its gradient (None without), and those tensors of its state that have its shape."""
    state = optimizer.state[parameter].values() if parameter in optimizer.state else ()
    alike = [value for value in state if isinstance(value, Tensor) and value.shape == parameter.shape]
    return [parameter, parameter.grad, *alike]


def _in_channels_last(x: Tensor | None) -> bool:
    return (
        x is not None and x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    )


def _permute(state: dict[str, Any], parameter: Tensor, order: tuple[int, ...]) -> None:
    gradient, shape = parameter.grad, parameter.shape
    for name, value in state.items():
        if isinstance(value, Tensor) and value.shape == shape:
            state[name] = value.permute(order)
    parameter.grad = None
    parameter.data = parameter.data.permute(order)
    parameter.grad = None if gradient is None else gradient.permute(order)
