"""A quick count for plans: multiply-adds of one forward pass, on the meta device, with nothing computed."""

from __future__ import annotations

from functools import lru_cache

from backbones.build import build_on_meta
from harness.cost.counting import shape_macs
from harness.errors import HarnessError
from harness.plugins.registries import FAMILIES, HEADS
from harness.specs.spec import parse_model


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
