"""The auxiliary head: a second classifier on a shallower map, used only in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from methods.base import Sizes


class AuxiliaryHead(nn.Sequential):
    """PSPNet's (Zhao et al., CVPR 2017): 3x3 convolution to a quarter of the channels, batch norm, ReLU, dropout 0.1,
    1x1 convolution. From the backbone's second-to-last map (B, C, h, w) to logits (B, K, h, w)."""

    def __init__(self, channels: int, classes: int) -> None:
        hidden = max(channels // 4, 16)
        super().__init__(
            nn.Conv2d(channels, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(hidden, classes, 1),
        )


def build_auxiliary(sizes: Sizes, word: str, seed: int) -> AuxiliaryHead:
    """The head for a network of these sizes, with initial weights from its own seed.

    Raises:
        HarnessError: the network has only one map.
    """
    if len(sizes.features) < 2:
        raise HarnessError(f"{word} has only one map, but an auxiliary head needs two", "set loss.auxiliary=0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AuxiliaryHead(sizes.features[-2], sizes.classes)


def shallower(features: tuple[Tensor, ...]) -> Tensor:
    """The input map of an auxiliary head."""
    return features[-2]
