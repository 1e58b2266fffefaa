"""Models from specifications: the network, its sizes, or the reason why it cannot be built."""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from backbones.base import Network, Weights
from backbones.build import build_network, build_on_meta, measure_sizes
from backbones.network_weights import load_network
from backbones.whole import NetworkFamily
from harness.errors import HarnessError
from harness.plugins.registries import FAMILIES, HEADS
from harness.plugins.registry import plugin_place
from harness.specs.spec import ModelSpec
from methods.base import Sizes


def build_model(spec: ModelSpec, classes: int, weights_file: Path | None = None) -> Network:
    """Build the network of a specification, with its initial weights.

    Args:
        classes: channels of its logits.
        weights_file: the file of `spec.weights`, for "file", and for "imagenet" if a weights folder contains one.

    Raises:
        HarnessError: unknown names, an unsupported stride, or missing weights (never replaced by random ones).
    """
    family, head = FAMILIES.get(spec.family)(), HEADS.get(spec.head)
    whole = spec.weights.source == "network"
    weights = Weights() if whole else Weights(spec.weights.source, weights_file)
    try:
        network = build_network(family, head, spec.encoder, spec.stride, classes, weights, _options(spec.options))
        if whole:
            if weights_file is None:
                raise ValueError(f"the whole network {spec.word} needs a file of weights, and none was named")
            load_network(network, weights_file, spec.word, spec.weights.classes or None)
        return network
    except ValueError as error:
        raise HarnessError(str(error)) from error


def _options(text: str) -> dict[str, Any]:
    return dict(json.loads(text)) if text else {}


def own_stride(spec: ModelSpec) -> int:
    """The native output stride of a whole network of another library.

    Raises:
        HarnessError: the network cannot be built.
    """
    family = FAMILIES.get(spec.family)()
    assert isinstance(family, NetworkFamily)
    try:
        return family.own_stride(spec.encoder, _options(spec.options))
    except ValueError as error:
        raise HarnessError(str(error)) from error


def model_source(spec: ModelSpec) -> str:
    """sha256 of the plugins or packages of backbone and head; "" if both are built in."""
    return "+".join(filter(None, (FAMILIES.entry(spec.family).source, HEADS.entry(spec.head).source)))


def model_sizes(spec: ModelSpec, classes: int) -> Sizes:
    """Channels and strides of the model's maps, measured on the meta device.

    Raises:
        HarnessError: the network cannot be built.
    """
    found = _probed(spec.family, spec.encoder, spec.head, spec.stride, spec.options)
    if isinstance(found, str):
        raise HarnessError(found)
    return dataclasses.replace(found, classes=classes)


def model_normalisation(spec: ModelSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, per channel, with which the backbone's input is normalised."""
    return _normalisation(spec.family, spec.encoder, spec.head, spec.stride)


@lru_cache(maxsize=1024)
def _normalisation(family: str, encoder: str, head: str, stride: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    backbone = build_on_meta(FAMILIES.get(family)(), HEADS.get(head), encoder, stride, classes=_CLASSES).backbone
    return tuple(backbone.mean), tuple(backbone.std)


def model_unsupported_reason(spec: ModelSpec) -> str | None:
    """The reason why the network cannot be built; None if it can.

    Raises:
        HarnessError: unknown family or head.
    """
    found = _probed(spec.family, spec.encoder, spec.head, spec.stride, spec.options)
    return found if isinstance(found, str) else None


@lru_cache(maxsize=1024)
def _probed(family: str, encoder: str, head: str, stride: int, options: str = "") -> Sizes | str:
    """The sizes of a model with two classes, from a forward pass; or the reason why it cannot be built."""
    source, top = FAMILIES.get(family)(), HEADS.get(head)
    if reason := source.unsupported_reason(encoder, stride):
        return reason
    try:
        network = build_on_meta(source, top, encoder, stride, _CLASSES, _options(options))
        sizes = Sizes(**dataclasses.asdict(measure_sizes(network)))
    except ValueError as error:
        return _with_place(str(error), error)
    except (Exception, SystemExit) as error:  # a head of a plugin may raise anything
        return _with_place(f"{family}:{encoder}/{head}@{stride} cannot run: {type(error).__name__}: {error}", error)
    return _undeclared(network, sizes) or sizes


_CLASSES = 2
"""Number of classes of networks that are built only for their sizes."""


def _with_place(text: str, error: BaseException) -> str:
    place = plugin_place(error)
    return f"{text} (plugin {place})" if place else text


def _undeclared(network: Network, sizes: Sizes) -> str:
    """A message on the first declared size of a head that its outputs contradict; "" if there is none."""
    head = network.head
    found = {"classes": sizes.classes, "stride": sizes.logits_stride, "last_channels": sizes.last}
    declared = {"classes": _CLASSES} | {name: getattr(head, name, None) for name in ("stride", "last_channels")}
    for name, value in found.items():
        if declared[name] != value:
            return f"head '{head.name}' declares {name} {declared[name]} but returns {value} (for {_CLASSES} classes)"
    return ""
