"""Fold the batch norms of a frozen network into the preceding convolutions: the same function, faster.

A convolution W followed by a batch norm with running statistics equals one convolution W' = W·γ/√(σ² + ε) with a bias.
Which batch norm follows which convolution is traced in a forward pass, since names and order of modules do not tell.
The folded network is compared with the original one; if they differ, because a convolution's output is also used
elsewhere, the original is kept.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from backbones.base import Network, NetworkMaps

_TOLERANCE = 1e-3
"""Largest difference allowed after folding, relative to a map's largest value. Rounding alone causes about 1e-6."""


def fold_batch_norms(network: Network, size: tuple[int, int]) -> Network:
    """The network with every batch norm folded that directly follows a convolution; unchanged if there is none.

    Args:
        network: frozen and in eval mode; it is not modified.
        size: (H, W) of the images for tracing it.
    """
    device = next(network.parameters()).device
    images = torch.linspace(-2, 2, 3 * size[0] * size[1], device=device).reshape(1, 3, *size)
    pairs, before = _pairs(network, images)
    if not pairs:
        return network
    folded = copy.deepcopy(network)
    for convolution, norm in pairs:
        conv, bn = folded.get_submodule(convolution), folded.get_submodule(norm)
        assert isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d)
        _replace(folded, convolution, fuse_conv_bn_eval(conv, bn))
        _replace(folded, norm, nn.Sequential(bn.drop, bn.act) if isinstance(bn, BatchNormAct2d) else nn.Identity())
    with torch.no_grad():
        return folded if _agree(before, folded(images)) else network


@dataclass
class _Trace:
    """Trace of a forward pass: outputs of convolutions, calls of each module, and the input of each norm."""

    outputs: dict[int, tuple[str, Tensor]] = field(default_factory=dict)
    """id -> (convolution, its output); keeping the tensor alive prevents reuse of its id."""
    pairs: list[tuple[str, str]] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)

    def convolution(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.calls[name] += 1
            self.outputs[id(output)] = (name, output)

        return hook

    def norm(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: Any) -> None:
            self.calls[name] += 1
            if found := self.outputs.get(id(inputs[0])):
                self.pairs.append((found[0], name))

        return hook


def _pairs(network: Network, images: Tensor) -> tuple[list[tuple[str, str]], NetworkMaps]:
    """(convolution, batch norm) by name, where the norm's input is that convolution's output; and the maps."""
    trace, hooks = _Trace(), []
    for name, module in network.named_modules():
        if type(module) is nn.Conv2d:
            hooks.append(module.register_forward_hook(trace.convolution(name)))
        elif type(module) in (nn.BatchNorm2d, BatchNormAct2d) and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(trace.norm(name)))
    try:
        with torch.no_grad():
            maps = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    used = Counter(convolution for convolution, _ in trace.pairs)
    once = [(c, n) for c, n in trace.pairs if trace.calls[c] == trace.calls[n] == used[c] == 1]
    return once, maps


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module.eval())


def _agree(one: NetworkMaps, other: NetworkMaps) -> bool:
    pairs = zip((one.logits, one.last, *one.features), (other.logits, other.last, *other.features), strict=True)
    return all(bool((a - b).abs().max() <= _TOLERANCE * a.abs().max().clamp_min(1e-6)) for a, b in pairs)
