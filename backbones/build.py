"""Networks from a family, a head, an encoder and a stride; and the reason where there can be none."""

from __future__ import annotations

from backbones.base import BackboneFamily, Head, Network, Weights
from backbones.probe import NetworkSizes, measure_sizes, on_meta

__all__ = ["NetworkSizes", "build_network", "impossible", "measure_sizes", "shell"]


def build_network(
    family: BackboneFamily, head: type[Head], encoder: str, stride: int, classes: int, weights: Weights
) -> Network:
    """The network `family:encoder/head@stride`.

    Raises:
        ValueError: unknown encoder, impossible stride, a head that does not fit, or weights that are not there.
    """
    backbone = family.build(encoder, stride, weights)
    reason = head.impossible(backbone.strides)
    if reason:
        raise ValueError(f"{family.name}:{encoder}/{head.name}@{stride}: {reason}")
    return Network(backbone, head(backbone.channels, backbone.strides, classes), classes)


def shell(family: BackboneFamily, head: type[Head], encoder: str, stride: int, classes: int) -> Network:
    """The network on the meta device: shapes without content. Raises as `build_network` does."""
    return on_meta(lambda: build_network(family, head, encoder, stride, classes, Weights()))


def impossible(family: BackboneFamily, head: type[Head], encoder: str, stride: int) -> str | None:
    """Why there is no such network, in one sentence, or None when there is; found out by a dry forward."""
    reason = family.impossible(encoder, stride)
    if reason:
        return reason
    try:
        measure_sizes(shell(family, head, encoder, stride, classes=2))
    except ValueError as error:
        return str(error)
    except Exception as error:  # a head of a plugin may raise anything
        return f"{family.name}:{encoder}/{head.name}@{stride} cannot run: {type(error).__name__}: {error}"
    return None
