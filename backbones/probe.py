"""Sizes of maps, measured by a forward pass on the meta device: shapes without arithmetic."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from backbones.base import Network

PROBE = 512
"""Side of the square input of that pass. Large, so that encoders without padding keep their nominal strides."""

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class NetworkSizes:
    """Channels and strides of a network's maps; the same fields as `methods.base.Sizes`.

    Attributes:
        classes: K, channels of the logits.
        last: channels of the classifier's input.
        last_stride: stride of the classifier's input.
        logits_stride: stride of the logits.
        features: channels of the backbone maps, shallow to deep.
        strides: their strides; the last is the output stride.
    """

    classes: int
    last: int
    last_stride: int
    logits_stride: int
    features: tuple[int, ...]
    strides: tuple[int, ...]


def meta_copy(module: M) -> M:
    """A copy of a module on the meta device: parameters and buffers with shapes but without values, at little cost.

    The original may be on any device and is not modified; the copy is in the same mode (training or evaluation).
    """
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(
            torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad
        )
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(module, memo)


_INITIALISERS = {
    Tensor.fill_, Tensor.normal_, Tensor.uniform_, Tensor.zero_,
    nn.init.constant_, nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_,
}  # fmt: skip


class Uninitialised(TorchFunctionMode):
    """On the meta device, initial values are not computed: there are none, and it takes half the time of a build."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _INITIALISERS and args and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def on_meta(build: Callable[[], M]) -> M:
    """Build a module on the meta device; if its code needs values, build it on the CPU and drop them."""
    try:
        with torch.device("meta"), Uninitialised():
            return build()
    except (RuntimeError, NotImplementedError) as error:
        if "meta" not in str(error):
            raise
    with torch.device("cpu"):
        return meta_copy(build())


_SAME_SHAPE = {functional.hardtanh, functional.hardswish, functional.hardsigmoid}


class ShapesOnly(TorchFunctionMode):
    """On the meta device, batch norms in evaluation and some activations return an empty map of their input's shape.

    torch computes them there in Python, from some twenty operators each: most of the time of a pass.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _SAME_SHAPE or (func is functional.batch_norm and not _in_training(args, kwargs)):
            images = args[0] if args else kwargs["input"]
            if images.is_meta:
                return torch.empty_like(images)
        return func(*args, **kwargs)


def _in_training(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """The argument `training` of `torch.nn.functional.batch_norm`."""
    return bool(args[5] if len(args) > 5 else kwargs.get("training", False))


def stride_of(x: Tensor, side: int = PROBE) -> int:
    """Nominal stride of a map (B, C, h, w) of a square input: the power of two nearest to side / h."""
    return int(2 ** round(math.log2(side / x.shape[-2])))


def map_sizes(forward: Callable[[Tensor], Sequence[Tensor]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of the maps of a backbone on the meta device.

    Raises:
        ValueError: an output is not a map of a square image.
    """
    with torch.no_grad(), ShapesOnly():
        maps = forward(torch.empty(1, 3, PROBE, PROBE, device="meta"))
    for x in maps:
        if x.ndim != 4 or x.shape[-1] != x.shape[-2]:
            raise ValueError(f"returns {tuple(x.shape)}, not a map of shape (B, C, h, w)")
    return tuple(x.shape[1] for x in maps), tuple(stride_of(x) for x in maps)


def measure_sizes(network: Network) -> NetworkSizes:
    """Sizes of a network's maps, from a forward pass of a copy on the meta device."""
    twin = meta_copy(network).eval()
    with torch.no_grad(), ShapesOnly():
        maps = twin(torch.empty(1, 3, PROBE, PROBE, device="meta"))
    return NetworkSizes(
        classes=maps.logits.shape[1],
        last=maps.last.shape[1],
        last_stride=stride_of(maps.last),
        logits_stride=stride_of(maps.logits),
        features=tuple(x.shape[1] for x in maps.features),
        strides=tuple(stride_of(x) for x in maps.features),
    )
