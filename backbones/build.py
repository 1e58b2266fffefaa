"""Networks from a family, a head, an encoder and a stride; and the reason where there can be none."""

from __future__ import annotations

import torch

from backbones.base import BackboneFamily, Head, Network, Weights
from backbones.probe import PROBE, NetworkSizes, measure_sizes, on_meta

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
    """Why there is no such network, in one sentence, or None when there is.

    Found out by building it on the meta device; the family has tried the backbone, so the head alone is run.
    """
    reason = family.impossible(encoder, stride)
    if reason:
        return reason
    try:
        network = shell(family, head, encoder, stride, classes=2)
        _try_head(network)
    except ValueError as error:
        return str(error)
    except Exception as error:  # a head of a plugin may raise anything
        return f"{family.name}:{encoder}/{head.name}@{stride} cannot run: {type(error).__name__}: {error}"
    return None


def _try_head(network: Network) -> None:
    """A dry forward of the head on maps such as the backbone declares."""
    sizes = zip(network.backbone.channels, network.backbone.strides, strict=True)
    maps = [torch.empty(1, c, PROBE // s, PROBE // s, device="meta") for c, s in sizes]
    with torch.no_grad():
        network.head.eval()(maps)
