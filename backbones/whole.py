"""Whole networks of other libraries: their own forward pass, with the maps read by hooks.

A family of whole networks builds a module of another library and names the submodules whose outputs are logits and
features (`Taps`). Nothing is reimplemented: weights keep their library's names, and outputs are unchanged.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from backbones.base import Backbone, BackboneFamily, Head, Network, NetworkMaps, Weights
from backbones.padding import cut, padded
from backbones.probe import PROBE, meta_copy, on_meta, stride_of
from backbones.weights import IMAGENET_MEAN, IMAGENET_STD, unknown


@dataclass(frozen=True)
class Taps:
    """Dotted names of the submodules that produce a module's maps.

    Attributes:
        logits: the classifier; its output (B, K, h, w) is `NetworkMaps.logits`, its input `NetworkMaps.last`.
        features: modules whose outputs are the backbone's maps, shallow to deep; an output may be a list of maps.
            The input image and empty placeholders among them are dropped.
        last: a module whose output is `NetworkMaps.last`, where the classifier's input is not a single map.
        multiple: the sides of the input must be multiples of this; other images are padded at the bottom and right,
            and the maps cropped.
        classifiers: the convolutions with one row per class, where that is not `logits` itself.
    """

    logits: str
    features: tuple[str, ...]
    last: str = ""
    multiple: int = 1
    classifiers: tuple[str, ...] = ()

    @property
    def by_class(self) -> tuple[str, ...]:
        """Convolutions with one row per class."""
        return self.classifiers or (self.logits,)


class WholeBackbone(Backbone):
    """A module of another library, returning (*features, last, logits): see `WholeNetwork`."""

    def __init__(
        self,
        module: nn.Module,
        taps: Taps,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        known = dict(module.named_modules())
        for name in (taps.logits, *taps.features, *filter(None, [taps.last])):
            if name not in known:
                raise ValueError(f"{type(module).__name__} has no submodule '{name}'")
        self.module, self.taps = module, taps
        self.mean, self.std = (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
        self.dilation = "its own"

    def forward(self, images: Tensor) -> list[Tensor]:
        seen: dict[str, Any] = {}
        parts = {name: self.module.get_submodule(name) for name in {self.taps.logits, *self.taps.features}}
        hooks = [part.register_forward_hook(_keep(seen, name)) for name, part in parts.items()]
        if self.taps.last:
            hooks.append(self.module.get_submodule(self.taps.last).register_forward_hook(_keep(seen, "last")))
        else:
            hooks.append(parts[self.taps.logits].register_forward_pre_hook(_keep_input(seen)))
        shown = padded(images, self.taps.multiple)
        try:
            self.module(shown)
        finally:
            for hook in hooks:
                hook.remove()
        features: list[Tensor] = []
        for name in self.taps.features:
            output = seen[name]
            items = list(output.values()) if isinstance(output, Mapping) else output
            features += items if isinstance(items, list | tuple) else [items]
        kept = [x for x in features if x is not shown and x.shape[1] > 0 and x.shape[-1] < shown.shape[-1]]
        return [cut(x, images, shown) for x in (*kept, seen["last"], seen[self.taps.logits])]


def _keep(seen: dict[str, Any], name: str) -> Any:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        seen[name] = output

    return hook


def _keep_input(seen: dict[str, Any]) -> Any:
    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen["last"] = inputs[0]

    return hook


class OwnHead(Head):
    """The head of a whole network. It has no weights: they belong to the module."""

    name: ClassVar[str] = "own"
    summary: ClassVar[str] = "the head of a whole network of another library (torchvision:, smp_model:, plugins)"

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return features[-1], features[-2]


class WholeNetwork(Network):
    """A whole network of another library, as a `Network`.

    Raises:
        ValueError: an output of its taps is not a map, or the number of classes differs from the one requested.
    """

    def __init__(self, backbone: WholeBackbone, classes: int) -> None:
        twin = meta_copy(backbone).eval()
        with torch.no_grad():
            maps = twin(torch.empty(1, 3, PROBE, PROBE, device="meta"))
        if any(x.ndim != 4 or x.shape[-1] != x.shape[-2] for x in maps):
            raise ValueError(f"its taps return {[tuple(x.shape) for x in maps]}, not maps of shape (B, C, h, w)")
        *features, last, logits = maps
        if logits.shape[1] != classes:
            raise ValueError(f"it has {logits.shape[1]} classes instead of {classes}")
        backbone.channels = tuple(x.shape[1] for x in features)
        backbone.strides = tuple(stride_of(x) for x in features)
        head = OwnHead(backbone.channels, backbone.strides, classes)
        head.stride, head.last_channels = stride_of(logits), last.shape[1]
        super().__init__(backbone, head, classes)

    def forward(self, images: Tensor) -> NetworkMaps:
        *features, last, logits = self.backbone(images)
        return NetworkMaps(logits=logits, last=last, features=tuple(features))

    @property
    def module(self) -> nn.Module:
        """The module of the other library."""
        assert isinstance(self.backbone, WholeBackbone)
        return self.backbone.module


class NetworkFamily(BackboneFamily):
    """A source of whole networks, named `FAMILY:NAME/own@STRIDE`. A plugin needs `encoders` and `module` only."""

    @abstractmethod
    def module(self, name: str, classes: int, options: Mapping[str, Any]) -> tuple[nn.Module, Taps]:
        """The network with random weights and `classes` logits, and the taps of its maps.

        Args:
            options: configuration in addition to the name; empty for the library's defaults.

        Raises:
            ValueError: unknown name or option.
        """

    def pretrained(self, name: str, module: nn.Module, weights: Weights) -> None:
        """Load the initial weights of the module's encoder, "imagenet" or from a "file".

        Raises:
            ValueError: they are not available.
        """
        raise ValueError(
            f"{self.name}:{name} has no {weights.source} weights for its encoder: give a file of the whole network "
            "(--teacher-weights FILE), or start from random weights (--weights random; of a teacher, --teacher-weights "
            "random)"
        )

    def network(
        self, name: str, stride: int, classes: int, weights: Weights, options: Mapping[str, Any] | None = None
    ) -> WholeNetwork:
        """The network, at its native output stride.

        Raises:
            ValueError: unknown name, a stride other than its native one, or missing weights.
        """
        network = self._untrained(name, classes, options)
        own = network.backbone.strides[-1]
        if own != stride:
            raise ValueError(
                f"{self.name}:{name} has output stride {own}, not {stride}: write {self.name}:{name}@{own}"
            )
        if weights.source in ("imagenet", "file"):
            self.pretrained(name, network.module, weights)
        return network

    def own_stride(self, name: str, options: Mapping[str, Any] | None = None) -> int:
        """The output stride of a network, measured on the meta device.

        Raises:
            ValueError: unknown name, or taps that return no maps.
        """
        return on_meta(lambda: self._untrained(name, 2, options)).backbone.strides[-1]

    def _untrained(self, name: str, classes: int, options: Mapping[str, Any] | None) -> WholeNetwork:
        module, taps = self.module(name, classes, options or {})
        return WholeNetwork(WholeBackbone(module, taps), classes)

    def unsupported_reason(self, encoder: str, stride: int) -> str | None:
        """None for any listed name: other problems show when the network is built, on the meta device."""
        names = self.encoders()
        return None if encoder in names else unknown(encoder, self.name, names)

    def build(self, encoder: str, stride: int, weights: Weights) -> Backbone:
        raise ValueError(f"{self.name}:{encoder} is a whole network with its own head: write {encoder}/own@{stride}")
