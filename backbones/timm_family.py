"""Encoders from timm, with its own `features_only` and `output_stride`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar

import timm
import torch
from torch import Tensor, nn

from backbones.base import Backbone, BackboneFamily, Weights
from backbones.padding import cut, padded
from backbones.probe import PROBE, map_sizes, on_meta
from backbones.weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    build_from_file,
    hub,
    no_hub,
    quiet,
    unknown,
)

MULTIPLES = (1, 2, 4, 8, 14, 16, 32)
"""Of what the sides of an image may have to be a multiple: of a patch."""


class TimmBackbone(Backbone):
    """A timm encoder; maps are (B, C, h, w), also where timm returns (B, h, w, C).

    Args:
        multiple: the sides of its input must be multiples of this; others are padded, and the maps cut again.
    """

    def __init__(self, model: nn.Module, encoder: str, multiple: int = 1) -> None:
        super().__init__()
        self.model, self.multiple = model, multiple
        config = timm.get_pretrained_cfg(encoder, allow_unregistered=True)
        self.mean = _triple(getattr(config, "mean", None), IMAGENET_MEAN)
        self.std = _triple(getattr(config, "std", None), IMAGENET_STD)
        self._last_axis = str(getattr(model, "output_fmt", "")).endswith("NHWC")

    def forward(self, images: Tensor) -> list[Tensor]:
        shown = padded(images, self.multiple)
        maps: list[Tensor] = self.model(shown)
        maps = [x.permute(0, 3, 1, 2).contiguous() for x in maps] if self._last_axis else list(maps)
        return [cut(x, images, shown) for x in maps]


def _triple(value: Any, default: tuple[float, float, float]) -> tuple[float, float, float]:
    if value is None or len(value) != 3:
        return default
    return float(value[0]), float(value[1]), float(value[2])


def _options(stride: int) -> list[tuple[dict[str, Any], str]]:
    """Ways to build an encoder at a stride, best first, each with its name for the record."""
    dilated = [({"output_stride": stride}, "timm output_stride")] if stride != 32 else []
    return [
        *dilated,
        ({}, "native"),
        ({"strict_img_size": False}, "native, any image size"),
        ({"dynamic_img_size": True}, "native, any image size"),
    ]


def _create(encoder: str, **options: Any) -> nn.Module:
    with quiet():
        model: nn.Module = timm.create_model(encoder, features_only=True, **options)
    return model


@dataclass(frozen=True)
class Way:
    """How to build an encoder at a stride: options of timm, their name for the record, what comes of it."""

    options: dict[str, Any]
    path: str
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    multiple: int


@lru_cache(maxsize=4096)
def probe(encoder: str, stride: int) -> Way | str:
    """How to build an encoder at a stride, or the reason why it cannot be built.

    Determined by building it on the meta device, not from a list.
    """
    first: Exception | None = None
    native = 0
    for options, path in _options(stride):
        try:
            backbone = on_meta(lambda: TimmBackbone(_create(encoder, **options).eval(), encoder))  # noqa: B023
            channels, strides = map_sizes(backbone)
        except Exception as error:  # any exception of timm is the reason
            first = first or error
            continue
        if strides[-1] == stride:
            return Way(options, path, channels, strides, _multiple(backbone))
        native = strides[-1]
        if not options:
            break
    return _reason(encoder, stride, native, first)


def _multiple(backbone: Backbone) -> int:
    """Of what the sides of an image must be a multiple, found on the meta device with a size that is no patch's.

    Encoders without patches take any size.
    """
    if not any("patch_embed" in name for name, _ in backbone.named_modules()):
        return 1
    for multiple in MULTIPLES:
        try:
            with torch.no_grad():
                backbone(padded(torch.empty(1, 3, _ODD, _ODD, device="meta"), multiple))
        except Exception:  # whatever timm raises means: not this size
            continue
        return multiple
    return 1


_ODD = PROBE - 27


def _reason(encoder: str, stride: int, native: int, error: Exception | None) -> str:
    if native:
        if native < stride:
            why = "is finer than that"
        elif isinstance(error, TypeError):
            why = "accepts no output stride in timm"
        else:
            why = "cannot be dilated that far by timm"
        return f"timm:{encoder} {why}: its last map has stride {native}, not {stride}"
    cause = " ".join(str(error).split())[:160] if error and str(error) else type(error).__name__
    return f"timm:{encoder} has no maps at stride {stride}: {cause}"


class TimmFamily(BackboneFamily):
    """timm's encoders, more than a thousand. Strides below 32 are built by timm's `output_stride`."""

    name: ClassVar[str] = "timm"
    summary: ClassVar[str] = "any timm encoder with feature maps; strides by timm's output_stride"

    def encoders(self) -> Sequence[str]:
        """All names of timm. `unsupported_reason` tells quickly which strides an encoder supports."""
        return sorted(timm.list_models())

    def unsupported_reason(self, encoder: str, stride: int) -> str | None:
        if not timm.is_model(encoder):
            return unknown(encoder, "timm", timm.list_models())
        found = probe(encoder, stride)
        return found if isinstance(found, str) else None

    def build(self, encoder: str, stride: int, weights: Weights) -> Backbone:
        reason = self.unsupported_reason(encoder, stride)
        found = probe(encoder, stride) if reason is None else reason
        if isinstance(found, str):
            raise ValueError(found)
        backbone = TimmBackbone(_weighted(encoder, found.options, weights), encoder, found.multiple)
        backbone.channels, backbone.strides, backbone.dilation = found.channels, found.strides, found.path
        return backbone


def _weighted(encoder: str, options: dict[str, Any], weights: Weights) -> nn.Module:
    """The encoder with its initial weights loaded."""
    if weights.source == "random":
        return _create(encoder, pretrained=False, **options)
    if weights.file is None and weights.source == "file":
        raise ValueError(f"timm:{encoder}: weights from a file were asked for, but no file was named")
    if weights.file is None:
        try:
            with hub():
                return _create(encoder, pretrained=True, **options)
        except Exception as error:
            raise no_hub(encoder, error) from error
    known = on_meta(lambda: timm.create_model(encoder)).state_dict()
    create = partial(_create, encoder, pretrained=True, **options)
    return build_from_file(create, weights.file, known, f"timm:{encoder}")
