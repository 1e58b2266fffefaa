"""A quick count for plans: multiply-adds of one forward pass, on the meta device, with nothing computed."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from backbones.build import shell
from harness.registries import FAMILIES, HEADS
from harness.spec import parse_model


@lru_cache(maxsize=256)
def forward_macs(word: str, size: tuple[int, int]) -> float:
    """Multiply-adds of convolutions and matrix products for one image of `size` (H, W) through the model `word`."""
    spec = parse_model(word)
    network = shell(FAMILIES.get(spec.family)(), HEADS.get(spec.head), spec.encoder, spec.stride, classes=2).eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops() / 2
