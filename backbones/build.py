"""Networks from a family, a head, an encoder and a stride."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backbones.base import BackboneFamily, Head, Network, Weights
from backbones.probe import NetworkSizes, measure_sizes, on_meta
from backbones.whole import NetworkFamily, OwnHead

__all__ = ["NetworkSizes", "build_network", "measure_sizes", "build_on_meta"]


def build_network(
    family: BackboneFamily,
    head: type[Head],
    encoder: str,
    stride: int,
    classes: int,
    weights: Weights,
    options: Mapping[str, Any] | None = None,
) -> Network:
    """The network `family:encoder/head@stride`.

    Raises:
        ValueError: unknown encoder, unsupported stride, a head that does not fit, or missing weights.
    """
    if isinstance(family, NetworkFamily) and head is OwnHead:
        return family.network(encoder, stride, classes, weights, options)
    if head is OwnHead:
        raise ValueError(f"{family.name}:{encoder} is an encoder without a head: name one, as in /aspp")
    backbone = family.build(encoder, stride, weights)
    reason = head.unsupported_reason(backbone.strides)
    if reason:
        raise ValueError(f"{family.name}:{encoder}/{head.name}@{stride}: {reason}")
    return Network(backbone, head(backbone.channels, backbone.strides, classes), classes)


def build_on_meta(
    family: BackboneFamily,
    head: type[Head],
    encoder: str,
    stride: int,
    classes: int,
    options: Mapping[str, Any] | None = None,
) -> Network:
    """The network on the meta device: shapes without values. Raises the same errors as `build_network`."""
    return on_meta(lambda: build_network(family, head, encoder, stride, classes, Weights(), options))
