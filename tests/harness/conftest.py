"""Shared by the tests of several rooms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pytest
from torch import Tensor, nn

from backbones.base import Backbone, BackboneFamily, Weights
from harness.plugins.registries import FAMILIES


class _InFours(Backbone):
    """Two convolutions of stride 4 and 8, for images whose sides are multiples of four."""

    channels, strides, dilation = (4, 8), (4, 32), "native"
    mean, std = (0.5,) * 3, (0.25,) * 3  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 8, 8, 8, 4)

    def forward(self, images: Tensor) -> list[Tensor]:
        if any(side % 4 for side in images.shape[-2:]):
            raise ValueError(f"sides of {tuple(images.shape[-2:])} must be multiples of 4")
        shallow = self.first(images)
        return [shallow, self.second(shallow)]


class _Picky(BackboneFamily):
    name: ClassVar[str] = "picky"
    summary: ClassVar[str] = "an encoder that does not take every size"

    def encoders(self) -> Sequence[str]:
        return ["fours"]

    def unsupported_reason(self, encoder: str, stride: int) -> str | None:
        return None if stride == 32 else "it has stride 32"

    def build(self, encoder: str, stride: int, weights: Weights) -> Backbone:
        return _InFours()


@pytest.fixture
def picky() -> Iterator[str]:
    """The word of a model that takes images whose sides are multiples of four."""
    FAMILIES.add(_Picky, "built-in")
    yield "picky:fours/linear@32"
    FAMILIES._entries.pop("picky")
