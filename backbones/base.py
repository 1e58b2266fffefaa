"""The contract of backbones and heads.

A *backbone* turns images into maps, shallow to deep; its *family* (timm, SMP, a plugin) knows which names and output
strides it can build. A *head* turns those maps into class logits. A *network* is the two together and gives
`NetworkMaps`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)
"""The output strides the harness knows."""


@dataclass(frozen=True)
class NetworkMaps:
    """Outputs of a network for a batch of images, not upsampled.

    Attributes:
        logits: (B, K, h, w), class scores at head resolution.
        last: (B, C, h, w), the input of the classifier.
        features: backbone maps, shallow to deep, each (B, C_i, h_i, w_i).
    """

    logits: Tensor
    last: Tensor
    features: tuple[Tensor, ...]


@dataclass(frozen=True)
class Weights:
    """Source of a backbone's initial weights.

    Attributes:
        source: "random", "imagenet" (timm's or SMP's hub, or a local folder), or "file".
        file: the safetensors file for "file"; for "imagenet" the file found in a weights folder, if any.
    """

    source: str = "random"
    file: Path | None = None


class Backbone(nn.Module, ABC):
    """An encoder built at one output stride.

    Attributes:
        channels: channels of each map, shallow to deep.
        strides: stride of each map; the last is the output stride.
        dilation: how the output stride was achieved, for the record: "timm output_stride", "smp make_dilated", ...
        mean, std: normalisation of the input, per RGB channel, for images in [0, 1].
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """Backbone maps of (B, 3, H, W) images, shallow to deep."""


class BackboneFamily(ABC):
    """A source of encoders, named before the colon of a model: `timm:mobilenetv2_100`."""

    name: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def encoders(self) -> Sequence[str]:
        """Names of encoders that it can build at some stride, sorted."""

    @abstractmethod
    def unsupported_reason(self, encoder: str, stride: int) -> str | None:
        """Why `encoder` cannot be built at `stride`, in one sentence; None if it can."""

    @abstractmethod
    def build(self, encoder: str, stride: int, weights: Weights) -> Backbone:
        """The encoder at that output stride.

        Raises:
            ValueError: unknown encoder, unsupported stride, or missing weights (never replaced by random ones).
        """


class Head(nn.Module, ABC):
    """From backbone maps to class logits.

    Attributes:
        stride: stride of the logits.
        last_channels: channels of the classifier's input.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    stride: int
    last_channels: int

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__()

    @classmethod
    def unsupported_reason(cls, strides: Sequence[int]) -> str | None:
        """Why the head cannot be used with maps of these strides; None if it can."""
        return None

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(logits, last): (B, K, h, w) and (B, C, h, w), at the head's resolution."""


class Network(nn.Module):
    """A backbone and a head. Returns `NetworkMaps`, not upsampled."""

    def __init__(self, backbone: Backbone, head: Head, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.classes = classes

    def forward(self, images: Tensor) -> NetworkMaps:
        features = self.backbone(images)
        logits, last = self.head(features)
        return NetworkMaps(logits=logits, last=last, features=tuple(features))
