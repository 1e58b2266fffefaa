"""Models by their specification: the network, its sizes, or the reason why there can be none."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path

from backbones.base import BackboneFamily, Head, Network, Weights
from backbones.build import build_network, impossible, measure_sizes, shell
from harness.errors import HarnessError
from harness.registries import FAMILIES, HEADS
from harness.spec import ModelSpec, parse_model
from methods.base import Sizes


def build_model(spec: ModelSpec, classes: int, weights_file: Path | None = None) -> Network:
    """The network of a specification, with its first weights.

    Args:
        classes: channels of its logits.
        weights_file: the file of `spec.weights`, for "file", and for "imagenet" where a weights folder holds one.

    Raises:
        HarnessError: unknown names, an impossible stride, or weights that are not there; never silently random.
    """
    weights = Weights(spec.weights.source, weights_file)
    family, head = _parts(spec.family, spec.head)
    try:
        return build_network(family, head, spec.encoder, spec.stride, classes, weights)
    except ValueError as error:
        raise HarnessError(str(error)) from error


def model_sizes(spec: ModelSpec, classes: int) -> Sizes:
    """Channels and strides of its maps, found by a dry forward. Raises as `build_model` does."""
    return _sizes(spec.family, spec.encoder, spec.head, spec.stride, classes)


def model_impossible(spec: ModelSpec) -> str | None:
    """Why there is no such network, or None when there is.

    Raises:
        HarnessError: unknown family or head.
    """
    return _impossible(spec.family, spec.encoder, spec.head, spec.stride)


@lru_cache(maxsize=1024)
def forward_macs(word: str, size: tuple[int, int], classes: int = 19) -> float:
    """Multiply-adds of a model's forward pass for one image of `size` (height, width), from shapes alone.

    For estimates before anything runs; records hold what `harness.cost` counted. Raises as `build_model` does.
    """
    from harness.cost.counting import shape_macs

    spec = parse_model(word)
    return shape_macs(_shell(spec.family, spec.encoder, spec.head, spec.stride, classes), size)


def _parts(family: str, head: str) -> tuple[BackboneFamily, type[Head]]:
    return FAMILIES.get(family)(), HEADS.get(head)


def _shell(family: str, encoder: str, head: str, stride: int, classes: int) -> Network:
    """The network without content, on the meta device."""
    try:
        return shell(*_parts(family, head), encoder, stride, classes)
    except ValueError as error:
        raise HarnessError(str(error)) from error


@lru_cache(maxsize=1024)
def _sizes(family: str, encoder: str, head: str, stride: int, classes: int) -> Sizes:
    return Sizes(**dataclasses.asdict(measure_sizes(_shell(family, encoder, head, stride, classes))))


@lru_cache(maxsize=1024)
def _impossible(family: str, encoder: str, head: str, stride: int) -> str | None:
    return impossible(*_parts(family, head), encoder, stride)
