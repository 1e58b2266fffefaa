"""Models by their specification: the network, its sizes, or the reason why there can be none."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path

from backbones.base import Network, Weights
from backbones.build import build_network, impossible, measure_sizes, shell
from harness.errors import HarnessError
from harness.registries import FAMILIES, HEADS
from harness.spec import ModelSpec
from methods.base import Sizes


def build_model(spec: ModelSpec, classes: int, weights_file: Path | None = None) -> Network:
    """The network of a specification, with its first weights.

    Raises:
        HarnessError: unknown names, an impossible stride, or weights that are not there; never silently random.
    """
    weights = Weights(spec.weights.source, weights_file)
    try:
        return build_network(_family(spec), HEADS.get(spec.head), spec.encoder, spec.stride, classes, weights)
    except ValueError as error:
        raise HarnessError(str(error)) from error


def model_sizes(spec: ModelSpec, classes: int) -> Sizes:
    """Channels and strides of its maps, found by a dry forward."""
    return _sizes(spec.family, spec.encoder, spec.head, spec.stride, classes)


def model_impossible(spec: ModelSpec) -> str | None:
    """Why there is no such network, or None when there is.

    Raises:
        HarnessError: unknown family or head.
    """
    return _impossible(spec.family, spec.encoder, spec.head, spec.stride)


def _family(spec: ModelSpec):  # type: ignore[no-untyped-def]
    return FAMILIES.get(spec.family)()


@lru_cache(maxsize=256)
def _sizes(family: str, encoder: str, head: str, stride: int, classes: int) -> Sizes:
    network = shell(FAMILIES.get(family)(), HEADS.get(head), encoder, stride, classes)
    return Sizes(**dataclasses.asdict(measure_sizes(network)))


@lru_cache(maxsize=256)
def _impossible(family: str, encoder: str, head: str, stride: int) -> str | None:
    return impossible(FAMILIES.get(family)(), HEADS.get(head), encoder, stride)
