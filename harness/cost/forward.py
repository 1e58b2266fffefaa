"""A quick count for plans: multiply-adds of one forward pass, on the meta device, with nothing computed."""

from __future__ import annotations

import json
from functools import lru_cache

import torch

from backbones.build import build_on_meta
from harness.cost.counting import shape_macs
from harness.errors import HarnessError
from harness.plugins.registries import FAMILIES, HEADS
from harness.specs.spec import ModelSpec, parse_model


@lru_cache(maxsize=1024)
def forward_macs(word: str, size: tuple[int, int], classes: int = 2) -> float:
    """Multiply-adds of convolutions and matrix products for one image of `size` (H, W) through the model `word`.

    For estimates before anything runs; records hold what `harness.cost.count_macs` found.

    Raises:
        HarnessError: there is no such model.
    """
    spec = parse_model(word)
    try:
        network = build_on_meta(FAMILIES.get(spec.family)(), HEADS.get(spec.head), spec.encoder, spec.stride, classes)
    except ValueError as error:
        raise HarnessError(str(error)) from error
    return shape_macs(network, size)


def refused_size(spec: ModelSpec, size: tuple[int, int], batch: int = 1, training: bool = False) -> str:
    """Why a model cannot take a batch of images of `size` (H, W), in its own words; "" when it can.

    Found on the meta device: nothing is computed. What the meta device itself cannot do counts as no refusal.
    """
    family, head = FAMILIES.get(spec.family)(), HEADS.get(spec.head)
    options = dict(json.loads(spec.options)) if spec.options else {}
    try:
        network = build_on_meta(family, head, spec.encoder, spec.stride, 2, options).train(training)
        with torch.no_grad():
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
    """The smallest size that is not below `size` and that a model takes: some want a multiple of 4, of 14, of 32.

    Raises:
        HarnessError: none of those tried.
    """
    why = refused_size(spec, size)
    if not why:
        return size
    tried = {(-(-size[0] // m) * m, -(-size[1] // m) * m) for m in _MULTIPLES}
    for height, width in sorted(tried, key=lambda sides: sides[0] * sides[1]):
        if not refused_size(spec, (height, width)):
            return height, width
    raise HarnessError(f"{spec.word} takes no images of {size[0]}x{size[1]}: {why}", "give another --size")
