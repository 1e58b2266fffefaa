"""Estimates for plans: multiply-adds of one forward pass on the meta device, where nothing is computed."""

from __future__ import annotations

import json
from functools import lru_cache

import torch

from backbones.build import build_on_meta
from backbones.probe import ShapesOnly
from harness.cost.counting import shape_macs
from harness.errors import HarnessError
from harness.plugins.registries import FAMILIES, HEADS
from harness.specs.spec import ModelSpec, parse_model


@lru_cache(maxsize=1024)
def forward_macs(word: str, size: tuple[int, int], classes: int = 2) -> float:
    """Multiply-adds of convolutions and matrix products for one image of `size` (H, W) through the model `word`.

    For estimates before a run; records contain the result of `harness.cost.count_macs`.

    Raises:
        HarnessError: the model cannot be built.
    """
    spec = parse_model(word)
    try:
        network = build_on_meta(FAMILIES.get(spec.family)(), HEADS.get(spec.head), spec.encoder, spec.stride, classes)
    except ValueError as error:
        raise HarnessError(str(error)) from error
    return shape_macs(network, size)


def refused_size(spec: ModelSpec, size: tuple[int, int], batch: int = 1, training: bool = False) -> str:
    """The model's error for a batch of images of `size` (H, W); "" if it accepts them.

    Tested on the meta device. Operators that the meta device does not support do not count as an error.
    """
    family, head = FAMILIES.get(spec.family)(), HEADS.get(spec.head)
    options = dict(json.loads(spec.options)) if spec.options else {}
    try:
        network = build_on_meta(family, head, spec.encoder, spec.stride, 2, options).train(training)
        with torch.no_grad(), ShapesOnly():
            network(torch.empty(batch, 3, *size, device="meta"))
    except NotImplementedError:
        return ""
    except (AssertionError, ValueError, RuntimeError) as error:
        if "meta" in str(error):
            return ""
        return " ".join(str(error).split())[:200] or type(error).__name__
    return ""


_MULTIPLES = (2, 4, 8, 14, 16, 28, 32, 64, 224)


def fitting_size(spec: ModelSpec, size: tuple[int, int]) -> tuple[int, int]:
    """The smallest size >= `size` that a model accepts: some need a multiple of 4, 14 or 32.

    Raises:
        HarnessError: no size was found.
    """
    why = refused_size(spec, size)
    if not why:
        return size
    tried = {(-(-size[0] // m) * m, -(-size[1] // m) * m) for m in _MULTIPLES}
    for height, width in sorted(tried, key=lambda sides: sides[0] * sides[1]):
        if not refused_size(spec, (height, width)):
            return height, width
    raise HarnessError(f"{spec.word} does not accept images of {size[0]}x{size[1]}: {why}", "give another --size")
