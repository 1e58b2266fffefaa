"""Networks from a family, a head, an encoder and a stride."""

from __future__ import annotations

from backbones.base import BackboneFamily, Head, Network, Weights
from backbones.probe import NetworkSizes, measure_sizes, on_meta

__all__ = ["NetworkSizes", "build_network", "measure_sizes", "build_on_meta"]


def build_network(
    family: BackboneFamily, head: type[Head], encoder: str, stride: int, classes: int, weights: Weights
) -> Network:
    """The network `family:encoder/head@stride`.

    Raises:
        ValueError: unknown encoder, impossible stride, a head that does not fit, or weights that are not there.
    """
    backbone = family.build(encoder, stride, weights)
    reason = head.unsupported_reason(backbone.strides)
    if reason:
        raise ValueError(f"{family.name}:{encoder}/{head.name}@{stride}: {reason}")
    return Network(backbone, head(backbone.channels, backbone.strides, classes), classes)


def build_on_meta(family: BackboneFamily, head: type[Head], encoder: str, stride: int, classes: int) -> Network:
    """The network on the meta device: shapes without content. Raises as `build_network` does."""
    return on_meta(lambda: build_network(family, head, encoder, stride, classes, Weights()))
